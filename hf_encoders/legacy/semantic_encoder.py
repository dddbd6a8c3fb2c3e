"""The interface that legacy code calls: `SemanticEncoder`, around the model of this package."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..checkpoints.state_dicts import check_values
from ..conversion.families.legacy.depth_layouts import MODEL_TYPE, read_depth_checkpoint
from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.image_processing_depth import DepthImageProcessor
from ..models.modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from ..outputs import new_file


class SemanticEncoder(nn.Module):
    """The legacy wrapper around the depth encoder, for code that was written against it.

    It differs from the legacy class on purpose. A failed or partial load raises, where the old class printed a line and
    kept random weights. `encode_numpy` normalises each map by itself. New code uses `AutoModel.from_pretrained` and
    `model.encode`.

    Args:
        input_channels: channels C of the maps.
        latent_dim: dimension D of the embedding.
        pretrained_path: a legacy depth file of any wrapping, a local repo or a Hub id. It also sets the widths.
        freeze_weights: freeze everything, BatchNorm statistics included.
        device: the device to compute on; by default the GPU if there is one.

    Raises:
        ValueError: if the weights have other channels or another dimension than the arguments say.
        CheckpointError: if a legacy file cannot be used.
    """

    def __init__(
        self,
        input_channels: int = 1,
        latent_dim: int = 768,
        pretrained_path: str | os.PathLike[str] | None = None,
        freeze_weights: bool = False,
        device: str | torch.device | None = None,
    ):
        super().__init__()
        self.input_channels = input_channels
        self.latent_dim = latent_dim
        self.pretrained_path: str | None = None
        if pretrained_path is None:
            config = DepthSemanticEncoderConfig(num_channels=input_channels, hidden_size=latent_dim)
            self.encoder = DepthSemanticEncoderModel(config)
        else:
            self.encoder = self._load(pretrained_path)
            self.pretrained_path = str(pretrained_path)
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.eval()
        if freeze_weights:
            self.freeze_parameters()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.encoder.device

    @property
    def frozen(self) -> bool:
        """Whether all parameters are frozen."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """Embed maps [B, C, H, W] in [-1, 1] on the model's device as [B, D], not normalised."""
        return self.encoder(x).pooler_output

    def encode(self, x: Tensor) -> Tensor:
        """Call `forward` after moving the input to the device. Gradients are kept, for training."""
        return self(x.to(self.device))

    def encode_batch(self, x: Tensor, batch_size: int = 32) -> Tensor:
        """Embed maps [N, C, H, W] in [-1, 1] as [N, D] on the device, in evaluation mode, without gradient."""
        # Under its name, another rank is an error; a bare [N, H, W] would pass for raw maps and be stretched.
        return self.encoder.encode({"pixel_values": x.float()}, batch_size=batch_size)

    def encode_numpy(
        self, array: ArrayLike, batch_size: int | None = None, normalize: bool | str = True
    ) -> NDArray[np.float32]:
        """Embed an array, without gradient.

        Args:
            array: [H, W], [N, H, W] or [N, C, H, W] of numbers in any unit.
            batch_size: maps per batch; all at once by default.
            normalize: True stretches each map by itself, from its minimum and maximum to [-1, 1]; a constant map
                becomes zeros. "array" stretches the whole array at once, as the legacy code did: an embedding then
                depends on the other maps, and a constant array is an error. False takes the numbers as they are.

        Returns:
            [N, D] float32.

        Raises:
            ValueError: for another rank, NaN or infinity, a constant array with "array", or an unknown `normalize`.
        """
        if normalize not in (True, False, "array"):
            raise ValueError(f'normalize is True, False or "array", got {normalize!r}')
        array = np.asarray(array)
        if array.ndim not in (2, 3, 4):
            raise ValueError(f"an array of shape {list(array.shape)}, expected [H, W], [N, H, W] or [N, C, H, W]")
        maps = array[None] if array.ndim == 2 else array
        maps = maps[:, None] if maps.ndim == 3 else maps
        if not np.isfinite(maps).all():
            bad = int(np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2, 3)))[0])
            raise ValueError(f"map {bad} holds NaN or infinity; fill such pixels, or use the model's processor")
        if normalize == "array" and len(maps):
            if maps.dtype.kind in "biu":
                maps = maps.astype(np.float64)  # differences of small integers wrap around
            low, high = maps.min(), maps.max()
            if low == high:
                raise ValueError('a constant array has no range to normalise with normalize="array"')
            maps = (maps - low) / (high - low) * 2 - 1
        elif normalize and len(maps):
            # As in the legacy code, every number is a measurement, also zero.
            processor = DepthImageProcessor(invalid_values=[], do_resize=False, num_channels=self.input_channels)
            maps = processor(maps, return_tensors="np")["pixel_values"]
        tensor = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))
        batch_size = max(len(tensor), 1) if batch_size is None else batch_size
        return self.encode_batch(tensor, batch_size=batch_size).cpu().numpy()

    def load_pretrained_weights(self, path: str | os.PathLike[str]) -> None:
        """Load the weights of a legacy file, a local repo or a Hub id into this network.

        Raises:
            ValueError: if its sizes or `batch_norm_eps` differ from this network's; give it as `pretrained_path` then.
            CheckpointError: if a legacy file cannot be used. The weights are untouched after an error.
        """
        loaded = self._load(path)
        ours, theirs = ({name: tuple(t.shape) for name, t in e.state_dict().items()} for e in (self.encoder, loaded))
        # batch_norm_eps is the one setting that changes the embedding but no shape.
        if ours != theirs or self.encoder.config.batch_norm_eps != loaded.config.batch_norm_eps:
            raise ValueError(
                f"{path}: a network of other sizes or another batch_norm_eps than this one; pass it as pretrained_path"
                " instead"
            )
        self.encoder.load_state_dict(loaded.state_dict())
        self.encoder.config = loaded.config
        # Read when it is first used: a repo may have none.
        self.encoder.saved_processor = loaded.saved_processor
        self.pretrained_path = str(path)

    def freeze_parameters(self, freeze: bool = True) -> None:
        """Freeze all parameters, or with False train all of them again."""
        if freeze:
            self.encoder.freeze()
        else:
            self.encoder.unfreeze()

    def freeze_layers(self, layer_names: Iterable[str]) -> None:
        """Freeze the named modules, such as `["stem", "layer1"]`; the error for an unknown name lists the known."""
        self.encoder.freeze(layer_names)

    def save_encoder_weights(self, path: str | os.PathLike[str]) -> None:
        """Write a legacy file: `encoder_state_dict`, `model_config` and `model_info`.

        For a repo that `from_pretrained` loads, use `encoder.save_pretrained(folder)`.
        """
        content = {
            "encoder_state_dict": {name: tensor.cpu() for name, tensor in self.encoder.state_dict().items()},
            "model_config": {
                "input_channels": self.input_channels,
                "latent_dim": self.latent_dim,
                "model_type": MODEL_TYPE,
            },
            "model_info": self.get_model_info(),
        }
        with new_file(Path(path), overwrite=True) as partial, partial.open("wb") as file:
            torch.save(content, file)

    def count_parameters(self, only_trainable: bool = False) -> int:
        """Count the parameters."""
        return self.encoder.num_parameters(only_trainable=only_trainable)

    def get_model_info(self) -> dict[str, object]:
        """Return the sizes and the state that legacy code prints and saves."""
        return {
            "model_type": MODEL_TYPE,
            "input_channels": self.input_channels,
            "latent_dim": self.latent_dim,
            "total_parameters": self.count_parameters(),
            "trainable_parameters": self.count_parameters(only_trainable=True),
            "frozen": self.frozen,
            "device": str(self.device),
            "pretrained_path": self.pretrained_path,
        }

    def __repr__(self) -> str:
        info = self.get_model_info()
        return (
            f"SemanticEncoder({self.input_channels} channels → {self.latent_dim} dimensions,"
            f" {info['total_parameters']:,} parameters, {info['trainable_parameters']:,} of them trained,"
            f" on {info['device']}, weights: {self.pretrained_path or 'random'})"
        )

    def _load(self, path: str | os.PathLike[str]) -> DepthSemanticEncoderModel:
        encoder = _load_legacy(path) if Path(path).is_file() or _is_file_name(path) else _load_repo(path)
        config = encoder.config
        for name, stated, found in (
            ("input_channels", self.input_channels, config.num_channels),
            ("latent_dim", self.latent_dim, config.hidden_size),
        ):
            if stated != found:
                raise ValueError(f"{path}: its {name} is {found}, not {stated}; pass {name}={found}")
        return encoder


