"""What the tests of training share: small splits of outputs and targets, and bodies that run on ranks."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.data import Preprocessing
from pipemlp.planning.metric_names import metrics_for
from pipemlp.planning.shapes import DataShape
from pipemlp.training.metrics import SplitMetrics

MEANS, STDS = (250.0, -3.0), (40.0, 0.5)
"""Of the regression targets."""


def shape_of(task: str, width: int) -> DataShape:
    return DataShape(num_numeric=4, cardinalities=(), output_width=width, task=task, num_rows=(9, 9, 9))


def preprocessing_of(task: str, width: int) -> Preprocessing:
    return Preprocessing(
        task=task,
        numeric=("a", "b", "c", "d"),
        means=(0.0,) * 4,
        stds=(1.0,) * 4,
        categorical=(),
        vocabularies=(),
        targets=tuple(f"t{i}" for i in range(width)),
        target_means=MEANS[:width] if task == "regression" else (),
        target_stds=STDS[:width] if task == "regression" else (),
        class_labels=tuple(range(width)) if task == "classification" else (),
        missing="error",
        unseen="error",
        is_autoencoder=False,
    )


def rows_of(task: str, width: int, num_rows: int = 83) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, targets and the loss of each row; small logits too, which must not pass for probabilities."""
    generator = torch.Generator().manual_seed(5)
    outputs = torch.randn(num_rows, width, generator=generator)
    losses = torch.rand(num_rows, generator=generator, dtype=torch.float64)
    if task == "regression":
        return outputs, outputs + 0.5 * torch.randn(num_rows, width, generator=generator), losses
    if task == "multilabel":
        outputs[: num_rows // 2] = outputs[: num_rows // 2].sigmoid()
        return outputs, (torch.rand(num_rows, width, generator=generator) < 0.4).float(), losses
    noisy = outputs + torch.randn(num_rows, width, generator=generator)
    return outputs, noisy.argmax(1) % (width - 1 if width > 3 else width), losses


def metrics_on_rows(task: str, width: int, slices: Sequence[slice], group: object = None) -> dict[str, float]:
    """All metrics of the task over some of the rows, fed slice by slice."""
    shape = shape_of(task, width)
    names = metrics_for(shape)
    metrics = SplitMetrics(names, shape, preprocessing_of(task, width), device=torch.device("cpu"), group=group)
    outputs, target, losses = rows_of(task, width)
    for part in slices:
        metrics.update(outputs[part], target[part], losses[part].sum())
    return metrics.compute()


def metrics_of_replica(task: str, width: int, slices_of_rank: Sequence[Sequence[slice]]) -> dict[str, float]:
    """Body: this rank feeds its own slices, perhaps none."""
    return metrics_on_rows(task, width, slices_of_rank[dist.get_rank()], group=dist.group.WORLD)


def gathered_auroc(outputs: torch.Tensor, target: torch.Tensor, counts: tuple[int, ...]) -> float:
    """Body: AUROC over rows of which each replica has `counts[rank]`."""
    from torchmetrics.classification import BinaryAUROC

    from pipemlp.training.gathered import gathered

    rank = dist.get_rank()
    metric = gathered(BinaryAUROC(), dist.group.WORLD)
    start = sum(counts[:rank])
    if counts[rank]:
        metric.update(outputs[start : start + counts[rank]], target[start : start + counts[rank]])
    return float(metric.compute())
