"""What tests of converted encoders have in common: random weights, the conversion, and the loaded model."""

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from hf_encoders.checkpoints.finding.weights import LazyTensors
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families.family import EncoderOptions, Family, FileTensors, Plan


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter values of its own, so that two that are exchanged show, and switch dropout off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if parameter.ndim == 1:
                parameter.add_(0.5)
    return network.eval()


def converted(folder: Path, content: object, options: EncoderOptions | None = None) -> Path:
    """Save a checkpoint in a folder and convert it."""
    torch.save(content, folder / "checkpoint.pth")
    return convert(folder / "checkpoint.pth", folder / "repo", encoder=options)


def loaded(repo: Path, architecture: str = "") -> PreTrainedModel:
    """The model of a repo, all of whose weights come from it; of a class by name, or the one that AutoModel chooses."""
    kind = getattr(transformers, architecture) if architecture else AutoModel
    model, loading = kind.from_pretrained(repo, dtype=torch.float32, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"], loading
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def difference(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest magnitude."""
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


def plan_of(family: Family, state_dict: dict[str, Tensor], options: EncoderOptions | None = None) -> Plan:
    """A family's plan for a state dict, and nothing around it."""
    names = {name: family.canonical(name) for name in state_dict}
    shapes = {names[name]: tuple(tensor.shape) for name, tensor in state_dict.items()}
    keys = {canonical: name for name, canonical in names.items()}
    return family.plan(FileTensors("file.pth", shapes, keys, LazyTensors("file.pth", {})), options or EncoderOptions())
