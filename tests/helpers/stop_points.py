"""Stops a script where it does a certain thing, by a signal from within: no test depends on how fast anything is."""

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def stop_at(event, path, number=signal.SIGKILL):
    """From now on this process gets a signal, once, just before an event of a path that ends so.

    A signal of a negative number goes to all processes of its group, as from a scheduler, or Ctrl-C in a terminal.
    Python announces what it does with files to audit hooks, by the name of the event and its arguments, just before.
    """
    pending = [number]

    def hook(name, arguments):
        if pending and name == event and any(str(argument).endswith(path) for argument in arguments):
            wanted = pending.pop()
            os.killpg(0, -wanted) if wanted < 0 else os.kill(os.getpid(), wanted)

    sys.addaudithook(hook)


def run_until(event, path, script, *words, number=signal.SIGKILL, **environment):
    """Run a script with a signal at a point, see `stop_at`: (exit status, stdout, stderr)."""
    command = [sys.executable, "-m", "tests.helpers.stop_points", event, path, int(number), script, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    # Files rather than pipes, which a worker process may hold open for a while longer.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        done = subprocess.run(
            [str(word) for word in command], stdout=out, stderr=error, env=environment, start_new_session=True
        )
        out.seek(0), error.seek(0)
        return done.returncode, out.read(), error.read()


if __name__ == "__main__":
    event, path, number, *sys.argv = sys.argv[1:]
    stop_at(event, path, int(number))
    runpy.run_path(sys.argv[0], run_name="__main__")
