"""Proves that a multimodal repo computes what its legacy checkpoint computes."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig

from ..hub.reports import Verification, VerificationInputs
from .compare import ABSOLUTE, SEED, VerificationError, judge
from .depth_tower import PROJECTION, legacy_names
from .families.legacy import reference_depth, reference_multimodal
from .families.legacy.reference_multimodal import TowerSettings
from .verify_depth import verification_maps

TOLERANCE = 1e-5  # largest difference; embeddings and cosines are at most 1
_LONGEST = 16  # tokens


def verification_inputs(config: PreTrainedConfig) -> dict[str, Tensor]:
    """Make four fixed texts of different lengths, two images (noise and hills) and, for a depth tower, four maps."""
    vision = config.vision_config
    generator = torch.Generator().manual_seed(SEED)
    longest = min(_LONGEST, config.text_config.max_position_embeddings)
    lengths = torch.tensor([longest, max(1, longest // 2), min(2, longest), 1])
    inputs = {
        "input_ids": torch.randint(config.text_config.vocab_size, (4, longest), generator=generator),
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        # Two are enough: an image costs ViT-B/16 as much as a dozen texts of this length cost BERT.
        "pixel_values": verification_maps(vision.num_channels, vision.image_size)[::2],
    }
    if config.depth_config is not None:
        inputs["depth_values"] = verification_maps(config.depth_config.num_channels, config.depth_config.image_size)
    return inputs


def multimodal_outputs(config: PreTrainedConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the verification's inputs through the legacy network.

    Args:
        config: the configuration of the multimodal encoder.
        tensors: by canonical name, in any precision; those of a depth tower by their names in the model.

    Raises:
        VerificationError: if a tower has another activation than the legacy network.
    """
    inputs = verification_inputs(config)
    text, vision = _settings(config.text_config), _settings(config.vision_config)
    with torch.inference_mode():
        outputs = {
            "text_embeds": reference_multimodal.embed_text(
                tensors, inputs["input_ids"], inputs["attention_mask"], text
            ),
            "image_embeds": reference_multimodal.embed_images(tensors, inputs["pixel_values"], vision),
        }
        if config.depth_config is not None:
            embedded = reference_depth.encode(legacy_names(tensors), inputs["depth_values"])
            weight, bias = (tensors[PROJECTION + kind].float() for kind in ("weight", "bias"))
            outputs["depth_embeds"] = F.normalize(F.linear(embedded, weight, bias), dim=-1)
        # A copy, because a single tensor of a file keeps the whole file in memory.
        return _with_cosine(outputs) | {"temperature": tensors["temperature"].float().clone()}


def verify_multimodal(repo: Path, expected: Mapping[str, Tensor]) -> Verification:
    """Run the verification's inputs through the repo, loaded with AutoModel, in float32.

    Args:
        repo: a folder with a multimodal encoder.
        expected: outputs of the legacy network over tensors in the repo's precision, see `multimodal_outputs`.

    Returns:
        The inputs and the largest differences, for the report.

    Raises:
        VerificationError: if weights are missing or left over, or a difference is too large or not a number.
    """
    model, loading = AutoModel.from_pretrained(
        repo, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            names = sorted(map(str, loading[kind]))
            raise VerificationError(f"{repo}: loads with {len(names)} {kind.replace('_', ' ')}, {names[0]!r} first")
    inputs = verification_inputs(model.config)
    with torch.inference_mode():
        outputs = model(**inputs)
        actual = _with_cosine({name: outputs[name] for name in expected if name.endswith("_embeds")})
        actual["temperature"] = model.temperature
    given: VerificationInputs = {
        "shapes": {name: list(tensor.shape) for name, tensor in inputs.items()},
        "seed": SEED,
    }
    return judge(repo, given, expected, actual, TOLERANCE, ABSOLUTE)


def _with_cosine(embeds: dict[str, Tensor]) -> dict[str, Tensor]:
    return embeds | {"cosine": embeds["text_embeds"] @ embeds["image_embeds"].T}


def _settings(config: PreTrainedConfig) -> TowerSettings:
    if config.hidden_act != "gelu":
        raise VerificationError(
            f"the {config.model_type} configuration's hidden_act is {config.hidden_act!r}, the legacy network's 'gelu'"
        )
    return TowerSettings(config.hidden_size // config.num_attention_heads, config.layer_norm_eps)
