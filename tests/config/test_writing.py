"""A written config loads to an equal one."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipemlp.config import RunConfig, load_config
from pipemlp.config.paths import with_absolute_paths
from pipemlp.config.writing import config_text, write_config

CONFIGS = Path(__file__).parents[2] / "configs"
POSITIVE = st.integers(1, 10**9)
NUMBER = st.floats(1e-300, 1e300)
FRACTION = st.floats(0, 1, exclude_max=True)
TEXT = st.text(max_size=20)
AWKWARD = st.sampled_from(
    ["off", "1e-4", "1_000", "012", "null", "~", "", "true", "a: b", "#x", "- x", "<<", "=", "*x", "é ☃ 😀", "\x85",
     "\u2028", "\x7f", "a\nb", " x ", "'", '"', "\\", "0o7", ".inf", "@", "%", "`", "?", "--- x", "\ufeff", "\t", "...",
     "x" * 300 + " y" * 100]
)  # fmt: skip
NAME = TEXT.filter(lambda text: "\x00" not in text) | AWKWARD
BLOCK = st.sampled_from(["plain", "residual", {"name": "gated", "expansion": 1.5}])
GROUP = st.fixed_dictionaries({"width": POSITIVE}, optional={"repeat": POSITIVE, "block": BLOCK, "dropout": FRACTION})
VALUES = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"path": NAME | st.fixed_dictionaries({"train": NAME}, optional={"test": NAME})},
            optional={
                "source": st.sampled_from(["csv", {"name": "csv", "delimiter": "\t"}, {"name": "teacher", "rows": 3}]),
                "target": NAME | st.integers() | st.lists(NAME, max_size=3),
                "numeric": st.lists(NAME, max_size=3),
            },
        ),
        "model": st.fixed_dictionaries(
            {"hidden": st.lists(POSITIVE | GROUP, max_size=4) | st.just({"width": 8, "depth": 2})},
            optional={"block": BLOCK, "dropout": FRACTION},
        ),
    },
    optional={
        "loss": st.sampled_from(["auto", "mse"]) | st.builds(lambda delta: {"name": "huber", "delta": delta}, NUMBER),
        "optimizer": st.builds(lambda lr, betas: {"name": "adam", "lr": lr, "betas": betas}, NUMBER,
                               st.lists(FRACTION, min_size=2, max_size=2)),
        "training": st.fixed_dictionaries({}, optional={"steps": POSITIVE, "clip_norm": NUMBER}),
        "parallel": st.fixed_dictionaries({}, optional={"partition": st.lists(st.integers(0, 99)), "stages": POSITIVE}),
    },
)  # fmt: skip


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_come_back_equal(path, tmp_path):
    config = load_config(path)
    write_config(config, tmp_path / "config.resolved.yaml")
    assert load_config(tmp_path / "config.resolved.yaml") == config


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(values=VALUES)
def test_any_config_comes_back_equal(values, tmp_path):
    config = RunConfig.model_validate(values)
    write_config(config, tmp_path / "a.yaml")
    assert load_config(tmp_path / "a.yaml") == config


def test_says_what_it_is_and_leaves_nothing_out(folder):
    text = config_text(load_config(CONFIGS / "digits.yaml"))
    assert text.startswith("# PipeMLP configuration with every value written out")
    for line in ("  clip_norm: null", "    depth: 16", "  name: adamw", "  schedule: 1f1b", "precision: fp32"):
        assert f"{line}\n" in text
    assert text.index("run:") < text.index("data:") < text.index("parallel:")


def test_absolute_paths_let_the_file_move(write, folder):
    config = load_config(write("data: {path: x/*.csv}\nmodel: {hidden: [8]}\n", "configs/a.yaml"))
    moved = with_absolute_paths(config)
    assert moved.data.path == str(folder / "configs/x/*.csv")
    assert moved.where("data.path") == "configs/a.yaml:1"
    split = load_config(write("data: {path: {train: t.csv}}\nmodel: {hidden: [8]}\n", "configs/a.yaml"))
    assert with_absolute_paths(split).data.path.train == str(folder / "configs/t.csv")
    plain = load_config(write("", base=True))
    assert with_absolute_paths(plain) is plain
