"""A run directory with a model in it that has seen no training, saved as a run saves it, in no time."""

from pathlib import Path

from pipemlp.checkpoint.folder import MODEL_FOLDER
from pipemlp.checkpoint.model_files import save_layers
from pipemlp.checkpoint.sealed_files import sealed, write_manifest
from pipemlp.config.root import RunConfig
from pipemlp.model.whole import build_model
from pipemlp.training.model_index import manifest_of, save_index_of
from pipemlp.training.preparation import prepare_run
from pipemlp.training.run_directory import write_start


def save_untrained(run_dir: Path, config: RunConfig) -> None:
    """What `save_model` leaves, by one process."""
    preparation = prepare_run(config)
    run_dir.mkdir(parents=True)
    write_start(run_dir, preparation.config, preparation.plan)
    tensors = build_model(preparation.layers, seed=3).state_dict()
    layers = {
        layer.index: {each.name: tensors[f"{layer.index}.{each.name}"] for each in layer.parameters}
        for layer in preparation.layers
    }
    directory = run_dir / MODEL_FOLDER
    files = save_layers(directory, layers)
    files |= {name: sealed(directory / name) for name in save_index_of(directory, preparation, 0)}
    write_manifest(directory, manifest_of(preparation, 0, files))
