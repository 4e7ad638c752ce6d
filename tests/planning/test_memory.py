"""What is predicted to be held against what is really held, counted by storages."""

from itertools import product

import pytest
import torch
from covering import pairwise
from memory_bodies import Execution, held_by_executor, held_when_run_again, layers_of, watched_peak

from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.training import Adam, AdamW, Sgd
from pipemlp.planning.activation_peaks import activation_peaks
from pipemlp.planning.costs import run_kept_bytes
from pipemlp.planning.exchange import exchange_of
from pipemlp.planning.memory import CONTEXT_BYTES, MemoryEstimate, estimate_memory
from pipemlp.schedule.simulate import simulate

ROWS = 32
ACTIVATIONS = {"plain": "relu", "residual": "gelu", "gated": "silu"}
CASES = pairwise(
    {
        "block": ("plain", "residual", "gated"),
        "norm": ("none", "layer", "rms"),
        "dropout": (0.0, 0.2),
        "recompute": (0, 1, 2, 3, "elementwise"),
        "cardinalities": ((), (9, 40)),
    }
)
OPTIMIZERS = {"sgd": Sgd(), "sgd-momentum": Sgd(momentum=0.9), "adam": Adam(), "adamw": AdamW()}
MODELS = {
    "relu": {"block": "plain", "activation": "relu"},
    "gelu": {"block": "residual", "activation": "gelu", "norm": "layer"},
    "gated": {"block": "gated", "activation": "silu", "norm": "rms"},
}
ORDERS = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v", "zb-auto")
LAYERS_PER_STAGE = 4
EXACT = 0.01
"""The issue asks for 5 %; what is left out are scalars."""


