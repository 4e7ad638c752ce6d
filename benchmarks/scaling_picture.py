"""The picture of scaling.py: speed-up over ranks, a line for every way; predicted dashed, measured solid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WAYS = {
    "pipeline": (lambda stages, replicas: replicas == 1, "#1f6fb4"),
    "replicas": (lambda stages, replicas: stages == 1, "#d1701c"),
    "2 replicas of a pipeline": (lambda stages, replicas: replicas == 2, "#3a8f4d"),
    "replicas of 2 stages": (lambda stages, replicas: stages == 2 and replicas > 1, "#8a5aa8"),
}
"""Which grids (stages, replicas) are of a line, and its colour."""
TITLES = {"emulated": "emulated devices", "real": "real compute, a core each"}


def plotting() -> Any:
    """matplotlib's pyplot, for files only.

    Raises:
        SystemExit: if it is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--picture needs matplotlib, which pipemlp does not: pip install matplotlib") from None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pipemlp"  # the same picture of the same rows
    import matplotlib.pyplot

    return matplotlib.pyplot


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the picture of these rows."""
    pyplot = plotting()
    kinds = [kind for kind in TITLES if any(row["kind"] == kind for row in rows)]
    widths = [max(row["ranks"] for row in rows if row["kind"] == kind) for kind in kinds]
    figure, axes = pyplot.subplots(
        1, len(kinds), figsize=(9, 4.2), squeeze=False, width_ratios=[2 + width for width in widths]
    )
    for axis, kind in zip(axes[0], kinds, strict=True):
        _lines(axis, [row for row in rows if row["kind"] == kind])
        axis.set_title(TITLES[kind], fontsize=10)
    axes[0][0].set_ylabel("speed-up over one rank")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    ranks = sorted({row["ranks"] for row in rows})
    axis.plot(ranks, ranks, color="#999999", linewidth=0.7, label="ideal")
    for way, (belongs, colour) in WAYS.items():
        own = [row for row in rows if belongs(row["stages"], row["data_parallel"])]
        if len(own) < 2:
            continue
        across = [row["ranks"] for row in own]
        axis.plot(across, [row["measured_speedup"] for row in own], color=colour, marker="o", markersize=4, label=way)
        predicted = [row["predicted_speedup"] for row in own]
        axis.plot(across, predicted, color=colour, linestyle="--", linewidth=1, marker="x", markersize=4)
    axis.plot([], [], color="#555555", linestyle="--", linewidth=1, marker="x", markersize=4, label="predicted")
    axis.set_xticks(ranks)
    axis.set_xlabel("ranks")
    axis.set_ylim(bottom=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
