"""Which function answers which request."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from .hub import Hub
from .messages import Answer, HubError, Request

Endpoint = Callable[..., Answer]
_PARTS = {
    "{api}": r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)",
    "{web}": r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)",
    "{revision}": r"(?P<revision>[^/]+)",
    "{name}": r"(?P<name>[^/]+)",
    "{path}": r"(?P<path>.+)",
}
_routes: list[tuple[str, re.Pattern[str], bool, Endpoint]] = []


def route(method: str, pattern: str, needs_token: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Register `endpoint(hub, request, **what the pattern names)`; `{api}` and `{web}` are addresses of repos."""
    for name, expression in _PARTS.items():
        pattern = pattern.replace(name, expression)

    def register(endpoint: Endpoint) -> Endpoint:
        _routes.append((method, re.compile(pattern), needs_token, endpoint))
        return endpoint

    return register


def answer(hub: Hub, request: Request) -> Answer:
    """What the Hub says to a request."""
    if "Authorization" in request.headers and not request.has_token:
        raise HubError(401, "Invalid credentials in Authorization header")
    for method, pattern, needs_token, endpoint in _routes:
        match = pattern.fullmatch(request.path)
        if match is None or method != request.method:
            continue
        if needs_token and not request.has_token:
            raise HubError(401, "Invalid username or password.")
        named: dict[str, Any] = {name: unquote(value or "") for name, value in match.groupdict().items()}
        if "repo" in named:
            kind = "dataset" if named.pop("kind").startswith("datasets") else "model"
            named["repo"] = hub.repo(kind, named["repo"], request.has_token)
        return endpoint(hub, request, **named)
    raise HubError(404, f"no route: {request.method} {request.path}")
