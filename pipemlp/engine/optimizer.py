"""The optimizer from its configuration: torch's own, since DeepSpeed's compile or change meaning by name."""

from collections.abc import Iterable

import torch

from pipemlp.config.training import Adam, AdamW, OptimizerConfig, Sgd
from pipemlp.engine.private.without_compiler import without_compiler


def build_optimizer(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """One parameter group with every option spelled out."""
    match config:
        case Sgd():
            return without_compiler(torch.optim.SGD)(
                parameters,
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.nesterov,
                weight_decay=config.weight_decay,
            )
        case Adam():
            kind: type[torch.optim.Adam] = torch.optim.Adam
        case AdamW():
            kind = torch.optim.AdamW
    kind = without_compiler(kind)
    return kind(parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
