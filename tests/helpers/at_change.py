"""Does something once, just before a script changes the file system in a certain place.

    python -m tests.helpers.at_change EVENT PATH ACTION SCRIPT WORDS...

EVENT is an audit event such as os.rename, and PATH how one of its arguments ends. ACTION is one of:
    end-launcher    the process that started this one gets SIGTERM, and is waited for
    small-files     from now on no file can be larger than 20 kB, as on a full disk
"""

import os
import resource
import runpy
import signal
import sys
import time


def end_launcher():
    launcher = os.getppid()
    os.kill(launcher, signal.SIGTERM)
    while os.getppid() == launcher:
        time.sleep(0.01)


def small_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes then fail, as they do on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


ACTIONS = {"end-launcher": end_launcher, "small-files": small_files}


def at_change(event, path, action):
    pending = [action]

    def hook(name, arguments):
        if pending and name == event and any(str(argument).endswith(path) for argument in arguments):
            ACTIONS[pending.pop()]()

    sys.addaudithook(hook)


if __name__ == "__main__":
    event, path, action, *sys.argv = sys.argv[1:]
    at_change(event, path, action)
    runpy.run_path(sys.argv[0], run_name="__main__")
