"""Loads an adopted repo as anybody does, in a process that sees the repo alone, and runs it: `main()`.

Its arguments are FOLDER and REPO.

FOLDER/inputs.safetensors holds the inputs as NUMBER.NAME; FOLDER/actual.safetensors will hold the outputs likewise.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from .reads import Reads, said


def main() -> None:
    """Answer with a line of JSON on what was stdout."""
    folder, repo = Path(sys.argv[1]), sys.argv[2]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code = [str(folder / "modules")]  # where transformers copies the repo's code to
    compiled = str(Path(tempfile.gettempdir()) / "torchinductor")  # what torch.compile keeps begins with it
    reads = Reads(code, "the code", [str(folder), str(Path(repo).resolve()), compiled])
    try:
        with reads:
            answer = _run(folder, repo)
    except Exception as error:  # whatever the network raises
        answer = {"error": said(code, error)}
    if reads.found:
        answer = {"error": reads.found}
    if isinstance(text := answer.get("error"), str):  # of the copies, the name alone tells something
        answer = {"error": re.sub(rf"{re.escape(code[0])}/\S*/", "", text)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _run(folder: Path, repo: str) -> dict[str, object]:
    model, info = AutoModel.from_pretrained(repo, trust_remote_code=True, dtype=torch.float32, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            return {
                "error": f"transformers finds {what.replace('_', ' ')}: {', '.join(map(str, sorted(info[what])[:3]))}"
            }
    with torch.no_grad():
        for weight in model.parameters():  # into memory of its own: libraries may compute otherwise in a mapped file
            weight.data = weight.data.clone()
    inputs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / "inputs.safetensors").items():
        number, _, own = name.partition(".")
        inputs.setdefault(number, {})[own] = tensor.clone()
    outputs: dict[str, Tensor] = {}
    for number, batch in inputs.items():
        torch.manual_seed(1)
        with torch.inference_mode():
            output = model(**batch)
        for name in ("last_hidden_state", "pooler_output"):
            outputs[f"{number}.{name}"] = output[name].float().contiguous().clone()
    save_file(outputs, folder / "actual.safetensors")
    return {"class": type(model).__name__, "parameters": model.num_parameters()}
