"""The code, the configuration and the weights of an adopted repo."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from .adopted_network import file_name
from .code.flattening import FlatCode
from .generation import BASE, SETTINGS, Input, Network, configuration_file, modeling_file, requirements_file
from .prepared import Prepared
from .weights import FoundWeights, common_dtype

_HERE = Path(__file__).parent


def network_of(
    prepared: Prepared,
    described: Mapping[str, Any],
    inputs: Sequence[Input],
    ran: Mapping[str, Any],
    modality: str | None,
) -> tuple[Network, FlatCode]:
    """What is generated about a network, and its own code.

    Args:
        prepared: the class.
        described: what its process says that it consists of.
        inputs: the main one first.
        ran: what its process says that it gives.
        modality: what it embeds.
    """
    part, code = prepared.part, prepared.code
    if described["makers"]:  # they may be named in the text of an annotation alone
        code = prepared.code_with(set(described["makers"].values()))
    network = Network(
        name=part.name,
        module=code.main,
        file=part.source.path.name,
        arguments=described["arguments"],
        order=described["order"],
        inputs=inputs,
        embedding=ran["embedding"],
        state=ran["state"],
        size=ran["size"],
        is_tied=bool(described["tied"]),
        is_lazy=described["is_lazy"],
        modality=modality,
        makers=described["makers"],
        padding=ran["padding"],
    )
    return network, code


def python_files(network: Network, code: FlatCode) -> dict[str, str]:
    """The Python files that load a network: name → text."""
    model = modeling_file(network, code.libraries)
    copied = [BASE, *([SETTINGS] if "Settings(" in model else [])]
    return {
        **{f"{module}.py": text for module, text in code.files.items()},
        f"configuration_{network.snake}.py": configuration_file(network),
        f"modeling_{network.snake}.py": model,
        **{f"{module}.py": (_HERE / f"{module}.py").read_text(encoding="utf-8") for module in copied},
    }


def write_model(repo: Path, network: Network, code: FlatCode, found: FoundWeights) -> None:
    """Write all that `AutoModel.from_pretrained` reads, and the list of what the code imports."""
    named = {file_name(name): tensor for name, tensor in found.tensors.items()}
    save_file(named, repo / "model.safetensors", {"format": "pt"})
    settings = network.settings() | {"dtype": common_dtype(found.tensors)}
    texts = python_files(network, code) | {
        "config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
        "requirements.txt": requirements_file(code.libraries, network.modality),
    }
    for name, text in texts.items():
        (repo / name).write_text(text, encoding="utf-8")
