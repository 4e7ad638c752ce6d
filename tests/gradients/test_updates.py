"""Every way to exchange gradients computes what one process does, or says how far it is from it."""

import pytest
import torch
from equality import Case, pipeline_trace, reference
from equality_check import AMPLIFIED, SINGLE, bounds_of, check
from update_bodies import gradients, local, local_in_one_process, partly_poisoned, steps, turns

GRIDS = [(1, 2), (2, 2), (1, 4), (1, 3)]
ADDING = ["ring", "tree", "fully-connected"]


def case(stages: int = 1, replicas: int = 2, **settings: object) -> Case:
    fields = {key: settings.pop(key) for key in list(settings) if key in Case.__dataclass_fields__}
    fields.setdefault("micro_batches", 2 if replicas != 3 else 1)
    return Case(stages=stages, replicas=replicas, gradients=gradients(**settings), **fields)


@pytest.mark.parametrize("pattern", ADDING)
@pytest.mark.parametrize(("stages", "replicas"), [(1, 2), (2, 2), (1, 4)])
def test_a_pattern_is_equal_to_one_process(pattern, stages, replicas, run_on_ranks):
    check(case(stages, replicas, pattern=pattern, ragged=True, dropout=0.3), run_on_ranks)


@pytest.mark.parametrize("pattern", ADDING)
def test_a_pattern_with_zero_1_clipping_and_split_backwards(pattern, run_on_ranks):
    check(case(2, 2, pattern=pattern, zero_stage=1, order="zb-h1", clip_norm=0.05, block="gated"), run_on_ranks)


