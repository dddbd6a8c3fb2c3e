"""The files below a folder, as people have them: links, hidden files, files that come and go."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from ..models.input_errors import printable

# The number of kinds of other files that a message names.
_KINDS_NAMED = 8
_OF_MACOS = ".DS_Store"


@dataclass
class Listing:
    """What a folder holds.

    Args:
        files: the paths of all files that are not left out, in alphabetical order, folder by folder.
        left_out: why others were left out → how many.
    """

    files: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def of_kinds(self, suffixes: Collection[str]) -> list[str]:
        """The files with one of the suffixes (small letters, with the dot), in order."""
        return [file for file in self.files if _suffix(file) in suffixes]

    def suffixes(self) -> Counter[str]:
        """Suffix → how many files have it."""
        return Counter(map(_suffix, self.files))

    def left_out_line(self, name: str, others: Iterable[str]) -> str:
        """What is left out, counted by kind, on one line; empty if nothing is.

        Args:
            name: of the folder, which the line begins with.
            others: the files that are left out too.
        """
        kinds = Counter(map(_suffix, others))
        # The most first, and of equals the suffixes in order, then what has none.
        named = sorted(kinds.items(), key=lambda kind: (-kind[1], not kind[0], kind[0]))[:_KINDS_NAMED]
        parts = [f"{count} {printable(suffix) or 'without a suffix'}" for suffix, count in named]
        if len(kinds) > len(named):
            parts.append(f"{kinds.total() - sum(count for _, count in named)} of other kinds")
        parts += [f"{count} {reason}" for reason, count in self.left_out.most_common()]
        return f"{name}: left out: {', '.join(parts)}" if parts else ""


def list_folder(folder: str | os.PathLike[str]) -> Listing:
    """List the files below a folder.

    Hidden files and folders (`.x`, `__MACOSX`) are left out, as `datasets` leaves them out. Links are followed; a
    folder that several links lead to is read once, so a link to a parent ends. A folder is a folder, whatever its
    suffix. What goes while it is read is left out.

    Raises:
        ValueError: if the folder itself cannot be read.
    """
    listing = Listing()
    try:
        os.scandir(folder).close()
        waiting, seen = [os.fspath(folder)], {_number(os.stat(folder))}
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror or error})") from error
    links: list[str] = []
    while waiting or links:
        if not waiting:  # links come after all real folders, in order: so a file has the same path each time
            link = links.pop(links.index(min(links)))
            if _is_new(link, seen):
                waiting.append(link)
            else:
                listing.left_out["links to a folder that is read already"] += 1
            continue
        for entry in _entries(waiting.pop(), listing):
            try:
                kind = _kind(entry)
            except OSError:  # a link to nothing, or gone since
                listing.left_out["links to nothing" if entry.is_symlink() else "gone"] += 1
                continue
            if kind == "file":
                listing.files.append(entry.path)
            elif kind == "folder" and entry.is_symlink():
                links.append(entry.path)
            elif kind == "folder":
                seen.add(_number(entry.stat()))
                waiting.append(entry.path)
            else:
                listing.left_out[kind] += 1
    # Folder by folder: "a/b" before "a-b", as paths are ordered.
    listing.files.sort(key=lambda file: file.replace(os.sep, "\0"))
    return listing


def _kind(entry: "os.DirEntry[str]") -> str:
    """Tell "folder" from "file", as which links count too, or say what is left out; OSError for a link to nothing."""
    if entry.name == _OF_MACOS:
        return _OF_MACOS
    if entry.name.startswith((".", "__")):
        return "hidden"
    if entry.is_symlink():
        entry.stat()
    if entry.is_dir():
        return "folder"
    return "file" if entry.is_file() else "neither files nor folders"


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether the folder that a link leads to is not read yet; then it counts as read."""
    try:
        number = _number(os.stat(folder))
    except OSError:
        return False
    is_new = number not in seen
    seen.add(number)
    return is_new


def _entries(folder: str, listing: Listing) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        listing.left_out["gone" if gone else f"folders that cannot be read ({error.strerror or error})"] += 1


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _number(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
