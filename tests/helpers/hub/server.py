"""HTTP: reads requests, sends answers, remembers both, and breaks connections as planned."""

import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

from . import file_routes, ref_routes, repo_routes, upload_routes  # noqa: F401  # they register what they answer
from .hub import Hub
from .messages import Answer, Drop, Exchange, HubError, Request
from .routes import answer


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """Run a Hub on a free port of this machine, whose files lie in `root`."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _DroppedError(ConnectionError):
    """Broken as planned."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_):
        """Nothing on the terminal."""

    def _handle(self):
        path, _, query = self.path.partition("?")
        has_token = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        exchange = Exchange(self.command, self.path, has_token)
        self.hub.log.append(exchange)  # before the client can know of the answer
        drop = self.hub.take_drop(self.command, self.path)
        method = "GET" if self.command == "HEAD" else self.command
        try:
            body = self._read_body(drop, exchange)
            fields = dict(parse_qsl(query, keep_blank_values=True))
            request = Request(method, path, fields, self.headers, body, has_token)
            self._send(self._answer(request), drop, exchange)
        except ConnectionError:
            self.close_connection = True
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was faster
                pass

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _answer(self, request: Request) -> Answer:
        try:
            if request.method == "POST":
                with self.hub.lock:
                    return answer(self.hub, request)
            return answer(self.hub, request)
        except HubError as error:
            return error.answer
        except Exception:
            traceback.print_exc()
            return HubError(500, "this is a bug of the test server").answer

    def _read_body(self, drop: Drop | None, exchange: Exchange) -> bytes:
        body = bytearray()
        for chunk in self._chunks():
            body += chunk
            exchange.received = len(body)
            if drop and len(body) > drop.after:
                raise _DroppedError
        return bytes(body)

    def _chunks(self, size: int = 2**12) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(size, left))
            if not chunk:
                raise ConnectionError
            left -= len(chunk)
            yield chunk

    def _send(self, answer: Answer, drop: Drop | None, exchange: Exchange) -> None:
        answer.cut_to(self.headers.get("Range"))
        content = answer.content
        exchange.status = answer.status
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        for name, value in answer.headers.items():
            self.send_header(name, " ".join(str(value).split()))
        self.end_headers()
        if self.command == "HEAD":
            return
        if drop:
            content = content[: drop.after]
        exchange.sent = len(content)
        self.wfile.write(content)
        if drop:
            raise _DroppedError