def create_semantic_encoder(
    input_channels: int = 1,
    latent_dim: int = 768,
    pretrained_path: str | os.PathLike[str] | None = None,
    freeze_weights: bool = False,
    device: str | torch.device | None = None,
) -> SemanticEncoder:
    """Build a `SemanticEncoder`, with the same arguments and errors."""
    return SemanticEncoder(input_channels, latent_dim, pretrained_path, freeze_weights, device)


def _is_file_name(path: str | os.PathLike[str]) -> bool:
    return str(path).endswith((".pth", ".pt", ".ckpt", ".bin"))


def _load_legacy(path: str | os.PathLike[str]) -> DepthSemanticEncoderModel:
    checkpoint = read_depth_checkpoint(path)
    tensors = checkpoint.encoder_tensors()
    check_values(path, tensors)
    with torch.device("meta"):
        encoder = DepthSemanticEncoderModel(checkpoint.config)
    # Copies, because the tensors are mapped from the file, which may be moved or overwritten later.
    copies = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    encoder.load_state_dict({name: t.clone() for name, t in copies.items()}, assign=True)
    return encoder.requires_grad_(True)


def _load_repo(path: str | os.PathLike[str]) -> DepthSemanticEncoderModel:
    loaded = DepthSemanticEncoderModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    encoder, info = cast(tuple[DepthSemanticEncoderModel, Mapping[str, Iterable[str]]], loaded)
    if info["missing_keys"]:  # transformers itself raises for tensors of other shapes
        lacking = sorted(info["missing_keys"])
        raise ValueError(
            f"{path}: not a whole depth encoder; it lacks {', '.join(lacking[:3])} ({len(lacking)} in all)"
        )
    return encoder
