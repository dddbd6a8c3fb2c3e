"""Lets through what the page needs of Gradio, and nothing that reads or fetches elsewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a browser asks of Gradio below /gradio_api/ for this page; all else, such as its proxy, is refused.
_NEEDED = (
    "queue/join", "queue/data", "upload", "upload_progress", "heartbeat", "reset", "cancel", "startup-events", "file=",
)  # fmt: skip
_API = re.compile(r"/gradio_api/+(.*)", re.DOTALL)
_MOST_BYTES = 4 << 20  # of a call, whose files are sent before it


class Guard:
    """Refuses what the page does not need, before Gradio sees it.

    Gradio reads no files outside its folders by itself; it would fetch addresses for whoever asks.

    Args:
        app: what answers the rest.
        sent: the folder of the files that people sent: the only one that a call may name.
    """

    def __init__(self, app: ASGIApp, sent: Path):
        self._app, self._sent = app, sent.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and (asked := _API.search(scope["path"])):
            what = asked[1]
            if not what.startswith(_NEEDED) or (what.startswith("file=") and not self._is_sent(what[5:])):
                await _refuse(scope, receive, send, 403)
                return
            if what.startswith("queue/join"):
                body = await _body(receive)
                if body is None or not self._may_call(body):
                    await _refuse(scope, receive, send, 403)
                    return
                receive = _again(body, receive)
        await self._app(scope, receive, send)

    def _is_sent(self, path: str) -> bool:
        """Whether a path is that of a file that was sent."""
        if "://" in path or "\0" in path:
            return False
        return Path(unquote(path)).resolve().is_relative_to(self._sent)

    def _may_call(self, body: bytes) -> bool:
        """Whether a call names no other files."""
        try:
            content = json.loads(body)
        except ValueError:
            return False
        return all(isinstance(path, str) and self._is_sent(path) for path in _paths(content))


def _paths(content: object) -> Iterator[object]:
    """The files that a call names, at any depth."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("path") is not None:
                yield one["path"]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too large or never ends."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _MOST_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int) -> None:
    await PlainTextResponse("not a part of this page", status)(scope, receive, send)
