"""Other libraries are quiet while a command works, and as before afterwards."""

import io
import logging
import sys

from hf_encoders.progress import quiet_tracing


class Terminal(io.StringIO):
    def isatty(self):
        return True


def export(log):
    log.warning("an operator is not installed")
    log.error("an operator fails")
    print("Statistics collection 100% 2/2")


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def test_exporters_say_what_fails_and_no_more(capsys):
    log, said = logging.getLogger("torch.onnx._internal.exporter"), Said()
    before = logging.getLogger("torch.onnx").level
    log.addHandler(said)
    try:
        with quiet_tracing():
            export(log)
        assert said.messages == ["an operator fails"]
        assert capsys.readouterr().out == ""
        assert logging.getLogger("torch.onnx").level == before
        export(log)
        assert capsys.readouterr().out == "Statistics collection 100% 2/2\n"
    finally:
        log.removeHandler(said)


def test_a_terminal_keeps_their_bars(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with quiet_tracing(shows_bars=True):
        export(logging.getLogger("torch.onnx._internal.exporter"))
    assert terminal.getvalue() == "Statistics collection 100% 2/2\n"
