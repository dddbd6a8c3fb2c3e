"""What goes over the wire: requests, answers, errors, and what is remembered of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class HubError(Exception):
    """An answer that refuses, with the code by which clients tell why."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, Any] | None = None):
        super().__init__(message)
        marks = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer({"error": message}, status, marks | dict(headers or {}))


@dataclass
class Answer:
    """What is sent back; anything but bytes goes as JSON."""

    content: Any = None
    status: int = 200
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    def __post_init__(self):
        if not isinstance(self.content, bytes):
            self.content = json.dumps(self.content).encode()

    def cut_to(self, byte_range: str | None) -> None:
        """Leave what a `Range` header of the form `bytes=FIRST-[LAST]` asks for."""
        if not byte_range or "Accept-Ranges" not in self.headers:
            return
        first, _, last = byte_range.removeprefix("bytes=").partition("-")
        size = len(self.content)
        part = self.content[int(first) : int(last) + 1 if last else size]
        if not part:
            self.status, self.headers["Content-Range"] = 416, f"bytes */{size}"
        else:
            self.status, self.headers["Content-Range"] = 206, f"bytes {first}-{int(first) + len(part) - 1}/{size}"
        self.content = part


@dataclass
class Request:
    """What is asked; HEAD is GET here."""

    method: str
    path: str  # still quoted
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    has_token: bool

    @property
    def base(self) -> str:
        """The server's address, as the client knows it."""
        return f"http://{self.headers['Host']}"

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def asks_for(self, flag: str) -> bool:
        return self.query.get(flag, "false").lower() in ("true", "1")


@dataclass
class Exchange:
    """A request and its answer, as remembered; `status` 0: the connection was dropped before."""

    method: str
    path: str
    has_token: bool
    received: int = 0
    status: int = 0
    sent: int = 0


@dataclass
class Drop:
    """Connections that are to break: `times` requests of a method to paths with a part, `after` so many bytes of body.

    Those are counted in what the client sends or, for GET, in what it receives.
    """

    method: str
    part: str
    after: int = 0
    times: int = 1
