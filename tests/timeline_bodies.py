"""Training steps with a recorder, without the run around them: a body that runs on ranks."""

from pathlib import Path

import torch

from pipemlp.config.root import RunConfig
from pipemlp.training.batches import BatchLoader
from pipemlp.training.preparation import prepare_run
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.worker import build_pipeline


def record_steps(config: dict, folder: str, every_steps: int, num_steps: int) -> list[int]:
    """Body: train, and after which steps timeline.json was another file."""
    run = prepare_run(RunConfig.model_validate(config))
    pipeline = build_pipeline(run)
    loader = BatchLoader(run.data, run.plan, pipeline.place, seed=run.config.run.seed, device=torch.device("cpu"))
    recorder = TimelineRecorder(Path(folder), pipeline, every_steps)
    path, seen, steps = Path(folder) / "timeline.json", "", []
    for step, batch in enumerate(loader.training_batches((0, step) for step in range(num_steps))):
        recorder.before(step + 1)
        pipeline.train_batch(batch, step=step, learning_rate=0.01)
        recorder.after(step + 1)
        text = path.read_text() if path.exists() else ""
        steps += [step + 1] * (text != seen)
        seen = text
    return steps
