"""The directive `command-help`: the help of each command of `hf-encoders`, as a terminal shows it."""

import os
from contextlib import redirect_stdout
from io import StringIO

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hf_encoders.commands.main import COMMANDS, command


def help_of(name: str) -> str:
    """What `hf-encoders NAME --help` prints."""
    os.environ["COLUMNS"] = "100"
    with redirect_stdout(StringIO()) as printed:
        try:
            command([name, "--help"])
        except SystemExit:
            pass
    return printed.getvalue()


class CommandHelp(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        sections: list[nodes.Node] = []
        for name, text in COMMANDS.items():
            section = nodes.section(ids=[name])
            section += nodes.title(text=name)
            section += nodes.paragraph(text=f"{text[0].upper()}{text[1:]}.")
            section += nodes.literal_block(text=help_of(name), language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
