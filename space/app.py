"""The page as a Space: the model and the rooms beside this file, or those that the variables MODEL and DATA name."""

import os
from pathlib import Path

from hf_encoders.command_line import run
from hf_encoders.commands.main import command

BESIDE = Path(__file__).parent / "samples"


def arguments() -> list[str]:
    """The words of the command: a Space listens on every address, at the port that it is told."""
    model = os.environ.get("MODEL") or str(BESIDE / "multimodal-rooms")
    data = os.environ.get("DATA") or str(BESIDE / "rooms" / "test.parquet")
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    return ["demo", "--model", model, "--data", data, "--host", "0.0.0.0", "--port", port, "--max-upload", "200"]


if __name__ == "__main__":
    run(lambda: command(arguments()))
