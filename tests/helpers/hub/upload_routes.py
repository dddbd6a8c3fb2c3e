"""How files get into a repo: which go to LFS, their blobs, and the commit that names them all at once."""

import base64
import json
from fnmatch import fnmatch

from .git_repository import Entry, GitRepository, is_lfs_name, pointer_to
from .hub import Hub
from .messages import Answer, HubError, Request
from .ref_routes import open_pull_request
from .routes import route

_LARGE = 10 * 2**20  # bytes; larger files go to LFS on the real Hub too


@route("POST", "{api}/preupload/{revision}", needs_token=True)
def preupload(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    entries = repo.entries(repo.commit_of(revision))
    asked = request.json()
    ignored = [line for line in (asked.get("gitIgnore") or "").splitlines() if line and not line.startswith("#")]

    def advise(path: str, size: int, sample: bytes) -> dict[str, object]:
        name, old = path.rpartition("/")[2], entries.get(path)
        lfs = is_lfs_name(name) or size > _LARGE or b"\0" in sample
        return {
            "path": path,
            "uploadMode": "lfs" if lfs else "regular",
            "shouldIgnore": any(fnmatch(name, pattern) or fnmatch(path, pattern) for pattern in ignored),
            "oid": (old.sha256 or old.oid) if old else None,
        }

    files = asked["files"]
    return Answer({"files": [advise(file["path"], file["size"], base64.b64decode(file["sample"])) for file in files]})


@route("POST", r"{web}\.git/info/lfs/objects/batch", needs_token=True)
def lfs_batch(hub: Hub, request: Request, repo: GitRepository) -> Answer:
    objects = []
    for asked in request.json()["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if not hub.blob(asked["oid"]).exists():  # without "actions", the client knows that it is there
            upload = {"href": f"{request.base}/_lfs/{asked['oid']}"}
            answer["actions"] = {"upload": upload, "verify": {"href": f"{request.base}/_lfs/verify"}}
        objects.append(answer)
    return Answer({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")


@route("PUT", "/_lfs/{name}")  # without a token: on the real Hub, the address is signed
def lfs_put(hub: Hub, request: Request, name: str) -> Answer:
    hub.store_blob(name, request.body)
    return Answer({})


@route("POST", "/_lfs/verify", needs_token=True)
def lfs_verify(hub: Hub, request: Request) -> Answer:
    asked = request.json()
    if not hub.blob(asked["oid"]).exists():
        raise HubError(404, "object not found")
    return Answer({})


@route("POST", "{api}/commit/{revision}", needs_token=True)
def commit(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    header, *items = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    asked = header["value"]
    parent = repo.commit_of(revision)
    if asked.get("parentCommit") and not parent.startswith(asked["parentCommit"]):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    entries = repo.entries(parent)
    changes = [_change(hub, entries, item["key"], item["value"]) for item in items]
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    message = "\n\n".join(part for part in (asked["summary"], asked.get("description")) if part)
    address = f"{request.base}/{repo.path}"
    answer = {"success": True, "hookOutput": ""}
    if "create_pr" in request.query:
        number = open_pull_request(repo)
        ref = f"refs/pr/{number}"
        answer["pullRequestUrl"] = f"{address}/discussions/{number}"
    oid = repo.commit(ref, parent, message, changes)
    return Answer(answer | {"commitOid": oid, "commitUrl": f"{address}/commit/{oid}"})


def _change(hub: Hub, entries: dict[str, Entry], key: str, value: dict[str, str]) -> tuple[str, bytes | None]:
    path = value["path"].rstrip("/")
    if key == "file":
        return path, base64.b64decode(value["content"])
    if key == "lfsFile":
        blob = hub.blob(value["oid"])
        if not blob.exists():
            raise HubError(400, f"LFS object {value['oid']} was not uploaded")
        return path, pointer_to(value["oid"], blob.stat().st_size)
    if key not in ("deletedFile", "deletedFolder"):
        raise HubError(400, f"unknown key {key}")
    if path not in entries:
        raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    return path, None
