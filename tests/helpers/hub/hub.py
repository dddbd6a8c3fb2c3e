"""The Hub itself: its repos and blobs, who may do what, and what happened."""

import hashlib
import os
import threading
from pathlib import Path

from .git_repository import GitRepository
from .messages import Drop, Exchange, HubError

# Seconds that a client waits for an answer: those of huggingface_hub are too few on a machine that has much to do.
PATIENCE = 600
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


class Hub:
    """What a test sees.

    Attributes:
        endpoint: its address.
        token: of its only user, who may write to what is of `user` and of `organization`.
        log: all exchanges, oldest first.
    """

    user, organization, token = "tester", "org", "hf_test"

    def __init__(self, root: Path):
        self.root, self.endpoint = root, ""
        self.log: list[Exchange] = []
        self.lock = threading.RLock()
        self._repos: dict[tuple[str, str], GitRepository] = {}
        self._drops: list[Drop] = []

    def environment(self, home: Path, **changes: str) -> dict[str, str]:
        """For a fresh process that knows this Hub only: `home` holds its caches."""
        environment = {name: value for name, value in os.environ.items() if name not in _OFFLINE}
        return environment | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": str(PATIENCE),
            "HF_HUB_DOWNLOAD_TIMEOUT": str(PATIENCE),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **changes,
        }

    def requests(self, method: str, *parts: str) -> list[Exchange]:
        """What was asked with this method, of paths with all of these parts."""
        with_method = [exchange for exchange in self.log if exchange.method == method]
        return [exchange for exchange in with_method if all(part in exchange.path for part in parts)]

    def drop(self, method: str, part: str, after: int = 0, times: int = 1) -> None:
        """Plan that connections break, see `Drop`."""
        self._drops.append(Drop(method, part, after, times))

    def forget_drops(self) -> None:
        """Connections hold again."""
        self._drops.clear()

    def take_drop(self, method: str, path: str) -> Drop | None:
        """The plan for this request, if there is one; it counts as carried out."""
        with self.lock:
            for drop in self._drops:
                if drop.times and drop.method == method and drop.part in path:
                    drop.times -= 1
                    return drop
        return None

    def create_repo(self, kind: str, name: str, private: bool = False) -> GitRepository:
        """A new repo with its first commit."""
        repo = GitRepository.create(self._folder(kind, name), kind, name, private)
        self._repos[kind, name] = repo
        return repo

    def has_repo(self, kind: str, name: str) -> bool:
        return (kind, name) in self._repos

    def repo(self, kind: str, name: str, has_token: bool = True) -> GitRepository:
        """A repo; to those without the token, a private one is not there."""
        repo = self._repos.get((kind, name))
        if repo is None or (repo.private and not has_token):
            raise HubError(404 if has_token else 401, "Repository not found", "RepoNotFound")
        return repo

    def blob(self, sha256: str) -> Path:
        """Where an LFS file lies, or will."""
        return self.root / "lfs" / sha256

    def store_blob(self, sha256: str, content: bytes) -> None:
        """Keep an LFS file, if it is what it should be."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "sha256 mismatch")
        path = self.blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{sha256}.{threading.get_ident()}")
        partial.write_bytes(content)
        partial.replace(path)

    def _folder(self, kind: str, name: str) -> Path:
        return self.root / f"{kind}s" / f"{name}.git"
