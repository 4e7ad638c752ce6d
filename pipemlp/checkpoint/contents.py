"""What is in a checkpoint beside the layers: who writes which file, and how it is read again.

layer-*.replica-*.safetensors      weights and optimizer            state_files.py
update.stage-S.replica-R.safetensors   residuals, averages           for a resume on the same grid
best.layer-*.safetensors           the best weights so far           where `checkpoint.best` is set
training.json                      the position of the training
config.resolved.yaml plan.json index.json preprocessing.json         what run it is, and the model without its run
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipemlp.checkpoint.manifest import Manifest
from pipemlp.checkpoint.state_files import StateFiles, replica_of_file
from pipemlp.config.errors import ModelFileError
from pipemlp.engine.share import Source

TRAINING_FILE = "training.json"
UPDATE_PREFIX = "update."
BEST_PREFIX = "best.layer-"


def update_file(stage: int, replica: int) -> str:
    """What the update of a rank keeps."""
    return f"{UPDATE_PREFIX}stage-{stage}.replica-{replica}.safetensors"


def best_file(layer: int) -> str:
    """The best weights of a layer."""
    return f"{BEST_PREFIX}{layer:05d}.safetensors"


class Contents:
    """A whole checkpoint, to read from.

    Args:
        directory: of the checkpoint.
        manifest: its own.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory, self.manifest = directory, manifest

    def layers(self, replica: int | None = None) -> Source:
        """Weights and optimizer; where each replica has its own, those of one, or the average of all."""
        names = self.manifest.files
        if not self.manifest.is_apart:
            return StateFiles(self._directory, names)
        copies = [
            StateFiles(self._directory, [name for name in names if replica_of_file(name) == number])
            for number in range(self.manifest.num_replicas)
        ]
        return Average(copies) if replica is None else copies[replica]

    def update(self, stage: int, replica: int) -> dict[str, Tensor]:
        """What the update of a rank kept; nothing if there was nothing."""
        name = update_file(stage, replica)
        return self._tensors(name) if name in self.manifest.files else {}

    @property
    def has_updates(self) -> bool:
        """Whether any rank's update kept something."""
        return any(name.startswith(UPDATE_PREFIX) for name in self.manifest.files)

    def best(self, layer: int) -> dict[str, Tensor] | None:
        """The best weights of a layer, if any were kept; copies, as their file may be removed before the run ends."""
        name = best_file(layer)
        if name not in self.manifest.files:
            return None
        return {key: tensor.clone() for key, tensor in self._tensors(name).items()}

    def text(self, name: str) -> str:
        """One of the small files."""
        try:
            return (self._directory / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{self._directory / name}: cannot be read: {error}") from error

    def where(self, name: str) -> str:
        """For messages."""
        return str(self._directory / name)

    def _tensors(self, name: str) -> dict[str, Tensor]:
        try:
            tensors: dict[str, Tensor] = load_file(self._directory / name)
        except (OSError, SafetensorError) as error:
            raise ModelFileError(f"{self._directory / name}: damaged: {error}") from error
        return tensors


class Average:
    """Copies that each replica has of its own, as one: their mean.

    Args:
        copies: of the same layers.
    """

    def __init__(self, copies: list[StateFiles]) -> None:
        self._copies = copies

    def kinds(self, layer: int, name: str) -> tuple[str, ...]:
        """See `Source`."""
        return self._copies[0].kinds(layer, name)

    def read(self, layer: int, name: str, kind: str, start: int, length: int) -> Tensor:
        """See `Source`."""
        total = self._copies[0].read(layer, name, kind, start, length).clone()
        for copy in self._copies[1:]:
            total += copy.read(layer, name, kind, start, length)
        return total / len(self._copies)


def written(text: str, path: Path) -> str:
    """Write a small file; returns its name."""
    path.write_text(text, encoding="utf-8")
    return path.name
