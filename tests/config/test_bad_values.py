"""Every mistake that the configuration alone can know, with the whole message."""

import pytest

HIDDEN = "{width, depth} or a list of whole numbers or {width, repeat, block, activation, norm, dropout}"
SECTIONS = (
    "run, data, model, loss, training, optimizer, lr_schedule, precision, parallel, gradients, evaluation, checkpoint, "
    "fault, logging"
)
OWN = "; your own are registered by --plugin MODULE"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # unknown, misspelt, misplaced, duplicate, missing keys
        ("modle: {}", "modle: unknown key; did you mean model?"),
        ("zzz: {pattern: x}", f"zzz: unknown key; a config has {SECTIONS}"),
        ("scheduler: cosine", "scheduler: unknown key; did you mean lr_schedule?"),
        ("parallel: {stagse: 2}", "parallel.stagse: unknown key; did you mean parallel.stages?"),
        ("training: {lr: 1e-3}", "training.lr: unknown key; did you mean optimizer.lr?"),
        ("training: {stages: 2}", "training.stages: unknown key; did you mean parallel.stages?"),
        ("training: {batch_size: 2}", "training.batch_size: unknown key; did you mean training.global_batch_size?"),
        ("training: {learning_rate: 2}", "training.learning_rate: unknown key; did you mean optimizer.lr?"),
        ("optimizer: {learning_rate: 2}", "optimizer.learning_rate: unknown key; did you mean optimizer.lr?"),
        ("lr: 1e-3", "lr: unknown key; did you mean optimizer.lr?"),
        ("fault: {zzz: 2}", "fault.zzz: unknown key; fault has timeout_seconds, restarts, nonfinite, unsaved, "
         "compare_replicas_every_steps"),
        (
            "fault: {every_steps: 2}",
            "fault.every_steps: unknown key; fault has timeout_seconds, restarts, nonfinite, unsaved, "
            "compare_replicas_every_steps (every_steps exists in lr_schedule, evaluation, checkpoint and logging)",
        ),
        ("loss: {name: mse, delta: 1}", "loss.delta: unknown key; mse has no delta, huber has"),
        ("loss: {name: mse, zzz: 1}", "loss.zzz: unknown key; mse has no options"),
        ("optimizer: {momentum: 0.9}", "optimizer.momentum: unknown key; adamw has no momentum, sgd has"),
        ("optimizer: {lrr: 0.9}", "optimizer.lrr: unknown key; did you mean optimizer.lr?"),
        ("optimizer: {zzz: 1}", "optimizer.zzz: unknown key; adamw has lr, betas, eps, weight_decay"),
        ("loss: {delta: 1}", "loss.name: missing key; known names are mse, mae, huber, cross_entropy, "
         "binary_cross_entropy"),
        ("model: {hidden: [8]}", "model: key set twice; first on line 2"),
        # wrong types
        ('training: {epochs: "8"}', 'training.epochs: "8" is text; a whole number is expected; write 8'),
        ("training: {epochs: 1_000}", 'training.epochs: "1_000" is text; a whole number is expected; write 1000'),
        ("training: {epochs: many}", 'training.epochs: "many" is text; a whole number is expected'),
        ("training: {epochs: true}", "training.epochs: true is a truth value; a whole number is expected"),
        ("training: {epochs: 2.5}", "training.epochs: 2.5 is written with a fraction; a whole number is expected; "
         "the nearest are 2 and 3"),
        ("training: {steps: 2e5}", "training.steps: 200000.0 is written with a fraction; a whole number is expected; "
         "write 200000"),
        ("training: {epochs: [1]}", "training.epochs: a list is given; a whole number is expected"),
        ("training: {global_batch_size: null}", "training.global_batch_size: nothing is given; a whole number is "
         "expected"),
        ("optimizer: {lr: true}", "optimizer.lr: true is a truth value; a number is expected"),
        ("optimizer: {lr: 1e-3x}", 'optimizer.lr: "1e-3x" is text; a number is expected'),
        ("optimizer: {name: sgd, nesterov: yes}", 'optimizer.nesterov: "yes" is text; true or false is expected; '
         "write true"),
        ("optimizer: {name: sgd, nesterov: 1}", "optimizer.nesterov: 1 is a whole number; true or false is expected"),
        ("run: {dir: 3}", "run.dir: 3 is a whole number; text is expected"),
        ("training:", "training: nothing is given; a mapping is expected, with some of the keys epochs, steps, "
         "global_batch_size, clip_norm, early_stopping"),
        ("training: {early_stopping: 3}", "training.early_stopping: 3 is a whole number; a mapping is expected, with "
         "some of the keys metric, patience, min_delta"),
        ("parallel: automatic", 'parallel: "automatic" is text; auto or {stages, virtual_stages, data_parallel, '
         "micro_batches, schedule, partition, zero_stage, recompute} is expected; did you mean auto?"),
        ("evaluation: {metrics: rmse}", 'evaluation.metrics: "rmse" is text; auto or a list of names is expected'),
        ("evaluation: {metrics: [1]}", "evaluation.metrics[0]: 1 is a whole number; text is expected"),
        ("optimizer: {betas: 0.9}", "optimizer.betas: 0.9 is written with a fraction; a list of 2 numbers is expected"),
        ("optimizer: {betas: [0.9]}", "optimizer.betas: a list of 1 value is given; a list of 2 numbers is expected"),
        ("optimizer: {betas: [0.9, 0.9, 0.9]}", "optimizer.betas: a list of 3 values is given; at most 2"),
        # NaN, infinite, negative, zero, out of range
        ("optimizer: {lr: .nan}", "optimizer.lr: nan is not a finite number"),
        ("optimizer: {lr: -.inf}", "optimizer.lr: -inf is not a finite number"),
        ("optimizer: {lr: 1e999}", "optimizer.lr: inf is not a finite number"),
        ("optimizer: {lr: 0}", "optimizer.lr: 0 is too small; it must be above 0"),
        ("optimizer: {lr: -1e-3}", "optimizer.lr: -0.001 is too small; it must be above 0"),
        ("optimizer: {weight_decay: -1}", "optimizer.weight_decay: -1 is too small; at least 0"),
        ("optimizer: {betas: [0.9, 1.0]}", "optimizer.betas[1]: 1.0 is too large; it must be below 1"),
        ("lr_schedule: {name: one-cycle, initial_fraction: 2}", "lr_schedule.initial_fraction: 2 is too large; at "
         "most 1"),
        ("training: {epochs: 0}", "training.epochs: 0 is too small; at least 1"),
        ("training: {epochs: .nan}", "training.epochs: nan is not a finite number"),
        ("training: {clip_norm: 0.0}", "training.clip_norm: 0.0 is too small; it must be above 0"),
        ("run: {seed: -1}", "run.seed: -1 is too small; at least 0"),
        ("run: {name: a b}", 'run.name: "a b" is not allowed: letters, digits, dots, dashes and underscores'),
        ("loss: {name: cross_entropy, class_weights: [1]}", "loss.class_weights: a list of 1 value is given; at "
         "least 2"),
        ("loss: {name: cross_entropy, class_weights: [1, -2]}", "loss.class_weights[1]: -2 is too small; at least 0"),
        ("parallel: {stages: 0}", "parallel.stages: 0 is too small; at least 1"),
        ("parallel: {micro_batches: 0}", "parallel.micro_batches: 0 is too small; at least 1"),
        ("parallel: {recompute: 0}", "parallel.recompute: 0 is too small; at least 1"),
        ("parallel: {virtual_stages: 0}", "parallel.virtual_stages: 0 is too small; at least 1"),
        ("logging: {timeline_every_steps: -1}", "logging.timeline_every_steps: -1 is too small; at least 0"),
        ("parallel: {partition: [0, -1]}", "parallel.partition[1]: -1 is too small; at least 0"),
        ("gradients: {update: {name: local, local_steps: 0}}", "gradients.update.local_steps: 0 is too small; at "
         "least 1"),
        ("gradients: {update: {name: local, outer_momentum: 1.0}}", "gradients.update.outer_momentum: 1.0 is too "
         "large; it must be below 1"),
        ("gradients: {update: {name: asynchronous, max_staleness: -1}}", "gradients.update.max_staleness: -1 is too "
         "small; at least 0"),
        ("gradients: {compression: {name: topk, ratio: 0}}", "gradients.compression.ratio: 0 is too small; it must "
         "be above 0"),
        ("gradients: {compression: {name: topk, ratio: 1.5}}", "gradients.compression.ratio: 1.5 is too large; at "
         "most 1"),
        ("gradients: {compression: {name: powersgd, rank: 0}}", "gradients.compression.rank: 0 is too small; at "
         "least 1"),
        ("gradients: {compression: {name: int8, rank: 4}}", "gradients.compression.rank: unknown key; int8 has no "
         "rank, powersgd has"),
        ("gradients: {pattern: parameter_server}", 'gradients.pattern: "parameter_server" is not one of backend, ring, '
         "tree, fully-connected, parameter-server; did you mean parameter-server?"),
        ("gradients: {update: asynchronos}", 'gradients.update: unknown update "asynchronos"; did you mean '
         "asynchronous?"),
        ("gradients: {max_staleness: 3}", "gradients.max_staleness: unknown key; did you mean "
         "gradients.update.max_staleness?"),
        # choices
        ("loss: mes", 'loss: unknown loss "mes"; did you mean mse?'),
        (
            "loss: zzz",
            'loss: unknown loss "zzz"; known are auto, mse, mae, huber, cross_entropy, binary_cross_entropy' + OWN,
        ),
        ("loss: {name: auto}", 'loss.name: unknown loss "auto"; known are mse, mae, huber, cross_entropy, '
         "binary_cross_entropy" + OWN),
        ("loss: bce", 'loss: unknown loss "bce"; did you mean binary_cross_entropy?'),
        ("optimizer: {name: adamv}", 'optimizer.name: unknown optimizer "adamv"; did you mean adam?'),
        ("optimizer: auto", 'optimizer: unknown optimizer "auto"; known are sgd, adam, adamw'),
        ("optimizer: {name: 3}", "optimizer.name: 3 is a whole number; a name is expected"),
        ("optimizer: [adam]", "optimizer: a list is given; a name (sgd, adam, adamw) or {name: ..., option: ...} is "
         "expected"),
        ("lr_schedule: zzz", 'lr_schedule: unknown learning-rate schedule "zzz"; known are constant, linear, cosine, '
         "one-cycle, step"),
        ("run: {device: gpu}", 'run.device: "gpu" is not one of auto, cpu, cuda; did you mean cuda?'),
        ("precision: 16", "precision: 16 is not one of fp32, bf16; did you mean bf16?"),
        ("parallel: {schedule: zbv}", "parallel.schedule: unknown schedule 'zbv'; did you mean zb-v?"),
        ("parallel: {schedule: 1F1B}", "parallel.schedule: unknown schedule '1F1B'; did you mean 1f1b?"),
        ("parallel: {schedule: my_order}", "parallel.schedule: unknown schedule 'my_order'; known are gpipe, 1f1b, "
         "interleaved-1f1b, zb-h1, zb-h2, interleaved-zb, zb-v, zb-auto, or a .csv file"),
        ("parallel: {schedule: 3}", "parallel.schedule: 3 is a whole number; text is expected"),
        ("parallel: {partition: even}", 'parallel.partition: "even" is text; parameters, uniform, balanced or a list '
         "of whole numbers is expected"),
        ("parallel: {partition: [0, x]}", 'parallel.partition[1]: "x" is text; a whole number is expected'),
        ("parallel: {recompute: elemntwise}", 'parallel.recompute: "elemntwise" is text; none, elementwise or a whole '
         "number is expected; did you mean elementwise?"),
        ("parallel: {recompute: true}", "parallel.recompute: true is a truth value; none, elementwise or a whole "
         "number is expected"),
        ("parallel: {micro_batches: aut}", 'parallel.micro_batches: "aut" is text; auto or a whole number is expected; '
         "did you mean auto?"),
        ("parallel: {zero_stage: true}", "parallel.zero_stage: true is not one of 0, 1"),
        ("parallel: {zero_stage: 1.0}", "parallel.zero_stage: 1.0 is not one of 0, 1"),
        ("parallel: {zero_stage: 4}", "parallel.zero_stage: 4 is not one of 0, 1"),
        # refused with the reason
        ("parallel: {zero_stage: 3}", "parallel.zero_stage: ZeRO 3 shards gradients as they are made, while a pipeline "
         "accumulates them over its micro-batches; DeepSpeed refuses the two together; use 0 or 1"),
        ("precision: fp16", "precision: fp16 is not offered: it needs loss scaling and overflows in deep MLPs; use "
         "bf16 or fp32"),
        # keys that do not go together
        ("training: {epochs: 2, steps: 3}", "training: epochs 2 and steps 3 are both given; keep one of them"),
        ("evaluation: {every_epochs: 2, every_steps: 3}", "evaluation: every_epochs and every_steps are both given; "
         "keep one of them"),
        ("optimizer: {name: sgd, nesterov: true}", "optimizer: nesterov needs momentum above 0, such as 0.9"),
    ],
)  # fmt: skip
def test_one_mistake_gives_one_line(refused, line, message):
    assert refused(line + "\n") == [f"a.yaml:3: {message}"]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("data: {source: digits}\n", ["a.yaml: model: missing section; it is required: the layers between the inputs "
                                      "and the outputs"]),
        ("data: {}\nmodel: {hidden: [8]}\n", ["a.yaml:1: data: give `source` (such as digits) or `path` (a file)"]),
        ("data: digits\nmodel: {hidden: 8}\n", [
            'a.yaml:1: data: "digits" is text; a mapping is expected, with some of the keys source, path, target, '
            "numeric, categorical, weight, split, split_seed, missing, unseen",
            f"a.yaml:2: model.hidden: 8 is a whole number; {HIDDEN} is expected",
        ]),
        ("data: {source: digit}\nmodel: {}\n", [
            'a.yaml:1: data.source: unknown source "digit"; did you mean digits?',
            "a.yaml:2: model.hidden: missing key; it is required: {width: 128, depth: 16}, a list of widths [512, 256],"
            " or a list of {width, repeat, block, ...}",
        ]),
        ("data: {source: digits, rows: 3, target: true}\nmodel: {hidden: {width: 0}}\n", [
            "a.yaml:1: data.target: a column name, a list of column names or `inputs` is expected",
            "a.yaml:1: data.rows: unknown key; did you mean data.source.rows?",
            "a.yaml:2: model.hidden.width: 0 is too small; at least 1",
            "a.yaml:2: model.hidden.depth: missing key; it is required: number of hidden layers",
        ]),
        ("data: {source: csv, path: {tran: a}, split: {validation: 0.5, test: 0.5}}\nmodel:\n  hidden:\n"
         "    - 64\n    - -1\n    - {width: x}\n    - {repeat: 2}\n    - 2.0\n    - {width: 8, block: gate}\n"
         "  norm: batch\n  activation: gelo\n  dropout: 1.0\n", [
             "a.yaml:1: data.path.train: missing key; it is required: training rows",
             "a.yaml:1: data.path.tran: unknown key; did you mean data.path.train?",
             "a.yaml:1: data.split: validation 0.5 + test 0.5 = 1 leaves no rows for training; keep the sum below 1",
             "a.yaml:5: model.hidden[1]: -1 is too small; at least 1",
             'a.yaml:6: model.hidden[2].width: "x" is text; a whole number is expected',
             "a.yaml:7: model.hidden[3].width: missing key; it is required: values per row that leave each layer",
             "a.yaml:8: model.hidden[4]: 2.0 is written with a fraction; a whole number or {width, repeat, block, "
             "activation, norm, dropout} is expected; write 2",
             'a.yaml:9: model.hidden[5].block: unknown block "gate"; did you mean gated?',
             "a.yaml:10: model.norm: batch norm is not offered: its statistics couple the rows of a micro-batch, so "
             "that the result would depend on parallel.micro_batches and data_parallel; use layer or rms",
             'a.yaml:11: model.activation: "gelo" is not one of relu, gelu, silu, tanh, leaky_relu, identity; did you '
             "mean gelu?",
             "a.yaml:12: model.dropout: 1.0 is too large; it must be below 1",
        ]),
        ("data: {source: {name: csv, delimiter: ab}, path: 3}\nmodel: {hidden: [8]}\n", [
            'a.yaml:1: data.source.delimiter: "ab" is too long; at most 1 character',
            "a.yaml:1: data.path: 3 is a whole number; text or {train, validation, test} is expected",
        ]),
    ],
)  # fmt: skip
def test_data_and_model(refused, text, messages):
    assert refused(text, base=False) == messages


