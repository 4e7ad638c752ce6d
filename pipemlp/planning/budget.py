"""How many steps a run takes, and after which of them it evaluates."""

from dataclasses import dataclass

from pipemlp.config.root import RunConfig


@dataclass(frozen=True)
class Budget:
    """Steps of a run.

    Args:
        num_steps: optimizer steps in all.
        steps_per_epoch: global batches per pass over the training rows; the last may be partial.
        evaluation_steps: steps between two evaluations.
        checkpoint_steps: steps between two checkpoints.
    """

    num_steps: int
    steps_per_epoch: int
    evaluation_steps: int
    checkpoint_steps: int

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows step `step` (from 0); the last step always has one."""
        return (step + 1) % self.evaluation_steps == 0 or step + 1 == self.num_steps

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows step `step` (from 0); the last step always has one."""
        return (step + 1) % self.checkpoint_steps == 0 or step + 1 == self.num_steps


def budget_of(config: RunConfig, num_train_rows: int) -> Budget:
    """Steps from `training.epochs` or `training.steps` and the number of training rows."""
    steps_per_epoch = max(1, -(-num_train_rows // config.training.global_batch_size))
    num_steps = config.training.steps or (config.training.epochs or 10) * steps_per_epoch
    evaluation_steps = config.evaluation.every_steps or (config.evaluation.every_epochs or 1) * steps_per_epoch
    checkpoint_steps = config.checkpoint.every_steps or (config.checkpoint.every_epochs or 1) * steps_per_epoch
    return Budget(num_steps, steps_per_epoch, evaluation_steps, checkpoint_steps)
