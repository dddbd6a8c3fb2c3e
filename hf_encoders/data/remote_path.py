"""Files and folders at a URL, such as s3://bucket/folder, through fsspec: as much of `pathlib.Path` as is needed here.

Keys and endpoints come from the environment, as the library of each store reads it: AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN, ...
"""

import datetime
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from ..models.input_errors import InputError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

_SIGN = "://"
_LOCAL = ("file", "local")
# Stores where a file appears when all of it is there; elsewhere it is written under another name and renamed.
_WHOLE = frozenset(["s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"])
# What installs the file system of a store; fsspec's own message is longer than a line.
_PACKAGES = {
    **dict.fromkeys(["s3", "s3a"], "s3fs"),
    **dict.fromkeys(["gs", "gcs"], "gcsfs"),
    **dict.fromkeys(["abfs", "abfss", "az", "adl"], "adlfs"),
}
# What stores call the time of the last change.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


_LOOKED_AT, _LISTED = "be looked at", "be listed"


class Status(NamedTuple):
    """What `os.stat` calls size, in bytes, and time of the last change, in nanoseconds; 0 where a store tells none."""

    st_size: int
    st_mtime_ns: int


def place_of(name: str) -> "Place":
    """A path on this machine, or at a URL. A URL that begins with file:// is on this machine."""
    if _SIGN not in name:
        return Path(name)
    parts = urlsplit(name)
    return Path(unquote(parts.path)) if parts.scheme in _LOCAL else RemotePath(name)


class RemotePath:
    """A file or folder at a URL.

    Args:
        url: such as s3://bucket/folder.

    Raises:
        OSError: from every method, if the store cannot be reached, or refuses; an InputError, too, if what reaches it
            is not installed.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __lt__(self, other: "RemotePath") -> bool:
        return self.url < other.url

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self.url)

    @property
    def parent(self) -> "RemotePath":
        """All but the last part."""
        return RemotePath(posixpath.dirname(self.url))

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return posixpath.splitext(self.url)[1]

    def exists(self) -> bool:
        """Whether something is there."""
        with self._asked(_LOOKED_AT) as (store, path):
            return bool(store.exists(path))

    def is_file(self) -> bool:
        """Whether a file is there."""
        with self._asked(_LOOKED_AT) as (store, path):
            return bool(store.isfile(path))

    def is_dir(self) -> bool:
        """Whether a folder is there; in a bucket, whether some names begin so."""
        with self._asked(_LOOKED_AT) as (store, path):
            return bool(store.isdir(path))

    def stat(self) -> Status:
        """Size and time of a file; FileNotFoundError where there is none."""
        with self._asked(_LOOKED_AT) as (store, path):
            return _status(store.info(path))

    def iterdir(self) -> Iterator["RemotePath"]:
        """What is in a folder."""
        with self._asked(_LISTED) as (store, path):
            found = store.ls(path, detail=False)
        return iter([self / posixpath.basename(each.rstrip("/")) for each in found])

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """What is in a folder under names of a pattern; nothing where there is no folder."""
        found = list(self.iterdir()) if self.is_dir() else []
        return iter([each for each in found if fnmatchcase(each.name, pattern)])

    def find(self) -> dict[str, Status]:
        """URL → status, of all files below the folder, or of those that the pattern matches."""
        with self._asked(_LISTED) as (store, path):
            is_pattern = any(sign in path for sign in "*?[")
            found: Mapping[str, Any] = store.glob(path, detail=True) if is_pattern else store.find(path, detail=True)
            files = {name: info for name, info in found.items() if info.get("type") != "directory"}
            return {str(store.unstrip_protocol(name)): _status(info) for name, info in files.items()}

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open a file to read."""
        with self._asked("be read") as (store, path):
            return cast(IO[bytes], store.open(path, mode))

    def read_bytes(self) -> bytes:
        """The content of a file."""
        with self._asked("be read") as (store, path):
            return bytes(store.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content of a file."""
        return self.read_bytes().decode(encoding)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        if missing_ok and not self.is_file():
            return
        with self._asked("be removed") as (store, path):
            store.rm_file(path)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a path on this machine to write to; at the end its file appears here, whole or not at all."""
        with tempfile.TemporaryDirectory(prefix="hf-encoders-") as folder:
            partial = Path(folder, self.name)
            yield partial
            with self._asked("be written") as (store, path):
                if self._protocol in _WHOLE:
                    store.put_file(str(partial), path)
                    return
                hidden = posixpath.join(posixpath.dirname(path), f".{self.name}.partial-{os.getpid()}")
                store.makedirs(posixpath.dirname(path), exist_ok=True)
                store.put_file(str(partial), hidden)
                store.mv(hidden, path)

    @property
    def _protocol(self) -> str:
        return self.url.partition(_SIGN)[0]

    @contextmanager
    def _asked(self, doing: str) -> Iterator[tuple["AbstractFileSystem", str]]:
        """The store and the path in it; whatever its library raises becomes an OSError on one line."""
        store, path = self._store()
        if self._protocol == "hf" and doing in (_LOOKED_AT, _LISTED):
            store.invalidate_cache()  # which it keeps all the same
        try:
            yield store, path
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url}: no such file, folder or bucket") from error
        except Exception as error:  # of the network, of the store: botocore's are no OSErrors
            raise OSError(f"{self.url}: cannot {doing} ({one_line(error)})") from error

    def _store(self) -> tuple["AbstractFileSystem", str]:
        import fsspec

        try:
            # Without its cache, in which a store does not see what another process wrote.
            store, path = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            package = _PACKAGES.get(self._protocol)
            needs = f"pip install {package}" if package else one_line(error)
            raise InputError(path=self.url, reason=f"needs a package that is not installed ({needs})") from error
        except ValueError as error:
            raise InputError(path=self.url, reason=f"no kind of URL that is known ({one_line(error)})") from error
        except Exception as error:
            raise OSError(f"{self.url}: cannot be reached ({one_line(error)})") from error
        return store, str(path)


# On this machine, or at a URL.
Place: TypeAlias = Path | RemotePath


def read_all(urls: Iterable[str]) -> dict[str, bytes | None]:
    """URL → content, of files of one store, read at the same time; None for those that are not there.

    Raises:
        OSError: if one cannot be read.
    """
    wanted = list(urls)
    if not wanted:
        return {}
    with RemotePath(wanted[0])._asked("be read") as (store, _):
        paths = {RemotePath(url)._store()[1]: url for url in wanted}
        found = store.cat(list(paths), on_error="return")
    contents: dict[str, bytes | None] = {}
    for path, url in paths.items():
        content = found[path]
        if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
            raise OSError(f"{url}: cannot be read ({one_line(content)})") from content
        contents[url] = None if isinstance(content, Exception) else bytes(content)
    return contents


def _status(info: Mapping[str, Any]) -> Status:
    return Status(int(info.get("size") or 0), next((_nanoseconds(info[name]) for name in _TIMES if info.get(name)), 0))


def _nanoseconds(time: object) -> int:
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime.datetime) else float(cast(float, time))
    return round(seconds * 1e6) * 1000
