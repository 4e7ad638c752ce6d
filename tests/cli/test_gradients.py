"""The examples in configs/gradients: all are valid, and runs with them train, and say what their exchange cost."""

import json
import math
from pathlib import Path

import pytest
from commands import PIPEMLP, ROOT, succeed

from pipemlp.config.loading import load_config
from pipemlp.training.preparation import prepare_run

EXAMPLES = sorted((ROOT / "configs" / "gradients").glob("*.yaml"))


def test_there_is_an_example_of_everything():
    sections = [load_config(path).gradients for path in EXAMPLES]
    assert {section.pattern for section in sections} == {
        "backend", "ring", "tree", "fully-connected", "parameter-server"
    }  # fmt: skip
    assert {section.update.name for section in sections} == {"synchronous", "asynchronous", "local"}
    used = {section.compression.name for section in sections}
    assert used == {"none", "bf16", "int8", "topk", "onebit", "powersgd"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_differs_from_the_digits_in_what_it_shows(path):
    preparation, digits = (prepare_run(load_config(each)) for each in (path, ROOT / "configs" / "digits.yaml"))
    assert preparation.plan.num_replicas in (2, 4) and preparation.plan.num_stages in (1, 2)
    for section in ("data", "model", "training", "optimizer", "loss", "lr_schedule"):
        assert getattr(preparation.config, section) == getattr(digits.config, section)
    assert not [note for note in preparation.notes if note.startswith("gradients")]


@pytest.fixture(
    scope="module",
    # the README's own example trains with a compression in the short run
    params=["asynchronous", pytest.param("topk", marks=pytest.mark.full)],
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """The name of an example, the run directory of an epoch of it, and what was printed."""
    folder = tmp_path_factory.mktemp(request.param)
    config = ROOT / "configs" / "gradients" / f"{request.param}.yaml"
    overrides = ["training.epochs=1", "lr_schedule=constant", "optimizer.lr=0.003", "run.dir=run"]
    if request.param == "topk":
        overrides.append("gradients.compression.warmup_steps=5")
    printed = succeed(
        [*PIPEMLP, "train", str(config), *overrides], folder, XDG_CACHE_HOME=str(folder / "cache")
    ).printed
    return request.param, folder / "run", printed


def test_a_run_learns_and_reports_its_exchange(trained):
    name, run_dir, printed = trained
    report = json.loads((run_dir / "exchange.json").read_text())
    config = load_config(ROOT / "configs" / "gradients" / f"{name}.yaml")
    assert report["pattern"] == config.gradients.pattern and report["update"] == config.gradients.update.name
    assert report["compression"] == config.gradients.compression.name
    assert report["bytes_sent"] > 0 and report["busy_seconds"] > 0 and 0 <= report["hidden"] <= 1
    fewer = f"{report['ratio']:.1f}x fewer than"
    assert f"{'as many as' if fewer == '1.0x fewer than' else fewer} a plain ring" in " ".join(printed.split())
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    (test,) = [line["loss"] for line in metrics if line["split"] == "test"]
    assert test < 0.8 * math.log(10), "better than a guess"
    if name == "asynchronous":
        assert sum(report["behind"].values()) == 4 * 4 * 20, "every server counts every push"
        assert report["most_ahead"] <= 4 and "staleness" in printed
    else:
        assert not report["behind"] and "staleness" not in printed
        assert report["ratio"] > 1.5