@pytest.fixture
def one_thread():
    """Small tensors: several threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def estimate(runs, peak_bytes: float, **changes) -> MemoryEstimate:
    settings = {
        "micro_batch_rows": ROWS,
        "num_micro_batches": 4,
        "optimizer": "adamw",
        "precision": "fp32",
        "zero_stage": 0,
        "num_replicas": 1,
        "recompute": 0,
    }
    return estimate_memory(runs, peak_bytes=peak_bytes, **(settings | changes))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_activations_are_within_ten_percent_on_every_stage(case):
    case = dict(case)
    recompute, cardinalities = case.pop("recompute"), case.pop("cardinalities")
    model = {"hidden": [64, 64, 80, 80, 64, 64], "activation": ACTIVATIONS[case["block"]], **case}
    layers = layers_of(model, cardinalities)
    for stage, part in enumerate((layers[:3], layers[3:6], layers[6:])):
        for in_flight in (1, 3):
            held = held_when_run_again(part, in_flight, ROWS, recompute)
            peak = in_flight * run_kept_bytes(part, ROWS, 4, recompute)
            expected = estimate([part], peak, recompute=recompute).activation_bytes
            assert expected == pytest.approx(held, rel=0.1), (stage, in_flight)


def execution(order: str, stages: int, model: str, recompute, dropout: float, cardinalities, **changes) -> Execution:
    hidden = {"width": 48, "depth": LAYERS_PER_STAGE * stages - 2}
    return Execution(
        {"hidden": hidden, "dropout": dropout, **MODELS[model]},
        order,
        stages,
        recompute=recompute,
        cardinalities=cardinalities,
        **changes,
    )


VARIANTS = list(product(MODELS, (0, 2, "elementwise")))
COVER = [
    execution(order, stages, *VARIANTS[index % 9], (0.0, 0.2)[index // 2 % 2], ((), (9, 40))[index // 3 % 2])
    for index, (order, stages) in enumerate(product(ORDERS, (2, 4)))
]
COVER.append(execution("zb-h1", 2, "gated", 0, 0.2, (), precision="bf16", zero_stage=1))
FULL = [
    execution(order, stages, *variant, dropout, columns)
    for order, stages, variant, dropout, columns in product(ORDERS, (2, 4), VARIANTS, (0.0, 0.2), ((), (9, 40)))
]


def execution_id(case: Execution) -> str:
    parts = [case.order, str(case.stages), case.model["block"], f"recompute-{case.recompute}", case.precision]
    return "-".join(parts + ["dropout"] * (case.model["dropout"] > 0) + ["embedded"] * bool(case.cardinalities))


@pytest.mark.parametrize("case", COVER, ids=execution_id)
def test_the_peak_between_actions_is_the_simulators(case, run_on_ranks):
    check_peaks(case, run_on_ranks)


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids=execution_id)
def test_the_peak_between_actions_is_the_simulators_full_product(case, run_on_ranks):
    check_peaks(case, run_on_ranks)


def check_peaks(case: Execution, run_on_ranks) -> None:
    plan = case.plan()
    held = run_on_ranks(case.stages, held_by_executor, case)
    for stage, (one, expected) in enumerate(zip(held, simulate(plan.schedule, plan.costs).peak_bytes, strict=True)):
        assert one.between == pytest.approx(expected, rel=EXACT), f"stage {stage}"


def engine_against_estimate(
    run_on_ranks, optimizer: str, precision: str = "fp32", zero_stage: int = 0, replicas: int = 1
):
    """(held, estimate) of each of two ranks."""
    model = {"hidden": {"width": 64, "depth": 8}, "block": "residual", "norm": "layer", "activation": "gelu"}
    settings = {"zero_stage": zero_stage, "precision": precision, "micro_batches": 4}
    case = Execution(model, "1f1b", 2 // replicas, replicas=replicas, **settings)
    plan, layers = case.plan(), case.layers()
    held = run_on_ranks(2, held_by_executor, case, OPTIMIZERS[optimizer])
    peaks = simulate(plan.schedule, plan.costs).peak_bytes
    changes = {"optimizer": optimizer, "precision": precision, "zero_stage": zero_stage, "num_replicas": replicas}
    expected = [
        estimate([plan.layers_of(s, layers)], peak, micro_batch_rows=case.rows, num_micro_batches=4, **changes)
        for s, peak in enumerate(peaks)
    ]
    return list(zip(held, expected * replicas, strict=True))


def check_states_and_activations(held, expected: MemoryEstimate, rel: float = EXACT) -> None:
    assert held.parameters == expected.parameter_bytes
    assert held.optimizer == expected.optimizer_bytes
    assert expected.activation_bytes == pytest.approx(held.between, rel=rel)
    assert expected.activation_bytes <= held.within < 1.1 * (expected.activation_bytes + expected.buffer_bytes)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_states_and_activations_of_the_engine(optimizer, run_on_ranks):
    for held, expected in engine_against_estimate(run_on_ranks, optimizer):
        check_states_and_activations(held, expected)
        assert held.gradients == expected.gradient_bytes


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_and_activations_of_the_engine_with_zero_1(precision, replicas, run_on_ranks):
    for held, expected in engine_against_estimate(run_on_ranks, "adam", precision, 1, replicas):
        check_states_and_activations(held, expected, rel=2 * EXACT)  # norms of bf16 have smaller statistics on a CPU
        # with ZeRO 1 in float32 the step copies the shard of the sums, an item of its own
        assert held.gradients == expected.gradient_bytes


TOTALS = pairwise(
    {
        "model": tuple(MODELS),
        "order": ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v"),
        "sizes": ((16, 128), (128, 48)),
        "recompute": (0, 2, "elementwise"),
        "dropout": (0.0, 0.2),
        "numbers": (("fp32", 0), ("fp32", 1), ("bf16", 1)),
        "grid": ((2, 1), (1, 2)),
        "optimizer": ("sgd-momentum", "adam", "adamw", "sgd-nesterov"),
        "cardinalities": ((), (9, 40)),
    },
    seed=1,
)
WITH_DECAY = OPTIMIZERS | {
    "sgd-momentum": Sgd(momentum=0.9, weight_decay=0.01),
    "sgd-nesterov": Sgd(momentum=0.9, nesterov=True),
}


def total_estimates(case: Execution, optimizer: str, *, weight_decay: bool) -> list[MemoryEstimate]:
    plan, layers = case.plan(), case.layers()
    peaks = simulate(plan.schedule, plan.costs).peak_bytes
    around = activation_peaks(plan.schedule, plan.costs)
    return [
        estimate(
            [plan.layers_of(virtual_stage, layers) for virtual_stage in plan.schedule.virtual_stages_of(stage)],
            peaks[stage],
            peaks=around[stage],
            micro_batch_rows=case.rows,
            num_micro_batches=case.micro_batches,
            optimizer=optimizer,
            weight_decay=weight_decay,
            precision=case.precision,
            zero_stage=case.zero_stage,
            num_replicas=case.replicas,
            recompute=case.recompute,
            exchange=exchange_of(case.gradients, layers),
        )
        for stage in range(case.stages)
    ]


@pytest.mark.parametrize("case", TOTALS, ids=lambda case: "-".join(map(str, case.values())))
def test_the_total_is_within_five_percent_of_what_a_step_holds(case, run_on_ranks):
    (rows, width), (precision, zero_stage), (stages, replicas) = case["sizes"], case["numbers"], case["grid"]
    execution = Execution(
        {"hidden": {"width": width, "depth": 8}, "dropout": case["dropout"], **MODELS[case["model"]]},
        case["order"],
        stages,
        micro_batches=4,
        rows=rows,
        recompute=case["recompute"],
        cardinalities=case["cardinalities"],
        replicas=replicas,
        zero_stage=zero_stage,
        precision=precision,
    )
    optimizer = WITH_DECAY[case["optimizer"]]
    held = run_on_ranks(stages * replicas, watched_peak, execution, optimizer, 1.0)
    decays = optimizer.weight_decay > 0
    for rank, expected in enumerate(total_estimates(execution, case["optimizer"], weight_decay=decays)):
        for replica in range(replicas):
            assert expected.total_bytes == pytest.approx(held[rank * replicas + replica], rel=0.05), expected


def test_the_items_add_up_to_the_total():
    part = estimate([layers_of({"hidden": [64, 64]})], 1000.0)
    items = part.items()
    assert list(items) == [
        "parameter",
        "gradient",
        "optimizer",
        "activation",
        "transfer",
        "buffer",
        "step",
        "margin",
        "exchange",
    ]
    assert part.total_bytes == part.counted_bytes == sum(items.values())
    assert [name for name, size in items.items() if not size] == ["transfer", "margin", "exchange"]


def test_what_is_missing_adds_up_to_the_excess_item_by_item():
    part = estimate([layers_of({"hidden": [64, 64]})], 1000.0)
    cap = part.parameter_bytes + 10
    missing = part.missing(cap)
    assert {name: size for name, (size, _) in missing.items()} == {k: v for k, v in part.items().items() if v}
    assert missing["parameter"][1] == 0 and missing["gradient"][1] == part.gradient_bytes - 10
    assert sum(lacking for _, lacking in missing.values()) == part.total_bytes - cap
    assert all(lacking == 0 for _, lacking in part.missing(part.total_bytes).values())


def test_replicas_share_the_optimizers_state_and_its_step():
    layers = layers_of({"hidden": [64, 64]})
    one, four = (estimate([layers], 0.0, zero_stage=1, num_replicas=replicas) for replicas in (1, 4))
    assert four.optimizer_bytes == one.optimizer_bytes // 4
    assert four.gradient_bytes == one.gradient_bytes
    assert four.step_bytes < one.step_bytes


def test_room_that_activations_leave_serves_the_step():
    layers = layers_of({"hidden": [64, 64]})
    few, many = (estimate([layers], peak) for peak in (0.0, 1e6))
    assert few.step_bytes > 0 == many.step_bytes
    assert few.total_bytes < many.total_bytes


def test_a_gpu_has_a_margin_that_no_tensor_holds():
    layers = layers_of({"hidden": [64, 64]})
    on_gpu = estimate([layers], 1e6, on_gpu=True)
    assert on_gpu.margin_bytes > CONTEXT_BYTES + 1e5
    assert on_gpu.counted_bytes == on_gpu.total_bytes - on_gpu.margin_bytes


def test_the_batch_counts_where_it_is_read():
    layers = layers_of({"hidden": [64, 64]}, (9, 40))

    def growth(part) -> int:
        """With the rows of the batch, at the same rows of a micro-batch."""
        one, two = (estimate([part], 1e6, num_micro_batches=count).buffer_bytes for count in (4, 8))
        return two - one

    num_rows = 2 * 4 * ROWS  # the next batch is read ahead
    assert growth(layers[:2]) == num_rows * (48 * 4 + 2 * 8)
    assert growth(layers[1:3]) == 0
    assert growth(layers[2:]) == num_rows * (40 * 4 + 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"pattern": "ring"},
        {"pattern": "fully-connected"},
        {"compression": "powersgd"},
        {"pattern": "fully-connected", "compression": "int8"},
        {"pattern": "parameter-server"},
        {"pattern": "parameter-server", "compression": "topk"},
        {"pattern": "parameter-server", "update": "asynchronous"},
        {"update": {"name": "local", "local_steps": 2}},
        {"update": {"name": "local", "local_steps": 2, "outer_momentum": 0.9}, "compression": "bf16"},
    ],
    ids=lambda settings: " ".join(
        str(value.get("name") if isinstance(value, dict) else value) for value in settings.values()
    ),
)
def test_what_an_exchange_keeps_is_counted(settings, run_on_ranks):
    gradients = GradientsConfig.model_validate(settings)
    execution = Execution(
        {"hidden": {"width": 512, "depth": 4}}, "1f1b", 1, micro_batches=2, rows=16, replicas=2, gradients=gradients
    )
    held = run_on_ranks(2, watched_peak, execution, AdamW(), None)
    (expected,) = total_estimates(execution, "adamw", weight_decay=True)
    for each in held:
        if settings.get("update") == "asynchronous":
            # what the server beside the worker has in hand at the worker's peak, pushes and answers, depends on when
            # they come: up to a whole gradient more or less; the estimate is for when all come at once
            gradient_bytes = expected.gradient_bytes
            assert expected.total_bytes - 1.5 * gradient_bytes <= each <= 1.05 * expected.total_bytes, expected
        else:
            assert expected.total_bytes == pytest.approx(each, rel=0.05), expected