def test_all_problems_in_one_report_in_the_order_of_the_file(refused):
    text = "parallel:\n  stages: 0\n  stages: 3\n  zero_stage: 2\ntraining: {lr: 1}\noptimizer: {lr: 0}\n"
    lines = refused(text, "run.seed=-1", "nonsense", "logging.every_steps=0")
    assert [line.split(": ")[:2] for line in lines] == [
        ["a.yaml:4", "parallel.stages"],
        ["a.yaml:5", "parallel.stages"],
        ["a.yaml:6", "parallel.zero_stage"],
        ["a.yaml:7", "training.lr"],
        ["a.yaml:8", "optimizer.lr"],
        ["command line", "nonsense"],
        ["command line", "run.seed"],
        ["command line", "logging.every_steps"],
    ]


def test_one_line_whatever_the_value_holds(refused):
    assert refused('loss: "a\\nb"\n"x\\ny": 1\n') == [
        'a.yaml:3: loss: unknown loss "a\\nb"; known are auto, mse, mae, huber, cross_entropy, binary_cross_entropy'
        + OWN,
        f'a.yaml:4: "x\\ny": unknown key; a config has {SECTIONS}',
    ]


def test_a_long_value_is_shortened(refused):
    (message,) = refused(f"loss: {'x' * 100}\n")
    assert message.startswith(f'a.yaml:3: loss: unknown loss "{"x" * 57}..."')
