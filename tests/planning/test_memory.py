"""The memory estimate against what is really held, counted by storages."""

import pytest
from covering import pairwise
from memory_bodies import held_after_forwards, held_by_engine, layers_of

from pipemlp.config.training import Adam, AdamW, Sgd
from pipemlp.planning.memory import MemoryEstimate, estimate_memory
from pipemlp.planning.plan import Plan
from pipemlp.schedule.one_f_one_b import num_in_flight

ROWS = 32
ACTIVATIONS = {"plain": "relu", "residual": "gelu", "gated": "silu"}
CASES = pairwise(
    {
        "block": ("plain", "residual", "gated"),
        "norm": ("none", "layer", "rms"),
        "dropout": (0.0, 0.2),
        "recompute": (0, 1, 2, 3),
        "cardinalities": ((), (9, 40)),
    }
)
OPTIMIZERS = {"sgd": Sgd(), "sgd-momentum": Sgd(momentum=0.9), "adam": Adam(), "adamw": AdamW()}


def estimate(layers, stage: int, num_stages: int, in_flight: int, **changes) -> MemoryEstimate:
    settings = {"optimizer": "adamw", "precision": "fp32", "zero_stage": 0, "num_replicas": 1, "recompute_layers": 0}
    return estimate_memory(
        layers,
        stage=stage,
        num_stages=num_stages,
        num_in_flight=in_flight,
        micro_batch_rows=ROWS,
        **(settings | changes),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_activations_are_within_ten_percent_on_every_stage(case):
    case = dict(case)
    recompute, cardinalities = case.pop("recompute"), case.pop("cardinalities")
    model = {"hidden": [64, 64, 80, 80, 64, 64], "activation": ACTIVATIONS[case["block"]], **case}
    layers = layers_of(model, cardinalities)
    for stage, part in enumerate((layers[:3], layers[3:6], layers[6:])):
        for in_flight in (1, 3):
            held = held_after_forwards(part, in_flight, ROWS, recompute)
            expected = estimate(part, stage, 3, in_flight, recompute_layers=recompute).activation_bytes
            assert expected == pytest.approx(held, rel=0.1), (stage, in_flight)


def engine_against_estimate(
    run_on_ranks, optimizer: str, precision: str = "fp32", zero_stage: int = 0, replicas: int = 1
):
    """(held, estimate, bytes of the engine's lasting receive buffers) of each of two ranks."""
    model = {"hidden": {"width": 64, "depth": 8}, "block": "residual", "norm": "layer", "activation": "gelu"}
    layers, stages = layers_of(model), 2 // replicas
    boundaries = (0, 10) if stages == 1 else (0, 5, 10)
    plan = Plan(boundaries, stages, replicas, 4, ROWS, "1f1b", zero_stage, 0, (), 0.0, ())
    held = run_on_ranks(2, held_by_engine, model, plan, OPTIMIZERS[optimizer], precision)
    changes = {"optimizer": optimizer, "precision": precision, "zero_stage": zero_stage, "num_replicas": replicas}
    received = (64 * ROWS * (2 if precision == "bf16" else 4)) * (stages - 1)
    return [
        (one, estimate(plan.stage_layers(layers, s), s, stages, num_in_flight(s, stages, 4), **changes), received)
        for s, one in zip((0, 1) if stages == 2 else (0, 0), held, strict=True)
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_states_and_activations_of_the_engine(optimizer, run_on_ranks):
    for held, expected, received in engine_against_estimate(run_on_ranks, optimizer):
        assert held.parameters == expected.parameter_bytes
        assert held.gradients == expected.gradient_bytes
        assert held.optimizer == expected.optimizer_bytes
        held_at_peak = held.activations_and_buffers + received
        assert expected.activation_bytes + expected.buffer_bytes == pytest.approx(held_at_peak, rel=0.01)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_and_activations_of_the_engine_with_zero_1(precision, replicas, run_on_ranks):
    for held, expected, received in engine_against_estimate(run_on_ranks, "adam", precision, 1, replicas):
        assert held.parameters == expected.parameter_bytes
        assert held.optimizer == expected.optimizer_bytes
        if precision == "bf16":
            assert held.gradients == expected.gradient_bytes
        else:  # the optimizer step finds reduced shards only; while they are made, the whole gradients are there too
            assert held.gradients <= expected.gradient_bytes == held.parameters + held.parameters // replicas
        held_at_peak = held.activations_and_buffers + received
        assert expected.activation_bytes + expected.buffer_bytes == pytest.approx(held_at_peak, rel=0.02)


def test_the_total_is_the_sum():
    part = estimate(layers_of({"hidden": [64, 64]}), 0, 1, 1)
    assert part.total_bytes == (
        part.parameter_bytes + part.gradient_bytes + part.optimizer_bytes + part.activation_bytes + part.buffer_bytes
    )
