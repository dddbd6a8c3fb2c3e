"""What is in a repo, and its files."""

from typing import Any
from urllib.parse import parse_qs, quote

from .git_repository import GitRepository
from .hub import Hub
from .messages import Answer, HubError, Request
from .routes import route


@route("GET", "{api}/tree/{revision}(?:/{path})?")
def tree(hub: Hub, request: Request, repo: GitRepository, revision: str, path: str) -> Answer:
    commit, path = repo.commit_of(revision), path.strip("/")
    entries = repo.entries(commit)
    if path and (path not in entries or entries[path].is_file):
        raise HubError(404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    prefix = f"{path}/" if path else ""
    deep = request.asks_for("recursive")
    below = [
        entry
        for name, entry in entries.items()
        if name.startswith(prefix) and (deep or "/" not in name.removeprefix(prefix))
    ]
    extra = _last_commit(repo, commit, request.asks_for("expand"))
    return Answer([entry.describe() | extra for entry in below])


@route("POST", "{api}/paths-info/{revision}")
def paths_info(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    form = parse_qs(request.body.decode())
    paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
    commit = repo.commit_of(revision)
    entries, extra = repo.entries(commit), _last_commit(repo, commit, expand)
    return Answer([entries[path.strip("/")].describe() | extra for path in paths if path.strip("/") in entries])


@route("GET", "{web}/resolve/{revision}/{path}")
def resolve(hub: Hub, request: Request, repo: GitRepository, revision: str, path: str) -> Answer:
    commit = repo.commit_of(revision)
    entry = repo.entries(commit).get(path)
    if entry is None or not entry.is_file:
        raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
    headers: dict[str, Any] = {
        "X-Repo-Commit": commit,
        "ETag": f'"{entry.sha256 or entry.oid}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
    }
    if entry.sha256:
        headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": entry.size}
    content = hub.blob(entry.sha256).read_bytes() if entry.sha256 else repo.read(entry.oid)
    return Answer(content, headers=headers, content_type="application/octet-stream")


def _last_commit(repo: GitRepository, commit: str, wanted: bool) -> dict[str, Any]:
    """The newest commit stands for that of each file."""
    if not wanted:
        return {}
    newest = next(repo.log(commit))
    return {"lastCommit": {name: newest[name] for name in ("id", "title", "date")}}
