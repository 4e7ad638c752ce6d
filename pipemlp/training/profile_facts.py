"""The versions that a profile holds for, without torch."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "deepspeed")


def version_facts() -> dict[str, str]:
    """Of the libraries that do the work, by name."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
