"""What combines in the section `gradients`; what an exchange costs, in seconds and bytes; when another would pay."""

from dataclasses import replace

import pytest
import torch
from priced_layers import Source
from thread_links import ThreadLinks, World

from pipemlp.cli.plan_exchange import exchange_lines
from pipemlp.config.gradients import Bf16Compression, GradientsConfig
from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.root import RunConfig
from pipemlp.gradients.bucket import bucketed
from pipemlp.gradients.compression.making import make_codec
from pipemlp.gradients.compression.part_codec import part_codec
from pipemlp.gradients.pattern import make_pattern
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.exchange import Exchange, bus_bandwidth, exchange_of, pattern_seconds
from pipemlp.planning.exchange_advice import advice_on
from pipemlp.planning.exchange_rules import exchange_notes, exchange_problems
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.machine import Curve, Network, PatternTimes
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.shapes import DataShape
from pipemlp.planning.workload import Setting, workload_of

SHAPE = DataShape(num_numeric=64, cardinalities=(), output_width=10, task="classification", num_rows=(96, 0, 0))
PER_BYTE = Curve((0.0, 1e9), (1e-3, 1e-3 + 1.0))
NETWORK = Network(message=PER_BYTE, reduction=PER_BYTE)
COMPRESSIONS = ("none", "bf16", "int8", "topk", "onebit", "powersgd")
PATTERNS = ("backend", "ring", "tree", "fully-connected", "parameter-server")


def config(**sections: object) -> RunConfig:
    data = {"source": "digits"}
    sections.setdefault("parallel", {"data_parallel": 2})
    return RunConfig.model_validate({"data": data, "model": {"hidden": {"width": 128, "depth": 3}}, **sections})


def problems(**sections: object) -> list[tuple[str, str]]:
    found = config(**sections)
    return list(exchange_problems(found, describe_layers(found.model, SHAPE)))


def allowed(update: str, pattern: str, zero_stage: int, compression: str) -> bool:
    """The table of the documentation, written down once more."""
    if update == "synchronous":
        if compression == "none":
            return zero_stage == 0 or pattern != "parameter-server"
        direct = pattern in ("fully-connected", "parameter-server")
        return zero_stage == 0 and (compression in ("bf16", "powersgd") or direct)
    if zero_stage or (update == "asynchronous") != (pattern == "parameter-server"):
        return False
    return compression in (("none", "bf16", "int8", "topk", "onebit") if update == "asynchronous" else COMPRESSIONS[:3])


