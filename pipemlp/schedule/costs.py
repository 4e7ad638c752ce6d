"""What the actions of a schedule cost, in seconds and in bytes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Costs of one micro-batch by virtual stage (d of them), and by cut between two virtual stages (d - 1).

    Args:
        forward, input_gradient, weight_gradient: seconds [d]; a `B` takes both gradients' time.
        hop: seconds from the end of a computation until its result can be used on another stage, [d - 1], the same
            in both directions; nothing between two virtual stages of one stage.
        kept_bytes: what a forward keeps until its `B` or `I` has ended, the virtual stage's input included, [d].
        pending_bytes: what an `I` keeps until its `W` has ended, [d].
        hop_bytes: the tensor that crosses a cut, [d - 1], the same in both directions. Its receiver holds it from the
            post of the receive until the action that needs it has ended (a forward's input is in `kept_bytes` from
            then on), its sender until its next action has ended; a stage that is both, from one end to the other.
        overhead: seconds that every action takes besides.
        shared_bytes: what of `hop_bytes` is in `kept_bytes` of the virtual stage before the cut too, [d - 1], as its
            backward needs its own result; it is not there twice. Empty for nothing.
    """

    forward: tuple[float, ...]
    input_gradient: tuple[float, ...]
    weight_gradient: tuple[float, ...]
    hop: tuple[float, ...]
    kept_bytes: tuple[float, ...]
    pending_bytes: tuple[float, ...]
    hop_bytes: tuple[float, ...]
    overhead: float = 0.0
    shared_bytes: tuple[float, ...] = ()


def uniform_costs(
    num_stages: int,
    num_virtual_stages: int = 1,
    *,
    forward: float = 1.0,
    input_gradient: float = 1.0,
    weight_gradient: float = 1.0,
    hop: float = 0.0,
) -> Costs:
    """Equal stages: the given seconds are for a stage's whole share, a virtual stage takes its fraction.

    Bytes are in units of what a whole stage keeps for one micro-batch; a pending weight gradient keeps as much.
    """
    depth, share = num_stages * num_virtual_stages, 1.0 / num_virtual_stages
    return Costs(
        forward=(forward * share,) * depth,
        input_gradient=(input_gradient * share,) * depth,
        weight_gradient=(weight_gradient * share,) * depth,
        hop=(hop,) * (depth - 1),
        kept_bytes=(share,) * depth,
        pending_bytes=(share,) * depth,
        hop_bytes=(0.0,) * (depth - 1),
    )
