"""A plain DeepSpeed PipelineModule that is cut at boundaries of ours, on ranks."""

from itertools import pairwise

from torch import nn

from pipemlp.profiling.for_deepspeed import Run


def num_layers_held(boundaries) -> int:
    """How many of six layers DeepSpeed gives this rank."""
    from deepspeed.pipe import LayerSpec, PipelineModule

    layers = [LayerSpec(nn.Linear, 4, 4) for _ in range(boundaries[-1])]
    stages = [LayerSpec(Run, layers[start:stop]) for start, stop in pairwise(boundaries)]
    module = PipelineModule(stages, num_stages=len(stages), partition_method="uniform", loss_fn=nn.MSELoss())
    return sum(1 for _ in module.parameters()) // 2
