"""The same config runs unchanged on a GPU and learns the same thing; skipped where there is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CONFIG = Path(__file__).parents[2] / "configs" / "digits.yaml"


def losses(run_dir: Path, device: str, *overrides: str) -> list[float]:
    arguments = [f"run.dir={run_dir}", f"run.device={device}", "parallel.stages=1", "training.steps=20", *overrides]
    subprocess.run([sys.executable, "-m", "pipemlp", "train", str(CONFIG), *arguments], check=True, timeout=240)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def test_losses_on_gpu_and_cpu_agree(tmp_path):
    # twenty AdamW steps on rounding of 1e-7; products may run in a different order on the GPU
    assert losses(tmp_path / "gpu", "cuda") == pytest.approx(losses(tmp_path / "cpu", "cpu"), rel=1e-2)


def test_bf16_learns_on_gpu(tmp_path):
    first, *_, last = losses(tmp_path / "bf16", "cuda", "precision=bf16")
    assert last < first
