"""Branches, tags, pull requests and the history of a repo."""

from .git_repository import GitRepository
from .hub import Hub
from .messages import Answer, HubError, Request
from .routes import route

_LISTS = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}


@route("GET", "{api}/refs")
def refs(hub: Hub, request: Request, repo: GitRepository) -> Answer:
    found: dict[str, list[dict[str, str]]] = {name: [] for name in (*_LISTS.values(), "converts")}
    for line in repo.git("for-each-ref", "--format=%(refname) %(objectname)").decode().splitlines():
        ref, commit = line.split()
        _, kind, name = ref.split("/", 2)
        found[_LISTS[kind]].append({"name": name, "ref": ref, "targetCommit": commit})
    return Answer(found)


@route("GET", "{api}/commits/{revision}")
def commits(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    return Answer(list(repo.log(repo.commit_of(revision))))


@route("POST", "{api}/branch/{name}", needs_token=True)
def create_branch(hub: Hub, request: Request, repo: GitRepository, name: str) -> Answer:
    return _new_ref(repo, f"refs/heads/{name}", request.json().get("startingPoint") or "main")


@route("POST", "{api}/tag/{revision}", needs_token=True)
def create_tag(hub: Hub, request: Request, repo: GitRepository, revision: str) -> Answer:
    return _new_ref(repo, f"refs/tags/{request.json()['tag']}", revision)


@route("POST", r"{api}/discussions/{name}/merge", needs_token=True)
def merge(hub: Hub, request: Request, repo: GitRepository, name: str) -> Answer:
    proposed, main = repo.commit_of(f"refs/pr/{name}"), repo.commit_of("main")
    if repo.git("merge-base", main, proposed).decode().strip() != main:
        raise HubError(409, "not a fast-forward")  # enough for tests
    repo.git("update-ref", "refs/heads/main", proposed)
    return Answer({})


def open_pull_request(repo: GitRepository) -> int:
    """The number of a new one."""
    return 1 + len(repo.git("for-each-ref", "refs/pr").splitlines())


def _new_ref(repo: GitRepository, ref: str, start: str) -> Answer:
    if repo.git("rev-parse", "--verify", "-q", ref, check=False):
        raise HubError(409, f"Reference already exists: {ref}")
    repo.git("update-ref", ref, repo.commit_of(start))
    return Answer({})
