"""From `data.path` to the files it names, with a message for every way in which it can name none."""

import difflib
import glob
from pathlib import Path

from pipemlp.config.errors import ConfigError, DataError
from pipemlp.config.registry import options_of
from pipemlp.config.section import Named

_ENDINGS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".npy": "npy", ".npz": "npz"}
FILE_SOURCES = ("csv", "parquet", "npy", "npz")


def find_files(path: str, base_dir: Path, key: str = "data.path") -> tuple[Path, ...]:
    """The files that `path` (a file or a glob) names, sorted; looked for in `base_dir`, then in the current folder.

    Raises:
        DataError: no such file, a directory, or a glob that matches nothing.
    """
    places = [Path(path)] if Path(path).is_absolute() else _distinct([base_dir / path, Path.cwd() / path])
    folders = " and ".join(str(place.parent if Path(path).is_absolute() else _folder(place, path)) for place in places)
    for place in places:
        if place.is_file():
            return (place.resolve(),)
        if any(mark in path for mark in "*?["):
            found = sorted(Path(match) for match in glob.glob(str(place), recursive=True))
            files = tuple(file.resolve() for file in found if file.is_file())
            if files:
                return files
    for place in places:
        if place.is_dir():
            raise DataError(f"{key}: {path}: is a directory; name a file, or a glob such as {path.rstrip('/')}/*.csv")
    if any(mark in path for mark in "*?["):
        raise DataError(f"{key}: {path}: the glob matches no file (looked in {folders})")
    raise DataError(f"{key}: {path}: no such file (looked in {folders}){_nearest(places)}")


def source_of(files: tuple[Path, ...], key: str = "data.path") -> Named:
    """The options of the source that the ending of the files stands for.

    Raises:
        ConfigError: unknown ending, or several.
    """
    endings = sorted({file.suffix.lower() for file in files})
    if len(endings) > 1:
        raise ConfigError(f"{key}: files with several endings ({', '.join(endings)}); name files of one kind")
    name = _ENDINGS.get(endings[0])
    if name is None:
        raise ConfigError(
            f"{key}: {files[0].name}: unknown ending {endings[0] or '(none)'}; use one of "
            f"{', '.join(_ENDINGS)}, or set data.source to one of {', '.join(FILE_SOURCES)}"
        )
    return options_of("source", name)(name=name)


def _distinct(places: list[Path]) -> list[Path]:
    return places[:1] if places[0].absolute() == places[1].absolute() else places


def _folder(place: Path, path: str) -> Path:
    return Path(str(place.absolute())[: -len(str(Path(path)))])


def _nearest(places: list[Path]) -> str:
    for place in places:
        if place.parent.is_dir():
            names = [entry.name for entry in place.parent.iterdir()]
            close = difflib.get_close_matches(place.name, names, n=1, cutoff=0.8)
            if close:
                return f"; did you mean {close[0]}?"
    return ""
