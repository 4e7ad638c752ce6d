"""Hold a pipeline's trace against that of one process, within what rounding allows."""

import torch
from equality import NUM_STEPS, Case, Trace, pipeline_trace, reference

EXACT = 1e-12
"""float64: nine layers of sums of some eighty terms of order one round to about 1e-14."""
CLIPPED = 2e-7
"""DeepSpeed forms the norm in float32, so that the factor, and the update with it, is off by up to 2^-23."""
SINGLE = NUM_STEPS * 9 * 80**0.5 * 2**-24
"""float32: each step passes nine layers of sums of up to 80 terms, whose rounding errors add like a random walk."""
AMPLIFIED = 8
"""float32: norms and steps amplify rounding; by how much in a case, the one process itself shows against float64.
Two float32 computations differ by no more than a few times that."""


def check(case: Case, run_on_ranks) -> None:
    traces = run_on_ranks(case.stages * case.replicas, pipeline_trace, case)
    expected = reference(case, case.dtype)
    names = [name for trace in traces[:: case.replicas] for name in trace.parameters]
    assert sorted(names) == sorted(expected.parameters), "every layer is on exactly one stage"
    bounds = bounds_of(case, expected)
    for trace in traces:
        compare(trace, expected, bounds)
    outputs = torch.cat([trace.outputs for trace in traces if trace.outputs is not None])
    close("outputs", outputs, expected.outputs, bounds["outputs"])
    for first, *others in zip(*[iter(traces)] * case.replicas, strict=True):
        for other in others:
            assert all(torch.equal(first.parameters[n], other.parameters[n]) for n in first.parameters)


def bounds_of(case: Case, expected: Trace) -> dict[str, float]:
    """The tolerance for losses, gradients, parameters and outputs, derived as said above."""
    bounds = dict.fromkeys(("losses", "gradients", "parameters", "outputs"), EXACT)
    if case.clip_norm is not None:
        bounds = dict.fromkeys(bounds, CLIPPED)
    if case.dtype == torch.float32:
        exact = reference(case, torch.float64)
        for kind in bounds:
            error = max(
                float((a - b).abs().max()) for a, b in zip(values(expected, kind), values(exact, kind), strict=True)
            )
            bounds[kind] = SINGLE + AMPLIFIED * error
            assert bounds[kind] < 1e-3, f"{kind}: the case is too ill-conditioned to show anything"
    return bounds


def values(trace: Trace, kind: str) -> list[torch.Tensor]:
    value = getattr(trace, kind)
    if isinstance(value, dict):
        return [value[name] for name in sorted(value)]
    return [torch.as_tensor(value, dtype=torch.float64)]


def compare(trace: Trace, expected: Trace, bounds: dict[str, float]) -> None:
    close("losses", *(torch.tensor(t.losses, dtype=torch.float64) for t in (trace, expected)), bounds["losses"])
    assert {n.split(":")[1] for n in trace.gradients} == set(trace.parameters)
    for name, gradient in trace.gradients.items():
        close(f"gradient {name}", gradient, expected.gradients[name], bounds["gradients"])
    for name, parameter in trace.parameters.items():
        close(f"parameter {name}", parameter, expected.parameters[name], bounds["parameters"])


def close(what: str, value: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    torch.testing.assert_close(value, expected, rtol=bound, atol=bound, msg=lambda message: f"{what}: {message}")
