"""The optimizer from its configuration: torch's own, since DeepSpeed's compile or change meaning by name."""

from collections.abc import Iterable

import torch

from pipemlp.config.training import Adam, AdamW, OptimizerConfig, Sgd


def build_optimizer(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """One parameter group with every option spelled out."""
    match config:
        case Sgd():
            return torch.optim.SGD(
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
    return kind(parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
