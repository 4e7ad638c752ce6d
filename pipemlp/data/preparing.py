"""From the configuration to prepared data: open, choose columns, check every value, split, fit.

    open ──► columns ──► text or number ──► facts ──► task ──► checks ──► split ──► fit ──► checks against the model

For rows that come from files the outcome is kept in the cache folder under a key of the files' content and
of all that it depends on, so that further processes and later starts look at no row.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipemlp.config.data import SplitPaths
from pipemlp.config.errors import DataError
from pipemlp.config.root import RunConfig
from pipemlp.data.fitting.against_model import check_against_model
from pipemlp.data.fitting.checks import check_values, rows_without_gaps, settle_kinds
from pipemlp.data.fitting.columns import choose_columns
from pipemlp.data.fitting.facts import gather_facts
from pipemlp.data.fitting.fit import fit
from pipemlp.data.fitting.preprocessing import Preprocessing
from pipemlp.data.fitting.task import check_targets, infer_task
from pipemlp.data.origins.opening import open_source
from pipemlp.data.origins.source import SPLITS, Split
from pipemlp.data.prepared import ColumnNames, PreparedData, data_fingerprint
from pipemlp.data.problems import Problems, counted
from pipemlp.data.shards.cache import Progress, build_once
from pipemlp.data.shards.ingest import different_columns
from pipemlp.data.splits import Splits, separate_tables, split_table
from pipemlp.data.table import Table
from pipemlp.planning.shapes import DataShape, task_of_loss

_FIT_VERSION = 1


class _Fitted(NamedTuple):
    """What is decided from the rows, and kept in the cache."""

    preprocessing: Preprocessing
    weight: str | None
    notes: tuple[str, ...]
    kept: dict[Split, np.ndarray | None]
    parsed: dict[Split, list[str]]


def prepare(config: RunConfig, base_dir: Path, progress: Progress | None = None) -> PreparedData:
    """Open the data of a configuration, check all of it, and fit the preprocessing on the training rows.

    Args:
        config: the whole configuration; sections `data`, `loss`, `model` and `training` are read.
        base_dir: folder of the configuration file; relative paths start there.
        progress: told what is being done, and how far it is (0 to 1).

    Raises:
        ConfigError: the configuration contradicts the data.
        DataError: the data are missing, damaged or do not fit. Each message begins with its key.
    """
    tables = _open_tables(config, base_dir, progress)
    made_from = [
        _FIT_VERSION,
        {split: table.fingerprint for split, table in tables.items()},
        config.data.model_dump(mode="json", exclude={"path"}),
        config.model_dump(mode="json", include={"loss"}),
        config.model.output_width,
    ]
    key = data_fingerprint(made_from)
    if all(table.is_cached for table in tables.values()):
        folder = build_once(f"fit-{key}", lambda partial: _save(_decide(config, tables, progress), partial))
        fitted = _load(folder, tables)
    else:
        fitted = _decide(config, tables, progress)
    splits = _split(config, tables, fitted.kept)
    learned = fitted.preprocessing
    width = len(learned.class_labels) or (len(learned.numeric) if learned.is_autoencoder else len(learned.targets))
    shape = DataShape(
        num_numeric=len(learned.numeric),
        cardinalities=learned.cardinalities,
        output_width=width,
        task=learned.task,
        num_rows=(splits.num_rows("train"), splits.num_rows("validation"), splits.num_rows("test")),
    )
    check_against_model(config, shape, learned)
    return PreparedData(
        shape=shape,
        preprocessing=learned,
        columns=ColumnNames(learned.numeric, learned.categorical, learned.targets, fitted.weight),
        notes=fitted.notes,
        fingerprint=key,
        splits=splits,
    )


def _open_tables(config: RunConfig, base_dir: Path, progress: Progress | None) -> dict[Split, Table]:
    """One table per split, or one for all under `train`."""
    path = config.data.path
    wanted: list[Split] = ["train"]
    if isinstance(path, SplitPaths):
        wanted = [split for split in SPLITS if getattr(path, split) is not None]
    problems = Problems()
    tables: dict[Split, Table] = {}
    for split in wanted:
        try:
            tables[split] = Table(open_source(config.data, base_dir, split, progress))
        except DataError as error:
            for message in error.messages:
                problems.data(message)
    problems.raise_if_any()
    for split, table in tables.items():
        if table.num_rows < 1:
            problems.data(f"data.source: the source of the {split} split has no rows")
        missing = [name for name in tables["train"].kinds if name not in table.kinds]
        extra = [name for name in table.kinds if name not in tables["train"].kinds]
        if missing or extra:
            problems.data(f"data.path.{split}: {different_columns(missing, extra, 'the training files')}")
    problems.raise_if_any()
    return tables


def _decide(config: RunConfig, tables: dict[Split, Table], progress: Progress | None) -> _Fitted:
    """Everything that takes a look at the rows."""
    problems, notes, data, main = Problems(), list[str](), config.data, tables["train"]
    choice = choose_columns(data, main, problems, notes)
    problems.raise_if_any()
    kinds = {split: dict(table.kinds) for split, table in tables.items()}
    reported = {
        split: settle_kinds(table, choice, data, task_of_loss(config.loss), main, problems)
        for split, table in tables.items()
    }
    facts = {split: gather_facts(table, choice.used, progress) for split, table in tables.items()}
    task = infer_task(config.loss, choice, main, facts["train"], problems, notes)
    for split, table in tables.items():
        if split != "train":
            check_targets(config.loss, task, choice, table, facts[split], problems)
        check_values(table, facts[split], choice, data, reported[split], problems)
    problems.raise_if_any()
    kept: dict[Split, np.ndarray | None] = dict.fromkeys(tables)
    if data.missing == "drop":
        for split, table in tables.items():
            rows = rows_without_gaps(table, facts[split], choice)
            kept[split] = rows
            if rows is not None:
                dropped = counted(table.num_rows - len(rows), "row")
                notes.append(f"data.missing: {dropped} with missing values dropped, {len(rows):,} left")
                if not len(rows):
                    problems.data(f"data.missing: drop leaves no row of {table.num_rows:,}")
    problems.raise_if_any()
    splits = _split(config, tables, kept)
    if splits.num_rows("train") == 0:
        problems.data("data.split: no row is left for training; make the other splits smaller")
        problems.raise_if_any()
    learned = fit(config, choice, task, splits, problems, notes, progress)
    problems.raise_if_any()
    parsed = {
        split: [name for name, kind in table.kinds.items() if kind != kinds[split][name]]
        for split, table in tables.items()
    }
    return _Fitted(learned, choice.weight, tuple(notes), kept, parsed)


def _split(config: RunConfig, tables: dict[Split, Table], kept: dict[Split, np.ndarray | None]) -> Splits:
    if isinstance(config.data.path, SplitPaths):
        return separate_tables(tables, kept)
    return split_table(tables["train"], kept["train"], config.data.split, config.data.split_seed)


def _save(fitted: _Fitted, folder: Path) -> None:
    for split, rows in fitted.kept.items():
        if rows is not None:
            np.save(folder / f"kept-{split}.npy", rows)
    content: dict[str, Any] = {
        "preprocessing": fitted.preprocessing.to_json(),
        "weight": fitted.weight,
        "notes": fitted.notes,
        "parsed": fitted.parsed,
    }
    (folder / "fit.json").write_text(json.dumps(content))


def _load(folder: Path, tables: dict[Split, Table]) -> _Fitted:
    content = json.loads((folder / "fit.json").read_text())
    kept: dict[Split, np.ndarray | None] = {}
    for split, table in tables.items():
        file = folder / f"kept-{split}.npy"
        kept[split] = np.load(file, mmap_mode="r") if file.exists() else None
        for name in content["parsed"][split]:
            if table.kinds[name] == "category":
                table.treat_as_numbers(name)
    preprocessing = Preprocessing.from_json(content["preprocessing"])
    return _Fitted(preprocessing, content["weight"], tuple(content["notes"]), kept, content["parsed"])
