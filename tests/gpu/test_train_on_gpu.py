"""The same config runs unchanged on a GPU and learns the same thing; skipped where there is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipemlp.engine.gradient_sums import GradientSums

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


@pytest.mark.parametrize("schedule", ["interleaved-zb", "zb-v"])
def test_several_virtual_stages_on_one_gpu_change_nothing(tmp_path, schedule):
    """One stage of several virtual stages: split backwards and tensors handed on, without a message."""
    usual = losses(tmp_path / "usual", "cuda", "parallel.micro_batches=4")
    virtual_stages = 2 if schedule == "zb-v" else 4
    settings = (f"parallel.schedule={schedule}", f"parallel.virtual_stages={virtual_stages}")
    found = losses(tmp_path / schedule, "cuda", "parallel.micro_batches=4", *settings)
    assert found == pytest.approx(usual, rel=1e-2)


def test_bf16_weight_gradients_are_summed_in_float32():
    """A product of bf16 tensors straight into a float32 sum, as on the CPU."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(48, 32, dtype=torch.bfloat16, device="cuda"))
    sums = GradientSums(torch.zeros(48 * 32, device="cuda"), [[weight]], {weight})
    sums.begin()
    expected = torch.zeros(48, 32, dtype=torch.float64)
    for _ in range(5):
        gradient = torch.randn(64, 48, generator=generator).bfloat16()
        x = torch.randn(64, 32, generator=generator).bfloat16()
        sums.add_product(weight, gradient.cuda(), x.cuda())
        expected += gradient.double().t() @ x.double()
    ((_, total),) = sums.finish()
    assert total.dtype == torch.float32
    # float32 rounding over 320 terms of about 1; bf16 sums would be off by 1e-2 and more
    torch.testing.assert_close(total.double().cpu(), expected, rtol=1e-4, atol=1e-4)
