"""The answer of a plan: what was asked, found and decided."""

from dataclasses import dataclass
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.root import RunConfig
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.comparison import Verdict
from pipemlp.planning.machine import Machine
from pipemlp.planning.plan_file import PlanFile, plan_file_of
from pipemlp.planning.search import Found
from pipemlp.planning.workload import Workload


@dataclass(frozen=True)
class Answer:
    """What was asked, found and decided.

    Args:
        workload: the model and its step.
        machine: what it was planned for.
        origin: where its costs are from.
        num_ranks: all of them are used.
        cap_bytes: of a rank.
        found: by the search.
        verdict: what to run.
        num_shown: candidates in the ranking.
        config: resolved; what was planned.
    """

    workload: Workload
    machine: Machine
    origin: str
    num_ranks: int
    cap_bytes: float
    found: Found
    verdict: Verdict
    num_shown: int
    config: RunConfig

    @property
    def choice(self) -> Candidate:
        """What to run."""
        return self.verdict.choice

    @property
    def pipeline(self) -> bool:
        """Whether that is a pipeline."""
        return self.verdict.pipeline

    @property
    def plan_file(self) -> PlanFile:
        """The choice as it is kept."""
        return plan_file_of(self.config, self.workload.layers, self.choice.plan, self.machine)

    def write(self, path: str | Path) -> None:
        """Write the plan file that `train --plan` takes.

        Raises:
            ConfigError: if it cannot be written.
        """
        try:
            Path(path).write_text(self.plan_file.to_text(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"output: {path}: cannot be written: {error.strerror or error}") from error

    @property
    def ranking(self) -> list[Candidate]:
        """The choice first, then the fastest others."""
        choice = self.verdict.choice
        return [choice, *(each for each in self.found.ranking if each is not choice)][: self.num_shown]

    def samples_per_second(self, candidate: Candidate) -> float:
        """Rows of a step by its seconds."""
        return self.workload.global_batch_rows / candidate.step_seconds

    def speed_up(self, candidate: Candidate) -> float:
        """How many times as fast as a single rank."""
        return self.found.one_rank.step_seconds / candidate.step_seconds
