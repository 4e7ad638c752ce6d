"""What combines in the section `gradients`, with the reason for everything else.

               patterns                 ZeRO                              compression
synchronous    all                      0; 1 but with parameter-server    bf16, powersgd: all patterns;
                                        or compression                    int8, topk, onebit: direct patterns
asynchronous   parameter-server         0                                 none, bf16, int8, topk, onebit
local          all but that             0                                 none, bf16, int8
"""

from collections.abc import Iterator, Sequence

from pipemlp.config.gradients import GradientsConfig, Lossy, PowerSgdCompression
from pipemlp.config.root import RunConfig
from pipemlp.planning.exchange import is_large
from pipemlp.planning.layers import LayerDescription

Problem = tuple[str, str]
DIRECT = ("fully-connected", "parameter-server")
"""Patterns in which every part goes straight to whoever adds it up."""
ADDED_UP = ("none", "bf16", "powersgd")
"""What adds up hop by hop."""


def exchange_problems(config: RunConfig, layers: Sequence[LayerDescription]) -> Iterator[Problem]:
    """Everything that does not combine, each with what does.

    bf16 runs with ZeRO 1 whatever the section says, as DeepSpeed sums in float32 only then; that is no obstacle.
    """
    gradients = config.gradients
    update, pattern, compression = gradients.update.name, gradients.pattern, gradients.compression.name
    serves = pattern == "parameter-server"
    if update == "asynchronous" and not serves:
        yield (
            "gradients.pattern",
            f"{pattern}, but an asynchronous update needs someone who updates whenever a gradient comes; "
            "set gradients.pattern: parameter-server",
        )
    if update == "local" and serves:
        yield (
            "gradients.pattern",
            "parameter-server, but with local updates every replica has an optimizer of its own; use backend, ring, "
            "tree or fully-connected",
        )
    yield from _zero_problems(config)
    # with a bound of 0 replicas step together: what pushes at any time cannot do, they can
    update = "synchronous" if update == "asynchronous" and not gradients.is_asynchronous else update
    allowed = allowed_compressions(update)
    if compression not in allowed:
        reason = {
            "asynchronous": "needs the factors of all replicas at once, and asynchronous ones have no step in common",
            "local": "is made for gradients; the change of the weights over many steps is not like one",
        }[update]
        yield "gradients.compression", f"{compression} {reason}; use {_either(allowed)}"
    elif update == "synchronous" and compression not in ADDED_UP and pattern not in DIRECT:
        yield (
            "gradients.compression",
            f"{compression} messages do not add up hop by hop, as {pattern} adds them; set gradients.pattern: "
            f"{_either(DIRECT)}, or use {_either(ADDED_UP[1:])}",
        )
    if update == "asynchronous" and isinstance(gradients.compression, Lossy) and gradients.compression.warmup_steps:
        yield (
            "gradients.compression.warmup_steps",
            "an asynchronous server takes messages of one size only, from the first step on; leave it out",
        )
    yield from _rank_problems(config, layers)


def allowed_compressions(update: str) -> tuple[str, ...]:
    """The names of those that go with an update, with one pattern or another."""
    every = ("none", "bf16", "int8", "topk", "onebit", "powersgd")
    return {"asynchronous": every[:-1], "local": every[:3]}.get(update, every)


def _zero_problems(config: RunConfig) -> Iterator[Problem]:
    gradients = config.gradients
    if config.chosen_parallel.zero_stage != 1 or config.precision == "bf16":
        return
    key = "parallel.zero_stage"
    if gradients.pattern == "parameter-server":
        yield key, "1, but a parameter server shards the optimizer itself; use 0"
    elif gradients.update.name == "local":
        yield key, "1 shards one optimizer over the replicas, and with local updates each has its own; use 0"
    elif gradients.compression.name != "none":
        yield (
            key,
            f"1, but with compression ({gradients.compression.name}) each replica needs the whole sum, of which ZeRO 1 "
            "would keep a shard; use 0",
        )


def _rank_problems(config: RunConfig, layers: Sequence[LayerDescription]) -> Iterator[Problem]:
    compression = config.gradients.compression
    if not isinstance(compression, PowerSgdCompression):
        return
    for layer in layers:
        for parameter in layer.parameters:
            if is_large(parameter.shape) and compression.rank > min(parameter.shape):
                shape = " x ".join(map(str, parameter.shape))
                yield (
                    "gradients.compression.rank",
                    f"{compression.rank}, but layer {layer.index}'s {parameter.name} is {shape} and has rank "
                    f"{min(parameter.shape)} at most; use at most {min(parameter.shape)}",
                )
                return


def exchange_notes(config: RunConfig) -> Iterator[str]:
    """What works, but is probably not meant."""
    if config.chosen_parallel.data_parallel == 1 and config.gradients != GradientsConfig():
        yield "gradients: nothing is exchanged with one replica; set parallel.data_parallel to 2 or more"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
