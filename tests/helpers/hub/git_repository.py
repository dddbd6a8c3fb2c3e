"""One repo of the Hub: a bare git repository, read and written through the `git` command."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .messages import HubError

_LFS_PATTERNS = (
    "*.safetensors *.bin *.pt *.pth *.ckpt *.onnx *.npy *.npz *.parquet *.arrow *.tar *.gz *.zip *.png *.jpg".split()
)
_GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS)
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")
_POINTER_SIZES = range(120, 150)  # in bytes; only such blobs are looked into
_FIELD, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True)
class Entry:
    """A file or directory of a revision."""

    path: str
    is_file: bool
    oid: str
    size: int  # of the content, for LFS files too
    sha256: str | None = None  # of LFS files
    pointer_size: int = 0

    @property
    def lfs(self) -> dict[str, Any]:
        return {"size": self.size, "pointerSize": self.pointer_size, "sha256": self.sha256, "oid": self.sha256}

    def describe(self) -> dict[str, Any]:
        kind = "file" if self.is_file else "directory"
        description = {"type": kind, "oid": self.oid, "size": self.size, "path": self.path}
        return description | ({"lfs": self.lfs} if self.sha256 else {})


class GitRepository:
    """A repo that exists.

    Args:
        folder: of the bare repository.
        kind: "model" or "dataset".
        name: such as "org/name".
    """

    def __init__(self, folder: Path, kind: str, name: str):
        self.folder, self.kind, self.name = folder, kind, name
        self._entries: dict[str, dict[str, Entry]] = {}

    @classmethod
    def create(cls, folder: Path, kind: str, name: str, private: bool) -> "GitRepository":
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", str(folder)], check=True)
        if private:
            (folder / "hub-private").touch()
        repo = cls(folder, kind, name)
        repo.commit("refs/heads/main", None, "initial commit", [(".gitattributes", _GITATTRIBUTES.encode())])
        return repo

    @property
    def private(self) -> bool:
        return (self.folder / "hub-private").exists()

    @property
    def path(self) -> str:
        """Of its address."""
        return f"datasets/{self.name}" if self.kind == "dataset" else self.name

    def git(self, *words: str, stdin: bytes = b"", check: bool = True) -> bytes:
        """What a git command prints; nothing if it fails and that is not to be checked."""
        environment = os.environ | {"GIT_DIR": str(self.folder), "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
        done = subprocess.run(["git", *words], input=stdin, capture_output=True, env=environment)
        if check and done.returncode:
            raise HubError(500, f"git {words[0]}: {done.stderr.decode()}")
        return b"" if done.returncode else done.stdout

    def commit_of(self, revision: str) -> str:
        """The commit of a branch, tag, commit or full reference."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if found := self.git("rev-parse", "--verify", "-q", "--end-of-options", f"{name}^{{commit}}", check=False):
                return found.decode().strip()
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def entries(self, commit: str) -> dict[str, Entry]:
        """Path → file or directory, at all depths."""
        if commit not in self._entries:
            lines = self.git("ls-tree", "-r", "-t", "--long", "-z", commit).decode().split("\0")[:-1]
            self._entries[commit] = {entry.path: entry for entry in map(self._parse, lines)}
        return self._entries[commit]

    def _parse(self, line: str) -> Entry:
        fields, path = line.split("\t", 1)
        _, kind, oid, size = fields.split()
        if kind == "tree":
            return Entry(path, False, oid, 0)
        if int(size) in _POINTER_SIZES and (pointer := _POINTER.fullmatch(self.read(oid))):
            return Entry(path, True, oid, int(pointer[2]), pointer[1].decode(), int(size))
        return Entry(path, True, oid, int(size))

    def read(self, oid: str) -> bytes:
        return self.git("cat-file", "blob", oid)

    def commit(self, ref: str, parent: str | None, message: str, changes: Sequence[tuple[str, bytes | None]]) -> str:
        """Write all changes or none; None deletes a file or folder."""
        text = message.encode()
        script = [f"commit {ref}\ncommitter tester <tester@localhost> {int(time.time())} +0000\n".encode()]
        script.append(b"data %d\n%s\n" % (len(text), text))
        if parent:
            script.append(f"from {parent}\n".encode())
        for path, content in changes:
            if path.startswith("/") or ".." in path.split("/") or "\n" in path or '"' in path:
                raise HubError(400, f"Invalid path: {path}")
            if content is None:
                script.append(f"D {path}\n".encode())
            else:
                script.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
        self.git("fast-import", "--quiet", "--date-format=raw", stdin=b"".join(script))
        return self.commit_of(ref)

    def log(self, commit: str) -> Iterator[dict[str, Any]]:
        """Newest first."""
        form = "%x1f".join(["%H", "%an", "%ct", "%s", "%b"]) + "%x1e"
        for record in self.git("log", f"--format={form}", commit).decode().split(_RECORD)[:-1]:
            oid, author, seconds, title, body = record.lstrip("\n").split(_FIELD)
            date = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            yield {"id": oid, "title": title, "message": body.strip(), "authors": [{"user": author}], "date": date}


def is_lfs_name(name: str) -> bool:
    """Whether files of this name go to LFS, whatever they hold."""
    return any(name.endswith(pattern[1:]) for pattern in _LFS_PATTERNS)


def pointer_to(sha256: str, size: int) -> bytes:
    """What git holds instead of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
