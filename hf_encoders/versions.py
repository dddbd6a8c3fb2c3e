"""Versions of libraries, for reports and manifests: numbers can depend on them."""

from collections.abc import Iterable
from importlib.metadata import version


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Name → version of installed distributions."""
    return {name: version(name) for name in names}
