"""Serves the page until it is stopped: the application, its addresses, and the server."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from ..modalities import Modality
from ..models.input_errors import InputError
from .guard import Guard
from .opening import Shown
from .page import STYLE, head, make_page
from .page_parts import Page
from .uploads import Uploads
from .words import LANGUAGES, Place, best_language

_SWEEP = 60  # seconds between two looks at old files
_GRACE = 1  # seconds that open connections get when the server is stopped
_DAY = "private, max-age=86400"


def make_app(shown: Shown, uploads: Uploads, *, max_upload: int, place: Place = "here") -> FastAPI:
    """Make the application: a page for each language, the pictures of the collection, and results to be fetched.

    Args:
        shown: the model and the collection.
        uploads: the folder of people's files.
        max_upload: the most bytes of a file that is sent.
        place: where the page runs.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_sweeping(uploads))
    run = secrets.token_hex(4)  # a browser keeps pictures: those of another run are other pictures

    @app.get("/")
    def choose_language(request: Request) -> Response:
        return RedirectResponse(f"{best_language(request.headers.get('accept-language', '')).language}/")

    @app.get("/favicon.ico")
    def icon() -> Response:  # browsers ask for one
        return Response(status_code=204)

    @app.get(f"/pictures-{run}/{{modality}}/{{number}}.jpg")
    def picture(modality: Modality, number: int) -> Response:
        part = shown.parts.get(modality)
        if part is None or modality == "text" or not 0 <= number < len(part.embeddings):
            raise HTTPException(404)
        return Response(part.small_picture(number).jpeg, media_type="image/jpeg", headers={"Cache-Control": _DAY})

    @app.get("/download/{key}/{name}")
    def download(key: str, name: str) -> Response:
        path = uploads.offered(key, name)
        if path is None:
            raise HTTPException(404, "the file is there no more: convert the checkpoint again")
        return FileResponse(path, filename=name, headers={"Cache-Control": "no-store"})

    for name, words in LANGUAGES.items():
        page = Page(shown, words, uploads, f"../pictures-{run}", "../download")
        gr.mount_gradio_app(
            app,
            make_page(page, place),
            path=f"/{name}",
            max_file_size=max_upload,
            allowed_paths=[],
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            css=STYLE,
            head=head(page),
        )
    app.add_middleware(Guard, sent=uploads.sent)
    return app


def serve(
    shown: Callable[[], Shown],
    uploads: Uploads,
    host: str,
    port: int,
    *,
    max_upload: int,
    place: Place = "here",
    say: Callable[[str], None],
) -> None:
    """Serve the page until the process is told to stop.

    Args:
        shown: opens the model and the collection, once it is known that the port is free.
        uploads: the folder of people's files.
        host: the address to listen on.
        port: the port; 0 for any that is free.
        max_upload: see `make_app`, as for `place`.
        say: tells a person the address, once the page answers there.

    Raises:
        InputError: if the address is none of this machine, or the port is taken.
        KeyboardInterrupt: when it was stopped.
    """
    with listen(host, port) as listening:
        app = make_app(shown(), uploads, max_upload=max_upload, place=place)
        settings = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=_GRACE)
        server = _Server(settings, lambda: say(address(listening)))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt as stop:
            raise type(stop)("the page is closed, and what was sent to it is removed") from None


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address of this machine.

    Raises:
        InputError: if it is none, or the port is taken.
    """
    try:
        (family, *_, place), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        hint = "--port 0 takes any that is free" if port else ""
        # Python adds the address to what the system says; names that are unknown have numbers of their own.
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror
        raise InputError(name=f"{host}:{port}", reason=f"cannot be listened on ({why})", hint=hint) from None


def address(listening: socket.socket) -> str:
    """What a person types into a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, settings: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(settings)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self.started:
            self._ready()


@asynccontextmanager
async def _sweep_while_serving(uploads: Uploads) -> AsyncIterator[None]:
    async def sweep() -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            await asyncio.to_thread(uploads.sweep)

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _sweeping(uploads: Uploads) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    return lambda app: _sweep_while_serving(uploads)
