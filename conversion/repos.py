"""Reads a repo's tensors under the canonical legacy names."""

from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig


def repo_folder(repo: str) -> Path:
    """The folder of a repo, downloaded first if it is a Hub id.

    Raises:
        ValueError: if there is no such repo.
    """
    if Path(repo).is_dir():
        return Path(repo)
    try:
        return Path(snapshot_download(repo))
    except (OSError, ValueError) as error:
        raise ValueError(f"{repo}: no such folder, and not to be had from the Hub ({error})") from error


def read_repo(folder: Path) -> tuple[DepthSemanticEncoderConfig, dict[str, Tensor]]:
    """The configuration and the tensors of a depth repo, by canonical name and in the legacy order.

    Raises:
        ValueError: if it is no depth repo, or lacks tensors.
    """
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, DepthSemanticEncoderConfig):
        raise ValueError(f"{folder}: a {config.model_type} model, expected {DepthSemanticEncoderConfig.model_type}")
    written: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            written |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged ({error})") from None
    if not any(name.startswith("encoder.") for name in written):
        written = {f"encoder.{name}": tensor for name, tensor in written.items()}
    with torch.device("meta"):
        names = list(DepthAutoencoderModel(config).state_dict())
    if not any(name.startswith("decoder.") for name in written):
        names = [name for name in names if name.startswith("encoder.")]
    missing = [name for name in names if name not in written]
    if missing:
        raise ValueError(f"{folder}: lacks {len(missing)} of its tensors, {missing[0]!r} among them")
    return config, {name: written[name] for name in names}
