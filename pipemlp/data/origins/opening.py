"""From the configuration to an open source: bundled, synthetic, files, or a plug-in's own."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipemlp.config.data import DataConfig, SplitPaths, Teacher
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.config.registry import register_name
from pipemlp.config.section import Named
from pipemlp.data.files.numpy_files import open_npy
from pipemlp.data.files.paths import FILE_SOURCES, find_files, source_of
from pipemlp.data.origins.bundled import BUNDLED_SOURCES, open_bundled
from pipemlp.data.origins.source import Column, Source, Split
from pipemlp.data.origins.teacher import TeacherSource
from pipemlp.data.shards.cache import Progress, build_once, content_hash
from pipemlp.data.shards.ingest import FORMAT_VERSION, ingest
from pipemlp.data.shards.mapped import MappedBlock, ShardSource, open_ingested

Factory = Callable[[Named, Path | None], Source]
_factories: dict[str, Factory] = {}


def register_source(name: str, options: type[Named] | None = None) -> Callable[[Factory], Factory]:
    """Decorator: make `data.source: NAME` open what `factory(options, path)` returns.

    Args:
        name: how a configuration names the source.
        options: the model of its keys; none but `name` when left out.

    The factory gets the validated options, and `data.path` made absolute (None when it is not given);
    it returns a `Source` and may raise `DataError`.
    """
    register_name("source", name, options)

    def enter(factory: Factory) -> Factory:
        _factories[name] = factory
        return factory

    return enter


def open_source(
    config: DataConfig, base_dir: Path, split: Split | None = None, progress: Progress | None = None
) -> Source:
    """The rows of `data.path` (of one split where it names a file per split), or of a source without files.

    Args:
        config: the section `data`.
        base_dir: folder of the configuration file; relative paths start there.
        split: which of the files, where `data.path` names one per split.
        progress: told what is being done, and how far it is (0 to 1).

    Raises:
        ConfigError: the path does not go with the source.
        DataError: the files are missing or damaged.
    """
    key, path = "data.path", config.path
    if isinstance(path, SplitPaths):
        key = f"data.path.{split}"
        path = getattr(path, split or "train")
    name = None if isinstance(config.source, str) else config.source.name
    if name is None or name in FILE_SOURCES:
        if path is None:
            raise ConfigError(f"{key}: source {name} needs a file; give its path")
        files = find_files(path, base_dir, key)
        options = source_of(files, key) if isinstance(config.source, str) else config.source
        try:
            return _open_files(options, files, progress)
        except DataError as error:
            known = ("data:", "data.")
            raise DataError(line if line.startswith(known) else f"{key}: {line}" for line in error.messages) from None
    if name in BUNDLED_SOURCES or isinstance(config.source, Teacher):
        if path is not None:
            raise ConfigError(f"{key}: {path}: source {name} reads no file; remove data.path or data.source")
        return TeacherSource(config.source) if isinstance(config.source, Teacher) else open_bundled(name)
    if name not in _factories:
        raise ConfigError(f"data.source: {name}: known by name, but nothing opens it; load its plug-in with --plugin")
    assert isinstance(config.source, Named)
    return _factories[name](config.source, None if path is None else (base_dir / path).absolute())


def _open_files(options: Named, files: tuple[Path, ...], progress: Progress | None) -> ShardSource:
    hashes = [content_hash(file, progress) for file in files]
    delimiter = getattr(options, "delimiter", ",")
    names = [file.name for file in files]
    text = repr((FORMAT_VERSION, options.name, delimiter, hashes))
    fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    if options.name == "npy" and len(files) == 1:
        return _map_npy(files[0], fingerprint)
    # The names are part of the entry, not of the fingerprint: messages show them, numbers do not depend on them.
    entry = hashlib.blake2b(repr((fingerprint, names)).encode(), digest_size=16).hexdigest()
    folder = build_once(entry, lambda partial: ingest(options.name, files, delimiter, partial, progress=progress))
    return open_ingested(folder, fingerprint)


def _map_npy(file: Path, fingerprint: str) -> ShardSource:
    """An npy file is random access already; it is mapped where it lies."""
    array = open_npy(file)
    if 0 in array.shape:
        raise DataError(f"{file.name}: an array of shape {array.shape}, no rows or no columns in it")
    names = tuple(str(index) for index in range(array.shape[1]))
    columns = tuple(Column(name, "number") for name in names)
    blocks = (MappedBlock(names, array),)
    return ShardSource(blocks, columns, {}, [(file.name, len(array))], ("row", 1), fingerprint)
