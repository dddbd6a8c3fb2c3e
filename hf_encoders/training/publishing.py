"""The result of a run: a repo, in the folder where its checkpoints and logs lie."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel

_CONFIG = "config.json"
LOGS = "logs"


def publish(model: PreTrainedModel, output_dir: Path) -> None:
    """Save a model and its processor so that no half repo is ever seen.

    What is there is no repo while its configuration is missing, and that is moved first and last.
    """
    partial = output_dir / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial)
    (output_dir / _CONFIG).unlink(missing_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == _CONFIG):
        path.replace(output_dir / path.name)
    partial.rmdir()
