"""Versions of packages, without importing them."""

from importlib.metadata import PackageNotFoundError, version

MEASURED_PACKAGES = ("torch", "deepspeed")


def package_version(name: str) -> str | None:
    """Of an installed package; None if it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def version_facts() -> dict[str, str]:
    """Of the libraries that do the work, by name: a profile holds for these."""
    return {name: package_version(name) or "missing" for name in MEASURED_PACKAGES}


def run_versions() -> dict[str, str]:
    """Of what decides the bits of a run, by name."""
    return {"pipemlp": package_version("pipemlp") or "missing", **version_facts()}
