"""`pipemlp train` from start to end: what it leaves, and the same numbers however it is launched."""

import json
import sys
from pathlib import Path

import pytest
from commands import ROOT, SCRIPTS, metrics_of, model_files, succeed

from pipemlp.config import load_config
from pipemlp.launching.ports import free_port

DIGITS = str(ROOT / "configs" / "digits.yaml")
SHORT = "training.epochs=2"
NUM_STEPS = 40  # 1,258 training rows in batches of 64, twice


def test_leaves_the_whole_run_directory(digits_run):
    left = {path.name for path in digits_run.dir.iterdir() if not path.name.startswith(".")}
    files = {"config.resolved.yaml", "plan.json", "environment.json", "metrics.jsonl", "status.json", "timeline.json"}
    assert left == files | {"model", "tensorboard", "logs", "checkpoints"}
    assert {path.name for path in (digits_run.dir / "logs").iterdir()} == {"rank-0.log", "rank-1.log"}
    layers = {f"layer-{index:05d}.safetensors" for index in range(18)}
    assert set(model_files(digits_run.dir)) == layers | {"index.json", "preprocessing.json"}
    assert {path.name for path in (digits_run.dir / "model").iterdir()} == {
        *model_files(digits_run.dir),
        "MANIFEST.json",
    }
    assert [path.name for path in (digits_run.dir / "tensorboard").iterdir()][0].startswith("events.out.tfevents")
    plan = json.loads((digits_run.dir / "plan.json").read_text())
    assert (plan["num_stages"], plan["num_replicas"], plan["num_micro_batches"]) == (2, 1, 4)
    environment = json.loads((digits_run.dir / "environment.json").read_text())
    assert environment["packages"].keys() >= {"pipemlp", "torch", "deepspeed"}


def test_status_says_finished(digits_run):
    status = json.loads((digits_run.dir / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["step"]) == ("finished", 0, NUM_STEPS)
    assert status.keys() >= {"message", "host", "pid", "updated_at"}


def test_every_line_of_metrics_has_the_promised_keys(digits_run):
    lines = [json.loads(line) for line in (digits_run.dir / "metrics.jsonl").read_text().splitlines()]
    measured = {"accuracy", "top_5_accuracy", "macro_f1", "log_loss"}
    more = {"train": {"samples_per_second", "lr"}, "validation": measured, "test": measured}
    for line in lines:
        assert line.keys() == {"step", "split", "loss"} | more[line["split"]]
    steps = {split: [line["step"] for line in lines if line["split"] == split] for split in more}
    assert steps == {"train": [1, 10, 20, 30, 40], "validation": [20, 40], "test": [40]}
    assert lines[-1]["accuracy"] > 0.85  # two epochs of twenty


def test_the_terminal_is_for_the_user(digits_run):
    printed = digits_run.out + digits_run.err
    assert "epoch 1/2 step 1/40" in printed and "test after step 40: loss" in printed and "run is done" in printed
    for chatter in ("[INFO]", "[WARNING]", "Warning:", "topology", "DeepSpeed", "Traceback"):
        assert chatter not in printed
    assert digits_run.err == ""
    assert "topology" in (digits_run.dir / "logs" / "rank-0.log").read_text()


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("deepspeed", marks=pytest.mark.full)])
def test_another_launcher_gives_the_same_bits(digits_run, launcher, tmp_path):
    """By hand: the resolved config of the first run with torchrun, the shipped one with deepspeed."""
    port, resolved = str(free_port()), str(digits_run.dir / "config.resolved.yaml")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    deepspeed = [str(SCRIPTS / "deepspeed"), "--num_gpus", "2", "--master_port", port, "--module", "pipemlp"]
    command = {
        "torchrun": [*torchrun, "-m", "pipemlp", "train", resolved],
        "deepspeed": [*deepspeed, "train", DIGITS, SHORT],
    }[launcher]
    succeed([*command, "run.dir=run"], tmp_path)
    run_dir = tmp_path / "run"
    assert metrics_of(run_dir) == metrics_of(digits_run.dir)
    assert model_files(run_dir) == model_files(digits_run.dir)
    assert json.loads((run_dir / "status.json").read_text())["state"] == "finished"
    first, again = (load_config(each / "config.resolved.yaml") for each in (digits_run.dir, run_dir))
    assert again == first


def test_the_resolved_config_is_complete(digits_run):
    assert "auto" not in (digits_run.dir / "config.resolved.yaml").read_text().replace("dir: auto", "")


def test_print_command_shows_what_to_type_and_does_nothing_else(pipemlp):
    answer = pipemlp("train", DIGITS, SHORT, "--print-command")
    assert answer.out == f"deepspeed --num_gpus 2 --module pipemlp train {DIGITS} {SHORT}\n"
    assert (answer.code, answer.err, list(Path.cwd().iterdir())) == (0, "", [])


def test_two_runs_never_share_a_place(digits_run, pipemlp):
    before = {path: path.stat().st_mtime_ns for path in digits_run.dir.rglob("*")}
    answer = pipemlp("train", DIGITS, f"run.dir={digits_run.dir}")
    assert answer.code == 2
    where = "command line: run.dir"
    assert (
        answer.err
        == f"pipemlp: {where}: {digits_run.dir}: holds another run; name a new folder, or leave run.dir out\n"
    )
    assert {path: path.stat().st_mtime_ns for path in digits_run.dir.rglob("*")} == before
