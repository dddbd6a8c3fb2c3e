"""How soon the page of `hf-encoders demo` is there, and what it does for several people at once.

    python benchmarks/bench_demo.py [--people 10] [--seconds 60]

Each person searches by words, by an image and by a depth map, classifies, looks at the map and into a checkpoint, and
makes no pause. Memory is that of the server's process. It needs hf-encoders[demo].
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from measuring import machine

SAMPLES = Path(__file__).parent.parent / "samples"
LABELS = "chair, table, lamp"
CHOICES = [["image", "depth"], [], 8]


@dataclass
class Figures:
    """What was measured.

    Args:
        seconds: kind of answer → how long each took.
        errors: what went wrong, and how often.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class Person:
    """Someone who uses the page, as a browser talks to it.

    Args:
        address: of the page in one language.
    """

    def __init__(self, address: str):
        self._address, self._session = address, uuid.uuid4().hex[:10]
        self._functions = {one["api_name"]: one for one in json.loads(self._get("config"))["dependencies"]}

    def ask(self, function: str, data: list[object], which: int = 0, **event: object) -> list[object]:
        """Call a function of the page, and wait for its answer.

        Args:
            function: its name; of several of the same name a number follows it.
            data: its inputs.
            which: see `function`.
            event: the data of its event.

        Raises:
            RuntimeError: if it fails.
        """
        known = self._functions[f"{function}_{which}" if which else function]
        call = {
            "data": data,
            "fn_index": known["id"],
            "session_hash": self._session,
            "trigger_id": known["targets"][0][0],
            "event_data": event or None,
        }
        self._post("queue/join", json.dumps(call).encode(), "application/json")
        with urllib.request.urlopen(f"{self._address}gradio_api/queue/data?session_hash={self._session}") as stream:
            for line in stream:
                said = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if said.get("msg") == "process_completed":
                    if not said["success"]:
                        raise RuntimeError(f"{function}: {said['output'].get('error')}")
                    return list(said["output"]["data"])
        raise RuntimeError(f"{function}: no answer")

    def send(self, path: Path) -> dict[str, object]:
        """Send a file; returns how a call names it."""
        boundary = uuid.uuid4().hex
        start = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
        body = start.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        (sent,) = json.loads(self._post("upload", body, f"multipart/form-data; boundary={boundary}"))
        return {"path": sent, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def look(self, answer: str) -> None:
        """Fetch the pictures of an answer."""
        for place in re.findall(r'src="\.\./(pictures[^"]+)"', answer):
            urllib.request.urlopen(f"{self._address}../{place}".replace("/en/../", "/")).read()

    def _get(self, path: str) -> bytes:
        content: bytes = urllib.request.urlopen(self._address + path).read()
        return content

    def _post(self, path: str, body: bytes, kind: str) -> bytes:
        request = urllib.request.Request(f"{self._address}gradio_api/{path}", body, {"Content-Type": kind})
        content: bytes = urllib.request.urlopen(request).read()
        return content


def deeds(person: Person) -> dict[str, Callable[[], object]]:
    """What a person does, by name; each fails with an error if the page says that it did not work."""
    image, depth = SAMPLES / "photos" / "red_lamp.jpg", SAMPLES / "maps" / "red_lamp.png"

    def said(answer: list[object], place: int = -1) -> str:
        text = str(answer[place])
        if 'role="alert"' in text:
            raise RuntimeError(text)
        return text

    return {
        "search by words": lambda: person.look(said(person.ask("by_words", ["a red lamp", *CHOICES]))),
        "search by an image": lambda: said(person.ask("by_file", [person.send(image), "auto", *CHOICES])),
        "search by a depth map": lambda: said(person.ask("by_file", [person.send(depth), "auto", *CHOICES])),
        "classify an image": lambda: said(person.ask("by_file", [person.send(image), "auto", LABELS], which=1)),
        "look at the map": lambda: said(person.ask("draw", ["depth"])),
        "look into a checkpoint": lambda: said(
            person.ask("look", [person.send(SAMPLES / "legacy" / "depth_autoencoder_small.pth"), None]), 1
        ),
    }


def use(address: str, until: float, figures: Figures, lock: threading.Lock) -> None:
    """Do all that a person does, again and again."""
    doing = deeds(Person(address))
    while time.monotonic() < until:
        for name, deed in doing.items():
            start = time.monotonic()
            try:
                deed()
            except Exception as error:  # everything that goes wrong is counted
                with lock:
                    figures.errors[f"{name}: {type(error).__name__} {error}"[:200]] += 1
            else:
                with lock:
                    figures.seconds.setdefault(name, []).append(time.monotonic() - start)


def start(folder: str) -> tuple[subprocess.Popen[str], str, float]:
    """Start the page; returns its process, its address and after how many seconds it was there."""
    command = [sys.executable, "-m", "hf_encoders.commands.main", "demo", "--port", "0"]
    began = time.monotonic()
    environment = {**os.environ, "TMPDIR": folder, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"shown at (http://\S+?);", line):
            return process, f"{found[1]}/en/", time.monotonic() - began
    raise SystemExit("the page did not start")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address, ready = start(folder)
        try:
            print(f"{machine()}; there after {ready:.1f} s")
            memory, figures, lock = psutil.Process(process.pid), Figures(), threading.Lock()
            use(address, time.monotonic() + 1, Figures(), lock)  # what is computed once
            resident = [memory.memory_info().rss / 1e6]
            until = time.monotonic() + args.seconds
            people = [
                threading.Thread(target=use, args=(address, until, figures, lock), daemon=True)
                for _ in range(args.people)
            ]
            for person in people:
                person.start()
            while any(person.is_alive() for person in people):
                time.sleep(1)
                resident.append(memory.memory_info().rss / 1e6)
            left = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
        finally:
            process.terminate()
            process.wait()
    print_table(figures, resident, left)


def print_table(figures: Figures, resident: list[float], left: float) -> None:
    """Print what was measured."""
    print("| | answers | median, s | 95 %, s |\n|---|---|---|---|")
    for name, seconds in figures.seconds.items():
        ordered = sorted(seconds)
        print(
            f"| {name} | {len(seconds)} | {statistics.median(seconds):.2f} | {ordered[int(0.95 * len(seconds))]:.2f} |"
        )
    quarter = max(1, len(resident) // 4)
    print(
        f"\nmemory: {resident[0]:.0f} MB before, {max(resident[:quarter]):.0f} MB at most in the first quarter,"
        f" {max(resident[-quarter:]):.0f} MB in the last; files left: {left:.1f} MB"
    )
    print(f"errors: {sum(figures.errors.values())}")
    for error, count in figures.errors.most_common(5):
        print(f"  {count} x {error}")


if __name__ == "__main__":
    main()
