"""The files that a checkpoint consists of."""

from pathlib import Path


def source_files(path: Path) -> list[Path]:
    """The file, or all files of the folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def source_size(path: Path) -> int:
    """The bytes of all files together."""
    return sum(file.stat().st_size for file in source_files(path))
