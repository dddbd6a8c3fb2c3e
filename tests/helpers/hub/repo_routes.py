"""The account, and what is known of repos."""

import re
from typing import Any

import yaml

from .git_repository import GitRepository
from .hub import Hub
from .messages import Answer, HubError, Request
from .routes import route

_CARD_HEADER = re.compile(r"---\r?\n(.*?)\r?\n---", re.S)
_NO_ID = "0" * 24


@route("GET", "/api/whoami-v2", needs_token=True)
def who_am_i(hub: Hub, request: Request) -> Answer:
    organization = {"type": "org", "name": hub.organization, "fullname": hub.organization, "roleInOrg": "admin"}
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return Answer(
        {"type": "user", "id": _NO_ID, "name": hub.user, "fullname": hub.user, "isPro": False, "auth": token}
        | {"orgs": [organization]}
    )


@route("POST", "/api/repos/create", needs_token=True)
def create(hub: Hub, request: Request) -> Answer:
    asked = request.json()
    kind, owner = asked.get("type") or "model", asked.get("organization") or hub.user
    if owner not in (hub.user, hub.organization):
        raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
    name = f"{owner}/{asked['name']}"
    existed = hub.has_repo(kind, name)
    private = asked.get("private") or asked.get("visibility") == "private"
    repo = hub.repo(kind, name) if existed else hub.create_repo(kind, name, private)
    known = {"url": f"{request.base}/{repo.path}", "name": name, "id": _NO_ID}
    if existed:
        return Answer(known | {"error": f"You already created this {kind} repo"}, 409)
    return Answer(known)


@route("POST", "/api/validate-yaml")
def validate_card(hub: Hub, request: Request) -> Answer:
    try:
        card = _card(request.json()["content"])
        errors = [] if isinstance(card, dict) else [{"message": "metadata is not a mapping"}]
    except yaml.YAMLError as error:
        errors = [{"message": str(error)}]
    return Answer({"errors": errors, "warnings": []}, 400 if errors else 200)


@route("GET", "{api}")
def info(hub: Hub, request: Request, repo: GitRepository) -> Answer:
    return revision_info(hub, request, repo, "main")


@route("GET", "{api}/revision/{revision}")
def revision_info(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    commit = repo.commit_of(revision)
    date = next(repo.log(commit))["date"]
    files = {path: entry for path, entry in repo.entries(commit).items() if entry.is_file}
    card: Any = _card(repo.read(files["README.md"].oid).decode()) if "README.md" in files else {}
    siblings = [{"rfilename": path} for path in files]
    if request.asks_for("blobs"):
        siblings = [
            {"rfilename": path, "size": entry.size, "blobId": entry.oid} | ({"lfs": entry.lfs} if entry.sha256 else {})
            for path, entry in files.items()
        ]
    return Answer(
        {"_id": _NO_ID, "id": repo.name, "modelId": repo.name, "author": repo.name.partition("/")[0], "sha": commit}
        | {"lastModified": date, "createdAt": date, "private": repo.private, "gated": False, "disabled": False}
        | {"downloads": 0, "likes": 0, "tags": card.get("tags") or [], "cardData": card, "siblings": siblings}
        | {name: card.get(name) for name in ("pipeline_tag", "library_name")}
    )


def _card(text: str) -> Any:
    header = _CARD_HEADER.match(text)
    return (yaml.safe_load(header[1]) or {}) if header else {}
