"""What people send to the page: kept in one temporary folder, and removed."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SENT, _WORK, _READY = "sent", "work", "ready"
_HOUR = 3600.0  # seconds


@contextmanager
def temporary_uploads() -> Iterator["Uploads"]:
    """Give a folder for what people send, and remove it at the end.

    Gradio reads where to keep files, and whether to tell its makers about them, when it is imported: that comes later.
    """
    with tempfile.TemporaryDirectory(prefix="hf-encoders-demo-", ignore_cleanup_errors=True) as folder:
        uploads = Uploads(Path(folder))
        os.environ |= {"GRADIO_TEMP_DIR": str(uploads.sent), "GRADIO_ANALYTICS_ENABLED": "False"}
        yield uploads


class Uploads:
    """A temporary folder: files as they are sent, files at work, and results to be fetched.

    Args:
        root: the folder. Everything in it may be removed.
        lifetime: seconds that files at work and results stay.
    """

    def __init__(self, root: Path, lifetime: float = _HOUR):
        self.root, self.lifetime = root.resolve(), lifetime
        for name in (_SENT, _WORK, _READY):
            (self.root / name).mkdir(exist_ok=True)

    @property
    def sent(self) -> Path:
        """Where Gradio puts what is sent."""
        return self.root / _SENT

    def new_folder(self) -> Path:
        """A folder to work in."""
        return Path(tempfile.mkdtemp(dir=self.root / _WORK))

    def take(self, sent: str) -> Path:
        """Link a file that was sent into a folder of its own, where nothing of the page leads.

        Gradio keeps equal files at one place: what one person sent another may be sending again, so that it is Gradio
        that removes it, some minutes later.

        Raises:
            FileNotFoundError: if it is none of those that were sent, or is there no more.
        """
        path = Path(sent).resolve()
        if not path.is_relative_to(self.sent) or not path.is_file():
            raise FileNotFoundError(f"{path.name}: no file that was sent, or it is there no more; send it again")
        taken = self.new_folder() / path.name
        try:
            os.link(path, taken)
        except OSError:  # a file system without links
            shutil.copyfile(path, taken)
        return taken

    def drop(self, taken: Path) -> None:
        """Remove a file that was taken, and all beside it."""
        shutil.rmtree(taken.parent, ignore_errors=True)

    @contextmanager
    def reading(self, sent: str) -> Iterator[Path]:
        """Take a file for as long as it is read."""
        taken = self.take(sent)
        try:
            yield taken
        finally:
            self.drop(taken)

    def offer(self, result: Path) -> "Offer":
        """Move a result to where it is fetched from; its key is known to whoever is told it."""
        key = secrets.token_urlsafe(24)
        folder = self.root / _READY / key
        folder.mkdir()
        os.replace(result, folder / result.name)
        return Offer(key, result.name, (folder / result.name).stat().st_size)

    def offered(self, key: str, name: str) -> Path | None:
        """The result of a key, if it is still there."""
        folder = self.root / _READY
        path = (folder / key / name).resolve()
        is_one = path.parent.parent == folder and path.is_file()
        return path if is_one else None

    def sweep(self) -> None:
        """Remove what is older than its lifetime: files at work, results, and the empty files that Gradio leaves."""
        empty = [path for path in self.sent.iterdir() if path.is_file()]
        for path in [*empty, *(self.root / _WORK).iterdir(), *(self.root / _READY).iterdir()]:
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
            if age > self.lifetime and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif age > self.lifetime:
                path.unlink(missing_ok=True)

    def without_places(self, message: str) -> str:
        """A message without the names of the folders here."""
        for place in (self.root / _SENT, self.root / _WORK, self.root / _READY):
            while (start := message.find(f"{place}{os.sep}")) >= 0:
                end = start + len(str(place)) + 1
                folder_end = message.find(os.sep, end)
                message = message[:start] + message[folder_end + 1 if folder_end >= 0 else end :]
        return message


@dataclass(frozen=True)
class Offer:
    """A result that can be fetched.

    Args:
        key: what whoever fetches it must know.
        name: of the file.
        size: in bytes.
    """

    key: str
    name: str
    size: int
