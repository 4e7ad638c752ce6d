"""The metrics by name, computed by torchmetrics over a whole split and exact under replicas."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torchmetrics
from torchmetrics import classification, regression

from pipemlp.data import Preprocessing
from pipemlp.planning.metric_names import MetricName, register_metric_name
from pipemlp.planning.shapes import DataShape, Task
from pipemlp.training.gathered import gathered
from pipemlp.training.r2_score import R2Score

MetricFactory = Callable[[DataShape], torchmetrics.Metric]


def _top(k: int) -> MetricFactory:
    return lambda shape: classification.MulticlassAccuracy(shape.output_width, top_k=k, average="micro")


class LogLoss(torchmetrics.Metric):
    """Mean negative log-probability of the true class, or of the true labels, from logits, in float64."""

    higher_is_better = False

    def __init__(self, shape: DataShape) -> None:
        super().__init__()
        self.task = shape.task
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: torch.Tensor, target: torch.Tensor) -> None:
        """Add a batch of logits (rows x outputs) and targets."""
        outputs = outputs.double()
        if self.task == "classification":
            self.total += torch.nn.functional.cross_entropy(outputs, target, reduction="sum")
        else:
            self.total += torch.nn.functional.binary_cross_entropy_with_logits(
                outputs, target.double(), reduction="sum"
            )
        self.count += target.numel()

    def compute(self) -> torch.Tensor:
        """The mean over all rows (and labels)."""
        return self.total / self.count


def _alone() -> bool:
    return False


class _Decided(torchmetrics.Metric):
    """Feeds decisions, logit above 0; torchmetrics would take a batch of logits within 0..1 for probabilities."""

    def update(self, outputs: torch.Tensor, target: torch.Tensor) -> None:
        super().update((outputs > 0).long(), target)  # type: ignore[safe-super]


class _LabelAccuracy(_Decided, classification.BinaryAccuracy):
    pass


class _LabelF1(_Decided, classification.BinaryF1Score):
    pass


class _MacroLabelF1(_Decided, classification.MultilabelF1Score):
    pass


def _multilabel_f1(shape: DataShape) -> torchmetrics.Metric:
    return _MacroLabelF1(shape.output_width, average="macro") if shape.output_width > 1 else _LabelF1()


_FACTORIES: dict[tuple[str, Task], MetricFactory] = {
    ("accuracy", "classification"): _top(1),
    ("top_3_accuracy", "classification"): _top(3),
    ("top_5_accuracy", "classification"): _top(5),
    ("macro_f1", "classification"): lambda shape: classification.MulticlassF1Score(shape.output_width, average="macro"),
    ("log_loss", "classification"): LogLoss,
    ("accuracy", "multilabel"): lambda shape: _LabelAccuracy(),
    ("macro_f1", "multilabel"): _multilabel_f1,
    ("log_loss", "multilabel"): LogLoss,
    ("rmse", "regression"): lambda shape: regression.MeanSquaredError(squared=False),
    ("mae", "regression"): lambda shape: regression.MeanAbsoluteError(),
    ("r2", "regression"): R2Score,
}


def register_metric(name: str, *, task: Task, larger_is_better: bool) -> Callable[[MetricFactory], MetricFactory]:
    """Decorator: make `factory(shape) -> torchmetrics.Metric` available as `evaluation.metrics: [name]`.

    The metric is updated with outputs (logits, or values in the target's own units) and targets.

    Raises:
        ValueError: if the name is taken.
    """

    def register(factory: MetricFactory) -> MetricFactory:
        register_metric_name(name, MetricName((task,), larger_is_better))
        _FACTORIES[name, task] = factory
        return factory

    return register


class SplitMetrics:
    """Loss and metrics of one split, fed batch by batch on the ranks of the last stage.

    Args:
        names: metrics by name.
        shape: task and number of outputs.
        preprocessing: turns regression values back into the target's own units.
        group: the replicas of the last stage; None for one process.
    """

    def __init__(
        self,
        names: Sequence[str],
        shape: DataShape,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self._shape = shape
        self._preprocessing = preprocessing
        self._metrics = {name: _FACTORIES[name, shape.task](shape) for name in names}
        if group is not None:
            self._metrics = {name: gathered(metric, group) for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.set_dtype(torch.float64)
            metric.process_group = group
            if group is None:  # torchmetrics would wait for the whole world, most of which computes no metrics
                metric.distributed_available_fn = _alone
            metric.to(device)
        self._loss_sum = torch.zeros(2, dtype=torch.float64, device=device)
        self._group = group

    def update(self, outputs: torch.Tensor, target: torch.Tensor, loss_sum: torch.Tensor) -> None:
        """Add real rows: outputs (rows x width), targets, and the sum of their losses."""
        self._loss_sum += torch.stack([loss_sum.double(), loss_sum.new_tensor(len(target)).double()])
        standard = outputs.double(), target.double()
        if self._shape.task == "regression":
            outputs, target = self._own_units(outputs), self._own_units(target)
            if self._shape.output_width == 1:
                outputs, target = outputs[:, 0], target[:, 0]
        elif self._shape.task == "multilabel":
            target = target.long()
            if self._shape.output_width == 1:
                outputs, target = outputs[:, 0], target[:, 0]
            outputs = outputs.float()
        else:
            outputs = outputs.float()
        for name, metric in self._metrics.items():
            # R2 is the same in any units, and far from zero float64 would not have the digits for its own
            metric.update(*(standard if name == "r2" else (outputs, target)))

    def _own_units(self, values: torch.Tensor) -> torch.Tensor:
        restored = self._preprocessing.restore_targets(values.double().cpu().numpy())
        return torch.from_numpy(restored).to(values.device)

    def compute(self) -> dict[str, float]:
        """Loss and metrics over all replicas; the same on each of them."""
        if self._group is not None:
            dist.all_reduce(self._loss_sum, group=self._group)
        loss, count = self._loss_sum.tolist()
        return {"loss": loss / count} | {name: _value(metric) for name, metric in self._metrics.items()}


def _value(metric: torchmetrics.Metric) -> float:
    try:
        return float(metric.compute())
    except ValueError:  # a metric that needs more rows than there are, such as R2 of a single one
        return float("nan")