@pytest.mark.parametrize("update", ["synchronous", "asynchronous", "local"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("zero_stage", [0, 1])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_table_of_what_combines(update, pattern, zero_stage, compression):
    if update == "asynchronous" and zero_stage == 1 and pattern != "parameter-server":
        return  # refused for its pattern anyway
    found = problems(
        parallel={"data_parallel": 2, "zero_stage": zero_stage},
        gradients={"update": update, "pattern": pattern, "compression": compression},
    )
    assert (not found) == allowed(update, pattern, zero_stage, compression), found
    for _, message in found:
        assert "; use " in message or "; set " in message, "every refusal says what instead"


@pytest.mark.parametrize(
    ("gradients", "key", "message"),
    [
        (
            {"update": "asynchronous"},
            "gradients.pattern",
            "backend, but an asynchronous update needs someone who updates whenever a gradient comes; set "
            "gradients.pattern: parameter-server",
        ),
        (
            {"update": "local", "pattern": "parameter-server"},
            "gradients.pattern",
            "parameter-server, but with local updates every replica has an optimizer of its own; use backend, ring, "
            "tree or fully-connected",
        ),
        (
            {"compression": "int8", "pattern": "ring"},
            "gradients.compression",
            "int8 messages do not add up hop by hop, as ring adds them; set gradients.pattern: fully-connected or "
            "parameter-server, or use bf16 or powersgd",
        ),
        (
            {"compression": {"name": "powersgd", "rank": 11}},
            "gradients.compression.rank",
            "11, but layer 4's linear.weight is 10 x 128 and has rank 10 at most; use at most 10",
        ),
        (
            {
                "compression": {"name": "int8", "warmup_steps": 3},
                "update": "asynchronous",
                "pattern": "parameter-server",
            },
            "gradients.compression.warmup_steps",
            "an asynchronous server takes messages of one size only, from the first step on; leave it out",
        ),
    ],
)
def test_what_does_not_combine(gradients, key, message):
    assert problems(gradients=gradients) == [(key, message)]


def test_a_bound_of_zero_combines_as_synchronous_does():
    bound = {"update": {"name": "asynchronous", "max_staleness": 0}, "pattern": "parameter-server"}
    for compression in ({"name": "int8", "warmup_steps": 3}, "powersgd"):
        assert not problems(gradients={**bound, "compression": compression})


WIDE = {"hidden": {"width": 1024, "depth": 6}}


def advice(megabytes_per_second: float, zero_stage: int = 1, **gradients: object):
    """On two replicas of one stage that compute 21 seconds and have such a link; and the workload."""
    found = config(gradients=gradients, model=WIDE)
    workload = workload_of(found, tuple(describe_layers(found.model, SHAPE)))
    curve = Curve((0.0, 1e6), (0.0, 1 / megabytes_per_second))
    source = Source(inside=Network(message=curve, reduction=curve))
    setting = Setting(num_replicas=2, zero_stage=zero_stage)
    choice = Candidate(setting, lay_out(workload, setting, Known(source=source)), 1e12)
    return workload, advice_on(choice, workload, source.machine, found)


@pytest.mark.parametrize("zero_stage", [0, 1])
@pytest.mark.parametrize(
    "gradients",
    [
        {},
        {"pattern": "ring"},
        {"pattern": "parameter-server"},
        {"compression": "int8", "pattern": "fully-connected"},
        {"update": "local", "pattern": "tree"},
        {"update": "asynchronous", "pattern": "parameter-server"},
        {"update": {"name": "asynchronous", "max_staleness": 0}, "pattern": "parameter-server"},
    ],
    ids=str,
)
def test_only_what_combines_is_recommended(gradients, zero_stage):
    workload, advised = advice(1.0, zero_stage, **gradients)
    for way in (*advised.patterns, *advised.compressions):
        section = {key.removeprefix("gradients."): value for key, value in way.changes.items() if "zero" not in key}
        parallel = ParallelConfig(data_parallel=2, zero_stage=way.changes.get("parallel.zero_stage", zero_stage))
        changed = config(gradients={**gradients, **section}, model=WIDE)
        changed = changed.model_copy(update={"parallel": parallel})
        assert not list(exchange_problems(changed, workload.layers)), way
    assert bool(advised.patterns) == ("asynchronous" not in str(gradients)), "int8 may also go to parameter servers"
    assert bool(advised.compressions) == ("compression" not in gradients)


def test_the_advice_names_all_that_must_change():
    _, advised = advice(1.0)
    assert exchange_lines(advised)[-1].startswith(
        "  gradients.compression: powersgd, parallel.zero_stage: 0 would pay: at most "
    )
    by_name = {way.name: way.changes for way in (*advised.patterns, *advised.compressions)}
    assert by_name["int8"] == {
        "gradients.compression": "int8",
        "gradients.pattern": "fully-connected",
        "parallel.zero_stage": 0,
    }
    assert by_name["parameter-server"] == {"gradients.pattern": "parameter-server", "parallel.zero_stage": 0}
    assert by_name["ring"] == {"gradients.pattern": "ring"}
    assert exchange_lines(advice(1e6)[1])[-1].startswith("  no other pattern and no compression would save")


def test_bf16_runs_with_zero_1_and_is_compressed_all_the_same():
    parallel = {"data_parallel": 2, "zero_stage": 1}
    assert not problems(precision="bf16", parallel=parallel, gradients={"compression": "powersgd"})
    assert not problems(precision="bf16", parallel=parallel, gradients={"pattern": "parameter-server"})


def test_one_replica_has_nothing_to_exchange():
    assert not list(exchange_notes(config()))
    (note,) = exchange_notes(config(parallel={}, gradients={"pattern": "ring"}))
    assert note.startswith("gradients: nothing is exchanged with one replica")


@pytest.mark.parametrize(
    ("pattern", "turns", "times"),
    [("ring", 6, 1.5), ("tree", 4, 4.0), ("fully-connected", 2, 1.5), ("parameter-server", 2, 1.5)],
)
def test_seconds_by_alpha_and_beta(pattern, turns, times):
    assert pattern_seconds(NETWORK, pattern, 1e6, 4) == pytest.approx(turns * 1e-3 + times * 1e6 / 1e9)
    assert pattern_seconds(NETWORK, pattern, 1e6, 1) == 0


def test_a_measured_pattern_counts_for_as_many_replicas():
    measured = replace(NETWORK, patterns=(PatternTimes("ring", 4, Curve((0.0, 1e6), (1.0, 2.0))),))
    assert pattern_seconds(measured, "ring", 5e5, 4) == pytest.approx(1.5)
    assert pattern_seconds(measured, "ring", 5e5, 2) == pattern_seconds(NETWORK, "ring", 5e5, 2)


def test_bus_bandwidth_is_that_of_a_ring():
    assert bus_bandwidth(1e6, 4, 0.5) == 1.5e6 / 0.5


@pytest.mark.parametrize(
    ("compression", "least", "most"),
    [("none", 1, 1), ("bf16", 0.5, 0.52), ("int8", 0.25, 0.28), ("onebit", 0.03, 0.07), ("topk", 0.02, 0.06)],
)
def test_shares_of_bytes(compression, least, most):
    section = GradientsConfig.model_validate({"compression": compression, "pattern": "fully-connected"})
    layers = describe_layers(config().model, SHAPE)
    assert least <= exchange_of(section, layers).share(2) <= most


@pytest.mark.parametrize("num_replicas", [2, 4, 8])
@pytest.mark.parametrize("pattern", ["fully-connected", "parameter-server"])
@pytest.mark.parametrize(
    "settings", [{"name": "topk", "ratio": 0.01}, {"name": "topk", "ratio": 0.1}, "onebit", "int8"]
)
@pytest.mark.parametrize("width", [256, 1024])
def test_shares_are_those_of_the_codecs(width, settings, pattern, num_replicas):
    section = GradientsConfig.model_validate({"compression": settings, "pattern": pattern})
    model = {"hidden": {"width": width, "depth": 6}}
    layers = describe_layers(config(model=model).model, SHAPE)
    exchange, codec = exchange_of(section, layers), make_codec(section.compression)
    parameters = [torch.empty(p.shape, device="meta") for layer in layers for p in layer.parameters]
    there = back = 0
    for members in bucketed(parameters, 4, exchange.bucket_bytes):
        for index in range(num_replicas):
            part = part_codec(codec, [each.shape for each in members], num_replicas, index)
            there, back = there + part.num_bytes, back + part.for_sums(num_replicas).num_bytes
    plain = 4 * sum(each.numel() for each in parameters)
    sent = there / plain if pattern == "parameter-server" else (there + back) / 2 / plain
    # where borders go through a bucket, and thus how many cut a weight, is taken for the mean
    assert exchange.share(num_replicas) == pytest.approx(sent, rel=0.06 if settings == "onebit" else 0.005)


def test_powersgd_sends_two_narrow_matrices_per_weight():
    section = GradientsConfig.model_validate({"compression": {"name": "powersgd", "rank": 4}})
    layers = describe_layers(config().model, SHAPE)
    weights = [p.shape for layer in layers for p in layer.parameters if len(p.shape) == 2]
    sent = sum(4 * (rows + columns) for rows, columns in weights)
    others = sum(p.shape[0] for layer in layers for p in layer.parameters if len(p.shape) == 1)
    total = sum(layer.num_parameters for layer in layers)
    assert exchange_of(section, layers).share(2) == pytest.approx((sent + others) / total)
    served = exchange_of(section.model_copy(update={"pattern": "parameter-server"}), layers)
    assert served.share(2) == pytest.approx((2 * sent + others) / total), "servers sum factors, there and back"


def test_local_steps_share_an_exchange():
    section = GradientsConfig.model_validate({"update": {"name": "local", "local_steps": 10}, "pattern": "ring"})
    exchange = exchange_of(section, describe_layers(config().model, SHAPE))
    assert exchange.seconds(NETWORK, 1e6, 4) == pytest.approx(pattern_seconds(NETWORK, "ring", 1e6, 4) / 10)


@pytest.mark.parametrize(
    ("gradients", "values"),
    [
        ({}, 0),
        ({"update": "local"}, 2),
        ({"update": {"name": "local", "outer_momentum": 0.9}}, 3),
        ({"update": "asynchronous", "pattern": "parameter-server"}, 2.75),
    ],
)
def test_memory_is_counted(gradients, values):
    exchange = exchange_of(GradientsConfig.model_validate(gradients), describe_layers(config().model, SHAPE))
    assert exchange.memory_bytes(1000, 2) == 4 * values * 1000
    assert exchange.memory_bytes(1000, 1) == 0


@pytest.mark.parametrize("num_replicas", [2, 3, 8])
@pytest.mark.parametrize("pattern", ["ring", "tree", "fully-connected"])
@pytest.mark.parametrize("num_values", [1000, 2**20])
def test_rooms_for_what_arrives_are_those_of_the_patterns(pattern, num_values, num_replicas):
    """Of a bucket at most, on the replica with the most."""

    def body(links: ThreadLinks) -> int:
        make_pattern(pattern, links).sum(torch.zeros(num_values))
        return sum(room.nbytes for room in links._room.values())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipemlp.gradients.pattern.dist.get_backend", lambda group: "gloo")
        kept = max(World(num_replicas).run(body))
    # parts and segments are of whole values
    assert Exchange(pattern=pattern).memory_bytes(3 * num_values // 2, num_replicas) == pytest.approx(
        kept if num_values == 2**20 else 1.5 * kept, rel=0.02
    )


def test_only_plain_sums_may_be_sharded():
    assert Exchange().allows_zero_1 and Exchange(pattern="ring").allows_zero_1
    assert not Exchange(pattern="parameter-server").allows_zero_1
    assert not Exchange(settings=Bf16Compression()).allows_zero_1
    assert not Exchange(update="local").allows_zero_1
