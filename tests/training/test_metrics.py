"""Every metric against scikit-learn, and the same number from any number of replicas."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from training_bodies import (
    MEANS,
    STDS,
    metrics_of_replica,
    metrics_on_rows,
    preprocessing_of,
    rows_of,
    shape_of,
)

from pipemlp.training.metrics import SplitMetrics

CASES = [
    ("classification", 3),
    ("classification", 7),
    ("multilabel", 1),
    ("multilabel", 3),
    ("regression", 1),
    ("regression", 2),
]
SHARES = {
    1: [[slice(0, 83)]],
    2: [[slice(0, 20), slice(20, 61)], [slice(61, 83)]],
    3: [[slice(0, 16), slice(16, 80)], [slice(80, 83)], []],
}
"""Unequal numbers of rows, and a replica with none."""
COUNTED_IN_FLOAT32 = 1e-6
"""torchmetrics divides its whole counts in float32."""


def by_scikit_learn(task: str, width: int) -> dict[str, float]:
    outputs, target, losses = rows_of(task, width)
    logits, truth = outputs.double().numpy(), target.numpy()
    loss = {"loss": float(losses.mean())}
    if task == "regression":
        predicted, truth = (values * STDS[:width] + MEANS[:width] for values in (logits, truth.astype(np.float64)))
        return loss | {
            "rmse": sklearn.mean_squared_error(truth, predicted) ** 0.5,
            "mae": sklearn.mean_absolute_error(truth, predicted),
            "r2": sklearn.r2_score(truth, predicted),
        }
    if task == "multilabel":
        chances = 1 / (1 + np.exp(-logits))
        return loss | {
            "accuracy": sklearn.accuracy_score(truth.ravel(), logits.ravel() > 0),
            "macro_f1": np.mean([sklearn.f1_score(truth[:, i], logits[:, i] > 0) for i in range(width)]),
            "log_loss": sklearn.log_loss(truth.ravel(), chances.ravel()),
        }
    labels = range(width)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    tops = {
        f"top_{k}_accuracy": sklearn.top_k_accuracy_score(truth, logits, k=k, labels=labels)
        for k in (3, 5)
        if k < width
    }
    return (
        loss
        | tops
        | {
            "accuracy": sklearn.accuracy_score(truth, logits.argmax(1)),
            "macro_f1": sklearn.f1_score(truth, logits.argmax(1), average="macro"),
            "log_loss": sklearn.log_loss(truth, chances, labels=labels),
        }
    )


def check(found: dict[str, float], task: str, width: int) -> None:
    expected = by_scikit_learn(task, width)
    assert set(found) == set(expected)
    for name, value in expected.items():
        bound = 1e-12 if name in ("loss", "log_loss", "rmse", "mae", "r2") else COUNTED_IN_FLOAT32
        assert found[name] == pytest.approx(value, rel=bound), name


@pytest.mark.parametrize(("task", "width"), CASES)
def test_equal_to_scikit_learn_however_the_rows_are_sliced(task, width):
    for slices in ([slice(0, 83)], [slice(i, i + 1) for i in range(83)], [slice(0, 50), slice(50, 83)]):
        check(metrics_on_rows(task, width, slices), task, width)


@pytest.mark.parametrize(("task", "width"), CASES)
@pytest.mark.parametrize("num_replicas", [2, 3])
def test_equal_under_replicas_with_unequal_rows(task, width, num_replicas, run_on_ranks):
    results = run_on_ranks(num_replicas, metrics_of_replica, task, width, SHARES[num_replicas])
    assert all(result == results[0] for result in results)
    check(results[0], task, width)


def test_a_perfect_regression_in_its_own_units():
    metrics = SplitMetrics(
        ("rmse", "mae", "r2"), shape_of("regression", 1), preprocessing_of("regression", 1), device=torch.device("cpu")
    )
    standardised = torch.tensor([[0.0], [1.0], [2.0]])
    metrics.update(standardised + 1.0, standardised, torch.tensor(0.0))
    values = metrics.compute()
    assert (values["rmse"], values["mae"]) == (STDS[0], STDS[0])  # one deviation off
    assert values["r2"] == pytest.approx(1 - 3 / 2)


def test_a_single_row_has_no_r2_and_stops_nothing():
    found = metrics_on_rows("regression", 2, [slice(0, 1)])
    assert np.isnan(found["r2"]) and np.isfinite(found["rmse"])


def test_a_constant_target_has_the_r2_of_scikit_learn():
    shape, preprocessing = shape_of("regression", 1), preprocessing_of("regression", 1)
    for error, expected in ((0.0, 1.0), (0.5, 0.0)):
        metrics = SplitMetrics(("r2",), shape, preprocessing, device=torch.device("cpu"))
        metrics.update(torch.full((4, 1), error), torch.zeros(4, 1), torch.tensor(0.0))
        assert metrics.compute()["r2"] == expected


def test_only_who_computes_metrics_loads_their_library():
    code = "import sys, pipemlp.training.worker; sys.exit('torchmetrics' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchmetrics_comes_without_scipys_signal():
    """And leaves nothing in its place."""
    code = (
        "import sys; from pipemlp.training.light_torchmetrics import import_torchmetrics; import_torchmetrics(); "
        "from torchmetrics import classification; assert 'scipy.signal' not in sys.modules; "
        "import scipy.signal; assert scipy.signal.windows.hamming(3).shape == (3,)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, text=True)
    assert found.returncode == 0, found.stderr
