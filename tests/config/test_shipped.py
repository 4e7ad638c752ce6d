"""The configs that come with PipeMLP load, and mean what they are there to show."""

from pathlib import Path

import pytest

from pipemlp.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_loads_and_says_what_it_is(path):
    load_config(path)
    assert path.read_text().startswith(f"# configs/{path.name}: ")


def test_digits():
    config = load_config(CONFIGS / "digits.yaml")
    assert (config.model.hidden.width, config.model.hidden.depth, config.model.block.name) == (128, 16, "residual")
    assert (config.parallel.stages, config.parallel.micro_batches, config.parallel.zero_stage) == (2, 4, 1)
    assert (config.optimizer.lr, config.lr_schedule.warmup_steps) == (1e-3, 20)


def test_data_parallel_is_the_textbook_example():
    config = load_config(CONFIGS / "data_parallel.yaml")
    source = config.data.source
    assert (source.inputs, source.outputs, config.model.hidden) == (100, 10, ())
    assert (config.loss.name, config.optimizer.name, config.optimizer.lr) == ("mse", "sgd", 0.01)
    assert config.training.global_batch_size // config.parallel.data_parallel == 16
    assert (config.training.epochs, config.parallel.stages, config.parallel.data_parallel) == (10, 1, 2)


def test_large_keeps_its_size_in_the_file():
    config = load_config(CONFIGS / "large_8gpu.yaml")
    assert sum(group.repeat for group in config.model.hidden) == 30
    assert config.parallel.stages * config.parallel.data_parallel == 8


def test_a_table_takes_eight_lines():
    lines = (CONFIGS / "table.yaml").read_text().splitlines()
    assert len(lines) == 8
    config = load_config(CONFIGS / "table.yaml")
    table = config.base_dir / config.data.path
    header, *rows = table.read_text().splitlines()
    assert config.data.target in header.split(",")
    assert len(rows) == 200 and len({len(row.split(",")) for row in rows}) == 1
    assert table.stat().st_size < 15_000


def test_batches_divide():
    for path in CONFIGS.glob("*.yaml"):
        config = load_config(path)
        parallel = config.parallel
        slices = parallel.data_parallel * (1 if parallel.micro_batches == "auto" else parallel.micro_batches)
        assert config.training.global_batch_size % slices == 0, path.name
