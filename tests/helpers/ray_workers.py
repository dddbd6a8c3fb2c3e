"""Workers of Ray that get SIGKILL once, in the midst of their work, or say where they run. Ray imports it."""

import os
import signal
from pathlib import Path

from hf_encoders.embed.halves import Batch
from hf_encoders.embed.ray_workers import Compute, ReadParts, message_of

FOLDER = "HF_ENCODERS_TEST_DEATHS"


def die_once(name):
    """The first process that comes here ends: it makes the file, with its number in it."""
    try:
        with Path(os.environ[FOLDER], name).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DyingCompute(Compute):
    """Ends at its third batch."""

    seen = 0

    def __call__(self, table):
        self.seen += isinstance(message_of(table, 0), Batch)
        if self.seen == 3:
            die_once("actor")
        return super().__call__(table)


class DyingReadParts(ReadParts):
    """Ends when some messages about a part are out."""

    def __call__(self, tasks):
        for number, table in enumerate(super().__call__(tasks)):
            yield table
            if number == 2:
                die_once("task")


def note_process(name):
    with Path(os.environ[FOLDER], name).open("a") as file:
        file.write(f"{os.getpid()} ")


class NotingCompute(Compute):
    """Notes in which process it runs."""

    def __call__(self, table):
        note_process("actors")
        return super().__call__(table)


class NotingReadParts(ReadParts):
    """Notes in which process it runs."""

    def __call__(self, tasks):
        note_process("tasks")
        yield from super().__call__(tasks)
