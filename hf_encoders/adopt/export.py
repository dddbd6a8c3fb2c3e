"""An adopted repo → the state dict of the file that it came from, under its old names."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from ..conversion.report import read_report
from ..outputs import new_file
from .adopted_network import file_name
from .errors import AdoptError
from .reporting import adopted_report

_SHOWN = 3


def export_adopted(folder: Path, output: Path, *, overwrite: bool = False) -> list[str]:
    """Write a file that the network's own code loads, with the numbers that the repo has now.

    Args:
        folder: an adopted repo; one that was trained further and saved again with its report too.
        output: the file to write.
        overwrite: replace an existing file.

    Returns:
        Notes for a person.

    Raises:
        InputError: if the report does not fit the weights.
        OSError: if the output exists already or cannot be written.
    """
    report = read_report(folder)
    tied = adopted_report(folder, report)["tied"]
    files = sorted(folder.glob("*.safetensors"))
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    tensors: dict[str, object] = {}
    for key, name in report["keys"].items():
        if name is None:
            continue
        tensor = stored.get(file_name(name), stored.get(file_name(tied.get(name, name))))
        if tensor is None:
            raise AdoptError(path=folder, reason=f"lacks {name!r}, which its report names", hint="adopt it again")
        tensors[key] = tensor
    content = tensors
    for key in reversed(report.get("container", [])):
        content = {key: content}
    with new_file(output, overwrite) as partial, partial.open("wb") as file:
        torch.save(content, file)
    dropped = [*report.get("dropped", [])]
    more = f" and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
    notes = [f"missing: {', '.join(dropped[:_SHOWN])}{more}, which was ignored"] if dropped else []
    weights = report["source"].get("weights")
    others = ", ".join(other["path"] for other in weights["others"]) if weights else ""
    return notes + ([f"missing: the other weights of the file ({others})"] if others else [])
