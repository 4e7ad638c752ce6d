"""From a configuration to a pipeline: what every run, rehearsal and benchmark of the product is built by."""

from collections.abc import Sequence

import torch

from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.virtual_stage import LossFunction
from pipemlp.model.losses import build_loss
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.plan import Plan


def make_pipeline(
    config: RunConfig,
    layers: Sequence[LayerDescription],
    plan: Plan,
    loss: LossFunction,
    *,
    gradients: GradientsConfig | None = None,
) -> Pipeline:
    """This rank's part of a pipeline.

    Args:
        config: for optimizer, clipping, precision, seed and timeout.
        layers: of the whole model.
        plan: how it is executed.
        loss: of the last layer.
        gradients: how replicas exchange; as the configuration says where left out.
    """
    return Pipeline(
        layers,
        plan,
        optimizer=config.optimizer,
        loss=loss,
        clip_norm=config.training.clip_norm,
        precision=config.precision,
        seed=config.run.seed,
        timeout_seconds=config.fault.timeout_seconds,
        gradients=config.gradients if gradients is None else gradients,
        skips=config.fault.nonfinite == "skip",
    )


def weighted_loss(config: RunConfig) -> LossFunction:
    """The loss as the engine calls it, with target and weight in one tuple."""
    loss = build_loss(config.chosen_loss)

    def loss_fn(outputs: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return loss(outputs, *labels)

    return loss_fn
