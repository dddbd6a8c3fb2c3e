"""A running page, and Chromium to use it as a person does: `make test-browser`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COMMAND = ("-m", "hf_encoders.commands.main", "demo", "--port", "0")
# Answers are waited for, however slow the machine is; what never comes ends the test.
PATIENCE = 300_000  # milliseconds


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")


class Server:
    """`hf-encoders demo` in a process of its own; its temporary folder is below `folder`."""

    def __init__(self, folder, *arguments, command=COMMAND, **environment):
        self.folder = folder
        environment = {
            **os.environ, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT), **environment,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *command, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
            # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"shown at (http://\S+?);", line):
                self.address = found[1]
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        self.lines += self.process.stderr

    def stop(self, how=signal.SIGINT):
        """Stop it, as Ctrl-C does or otherwise; returns what it said and its status."""
        self.process.send_signal(how)
        status = self.process.wait(60)
        return "".join(self.lines), status

    def working(self, *endings):
        """Files at work whose names end so. Gradio keeps what was sent for some minutes beside them."""
        return [path for path in self.folder.glob("*/work/**/*") if path.name.endswith(endings) and path.is_file()]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("page"), "--max-upload", "20")
    yield running
    said, _ = running.stop()
    assert "hf_encoders/demo/tabs" not in said  # Gradio prints tracebacks of its own, for calls that are none


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"none of {', '.join(BROWSERS)} is installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(server, chromium):
    """Opens the page; at the end its console holds no errors, and it asked nothing of another machine."""
    contexts, wrong = [], []

    def opened(path="/en/", expected=(), **options):
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()

        def noted(kind, said):
            if not any(part in said for part in expected):
                wrong.append(f"{kind}: {said}")

        page.on("console", lambda said: said.type == "error" and noted("console", f"{said.text} {said.location}"))
        page.on("pageerror", lambda error: noted("error", str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((server.address, "data:", "blob:")) or noted("elsewhere", asked.url),
        )
        page.goto(server.address + path)
        page.get_by_role("tab").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def panel(page):
    """The tab that is open."""
    return page.locator("[role=tabpanel]:visible")


def shot(page, name):
    """Keep a picture of the page, where a person wants to look at some: SCREENSHOTS names the folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def has_kind(line, kind):
    """Whether a line below a query says its kind, and the metres of a depth map and of nothing else."""
    metres = r" · \d+\.\d to \d+\.\d m" if kind == "depth map" else ""
    return re.fullmatch(kind + metres, line.inner_text()) is not None