@pytest.mark.parametrize("settings", [{"pattern": p} for p in ADDING] + [{"pattern": "parameter-server"}], ids=str)
def test_two_runs_are_bit_equal(settings, run_on_ranks):
    first, second = (run_on_ranks(4, steps, case(2, 2, **settings)) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert one.losses == two.losses
        assert all(torch.equal(value, two.parameters[name]) for name, value in one.parameters.items())


@pytest.mark.parametrize(("stages", "replicas"), [(1, 2), (2, 2), (1, 4)])
@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_parameter_server_is_equal_to_one_process(stages, replicas, clip_norm, optimizer, run_on_ranks):
    served = case(stages, replicas, pattern="parameter-server", ragged=True, clip_norm=clip_norm, optimizer=optimizer)
    close_to_one_process(served, run_on_ranks(stages * replicas, steps, served))


def close_to_one_process(served, told):
    expected = reference(served, served.dtype)
    bounds = bounds_of(served, expected)
    for each in told:
        torch.testing.assert_close(torch.tensor(each.losses), torch.tensor(expected.losses), rtol=0, atol=1e-6)
        for name, value in each.judged.items():
            torch.testing.assert_close(value, expected.parameters[name], rtol=0, atol=bounds["parameters"])
    outputs = torch.cat([each.outputs for each in told if each.outputs is not None])
    torch.testing.assert_close(outputs, expected.outputs, rtol=0, atol=bounds["outputs"])


def test_a_parameter_server_in_bf16_is_what_zero_1_computes(run_on_ranks):
    served = run_on_ranks(4, steps, case(2, 2, pattern="parameter-server", zero_stage=1), 3, "bf16")
    sharded = run_on_ranks(4, steps, case(2, 2, zero_stage=1), 3, "bf16")
    for one, two in zip(served, sharded, strict=True):
        # weights may be rounded to either of two neighbours where the sums are added in another order
        assert one.losses == pytest.approx(two.losses, abs=2**-8)
        for name, value in one.parameters.items():
            torch.testing.assert_close(value.float(), two.parameters[name].float(), rtol=2**-6, atol=2**-8)


@pytest.mark.parametrize(
    "settings",
    [
        {"pattern": "fully-connected", "compression": {"name": "topk", "ratio": 1.0}},
        {"pattern": "parameter-server", "compression": {"name": "topk", "ratio": 1.0}},
        {"pattern": "ring", "compression": {"name": "powersgd", "rank": 12, "warmup_steps": 100}},
        {"pattern": "fully-connected", "compression": {"name": "int8", "warmup_steps": 100}},
        {"pattern": "parameter-server", "compression": {"name": "onebit", "warmup_steps": 100}},
    ],
    ids=lambda settings: f"{settings['pattern']} {settings['compression']['name']}",
)
def test_a_compression_that_leaves_nothing_out_is_exact(settings, run_on_ranks):
    told = run_on_ranks(4, steps, case(2, 2, zero_stage=1, **settings))
    exact = run_on_ranks(4, steps, case(2, 2, zero_stage=1))
    for one, two in zip(told, exact, strict=True):
        for name, value in one.parameters.items():
            torch.testing.assert_close(value, two.parameters[name], rtol=0, atol=AMPLIFIED * SINGLE)


@pytest.mark.parametrize("replicas", [2, 4])
def test_a_bound_of_zero_is_synchronous_to_the_bit(replicas, run_on_ranks):
    bound = {"name": "asynchronous", "max_staleness": 0}
    waiting = run_on_ranks(replicas, steps, case(1, replicas, pattern="parameter-server", update=bound))
    together = run_on_ranks(replicas, steps, case(1, replicas, pattern="parameter-server"))
    for one, two in zip(waiting, together, strict=True):
        assert one.losses == two.losses
        assert all(torch.equal(value, two.parameters[name]) for name, value in one.parameters.items())


@pytest.mark.parametrize("bound", [1, 3, None])
def test_the_bound_is_kept_and_used(bound, run_on_ranks):
    free = asynchronous(1, 2, bound)
    told = run_on_ranks(2, turns, free, 20, 1)
    most_ahead = max(each.most_ahead for each in told)
    assert most_ahead == bound if bound is not None else most_ahead > 3, "replica 0 is the faster by far"
    assert sum(each.num_steps for each in told) == 2 * 20
    for each in told:
        assert sum(each.behind.values()) == 2 * 20, "every push is an update of every server"
        assert all(torch.equal(value, told[0].judged[name]) for name, value in each.judged.items())


def asynchronous(stages, replicas, bound, **settings):
    update = {"name": "asynchronous", "max_staleness": bound}
    return case(stages, replicas, pattern="parameter-server", update=update, zero_stage=1, **settings)


@pytest.mark.parametrize(
    ("stages", "replicas", "compression"),
    [
        (2, 2, "none"),
        pytest.param(1, 4, "int8", marks=pytest.mark.full),
        (1, 2, "topk"),
        pytest.param(1, 2, "onebit", marks=pytest.mark.full),
    ],
)
def test_asynchronous_replicas_learn(stages, replicas, compression, run_on_ranks):
    told = run_on_ranks(stages * replicas, turns, asynchronous(stages, replicas, 2, compression=compression), 40)
    first, last = (sum(each.losses[place] for each in told) for place in (0, -1))
    assert last < 0.7 * first
    for stage in range(stages):
        own = told[stage * replicas : (stage + 1) * replicas]
        assert all(torch.equal(v, own[0].judged[name]) for each in own for name, v in each.judged.items())


def test_a_replica_that_is_not_finite_is_named_and_changes_nothing(run_on_ranks):
    told = run_on_ranks(2, turns, asynchronous(1, 2, 2), 10, None, 0.0, 1)
    for each in told:
        assert each.error == ""
        (warning,) = each.warnings
        assert warning.startswith("replica 1: ") and warning.endswith("were not finite, and changed no parameter")
        assert all(bool(value.isfinite().all()) for value in each.judged.values())


@pytest.mark.parametrize(("clip_norm", "compression"), [(None, "none"), (0.05, "int8")])
def test_a_gradient_with_one_value_that_is_not_finite_changes_nothing_on_any_stage(
    clip_norm, compression, run_on_ranks
):
    settings = asynchronous(2, 2, 2, clip_norm=clip_norm, compression=compression)
    for each in run_on_ranks(4, partly_poisoned, settings, 3):
        assert each.error.startswith("no replica's gradient was finite")
        assert each.behind == {}, "no server made an update"
        assert all(torch.equal(value, each.judged[name]) for name, value in each.parameters.items())
        assert not any(value.any() for value in each.left_out.values())


@pytest.mark.parametrize("compression", ["none", "bf16", "int8", "topk", "onebit", "powersgd"])
def test_a_server_refuses_what_is_not_finite_and_says_whose_it_was(compression, run_on_ranks):
    served = case(1, 2, pattern="parameter-server", compression=compression, zero_stage=1)
    for each in run_on_ranks(2, steps, served, 3, "fp32", 1):
        assert each.error == "the output of layer 0 is not finite (micro-batch 0, replica 1, stage 0)"
        assert all(torch.equal(value, each.judged[name]) for name, value in each.parameters.items())
        assert all(bool(value.isfinite().all()) for value in each.parameters.values())


@pytest.mark.parametrize(
    ("update", "optimizer"),
    [
        ({"local_steps": 3}, "adamw"),
        ({"local_steps": 1}, "sgd"),
        ({"local_steps": 2, "outer_lr": 0.7, "outer_momentum": 0.9}, "adamw"),
    ],
    ids=["every 3", "every step", "DiLoCo"],
)
@pytest.mark.parametrize(("stages", "replicas", "pattern"), [(1, 2, "backend"), (2, 2, "ring"), (1, 4, "tree")])
def test_local_updates_are_models_apart_and_their_average(update, optimizer, stages, replicas, pattern, run_on_ranks):
    apart = case(
        stages,
        replicas,
        pattern=pattern,
        update={"name": "local", **update},
        optimizer=optimizer,
        dropout=0.2,
        clip_norm=0.2,
    )
    expected = local_in_one_process(apart, 7)
    told = run_on_ranks(stages * replicas, local, apart, 7)
    for each in told:
        for name, value in each.parameters.items():
            # the engine forms the norm for clipping in float32
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
        assert all(torch.equal(value, each.judged[name]) for name, value in each.parameters.items()), "kept as judged"
    assert told[0].num_steps == 7 // update["local_steps"]


def test_local_steps_of_one_without_momentum_are_synchronous(run_on_ranks):
    apart = case(1, 2, update={"name": "local", "local_steps": 1}, optimizer="sgd")
    told = run_on_ranks(2, local, apart, 1)
    expected = run_on_ranks(2, steps, case(1, 2, optimizer="sgd"), 1)
    for one, two in zip(told, expected, strict=True):
        for name, value in one.parameters.items():
            torch.testing.assert_close(value, two.parameters[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("compression", ["bf16", "int8"])
def test_local_updates_with_a_compressed_change(compression, run_on_ranks):
    apart = case(1, 2, update={"name": "local", "local_steps": 2}, compression=compression, zero_stage=0)
    single = run_on_ranks(2, local, case(1, 2, update={"name": "local", "local_steps": 2}), 6)
    told = run_on_ranks(2, local, apart, 6)
    assert all(torch.equal(value, told[1].parameters[name]) for name, value in told[0].parameters.items())
    for name, value in told[0].parameters.items():
        torch.testing.assert_close(value.double(), single[0].parameters[name].double(), rtol=0, atol=0.02)


def test_bytes_are_those_that_are_sent(run_on_ranks):
    """Of a ring and of direct sends 2 (n - 1) / n of all values, of each replica of each stage."""
    for pattern in ("ring", "fully-connected", "parameter-server"):
        told = run_on_ranks(2, steps, case(1, 2, pattern=pattern))
        num_bytes = 8 * sum(value.numel() for value in told[0].parameters.values())
        assert sum(each.bytes_sent for each in told) == 2 * told[0].num_steps * num_bytes, pattern


def test_a_loss_is_the_same_whatever_exchanges_it(run_on_ranks):
    traces = run_on_ranks(2, pipeline_trace, case(1, 2, pattern="ring"))
    assert traces[0].losses == traces[1].losses
