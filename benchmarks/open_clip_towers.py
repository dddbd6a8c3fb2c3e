"""open_clip's own towers with the weights of ours, to run both side by side.

    pip install --no-deps open_clip_torch

What open_clip asks for, torchvision, is not needed here.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

# Of which open_clip.utils imports one class, to know its instances.
_TORCHVISION = ("torchvision", "torchvision.ops", "torchvision.ops.misc")


def open_clip_module(name: str) -> Any:
    """A module of open_clip, without the package's own imports, which need torchvision.

    Raises:
        ModuleNotFoundError: if open_clip is not installed.
    """
    if "open_clip" not in sys.modules:
        found = importlib.util.find_spec("open_clip")
        if found is None:
            raise ModuleNotFoundError("open_clip is missing: pip install --no-deps open_clip_torch")
        package = sys.modules["open_clip"] = ModuleType("open_clip")
        package.__path__ = list(found.submodule_search_locations or ())
    stubs = {} if importlib.util.find_spec("torchvision") else {stub: ModuleType(stub) for stub in _TORCHVISION}
    for module in stubs.values():
        module.__dict__["FrozenBatchNorm2d"] = nn.Identity
    sys.modules.update(stubs)
    try:
        return importlib.import_module(f"open_clip.{name}")
    finally:
        for stub in stubs:
            del sys.modules[stub]


def open_clip_text_tower(model: Any) -> nn.Module:
    """open_clip's wrapper of a BERT: tokens [B, L] → [B, D]; what is the padding token is masked."""
    config = model.config.text_config
    tower = open_clip_module("hf_model").HFTextEncoder(
        "", model.config.projection_dim, config, pooler_type="cls_last_hidden_state_pooler", proj_type="linear"
    )
    tower.transformer.load_state_dict(model.text_encoder.state_dict(), strict=False)  # it has a pooler, unused
    tower.proj = model.text_projection  # open_clip's own has no bias
    return tower.eval()


def open_clip_image_tower(model: Any) -> nn.Module:
    """open_clip's vision transformer: pixels [B, 3, H, W] → [B, D]."""
    config = model.config.vision_config
    tower = open_clip_module("transformer").VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        mlp_ratio=config.intermediate_size / config.hidden_size,
        no_ln_pre=True,
        norm_layer=lambda width: nn.LayerNorm(width, eps=config.layer_norm_eps),
    )
    tower.proj = None
    tower.load_state_dict(_vision_weights(model.visual_encoder.state_dict()))
    return nn.Sequential(tower, model.visual_projection).eval()


def _vision_weights(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    positions = ours["embeddings.position_embeddings"][0].clone()
    positions[1:] += ours["embeddings.patch_embeddings.projection.bias"]  # its convolution has none
    theirs = {
        "class_embedding": ours["embeddings.cls_token"][0, 0],
        "positional_embedding": positions,
        "conv1.weight": ours["embeddings.patch_embeddings.projection.weight"],
    }
    names = {
        "attention.o_proj": "attn.out_proj",
        "layernorm_before": "ln_1",
        "layernorm_after": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    blocks = {name.split(".")[1] for name in ours if name.startswith("layers.")}
    for kind in ("weight", "bias"):
        theirs[f"ln_post.{kind}"] = ours[f"layernorm.{kind}"]
        for block in blocks:
            there = f"transformer.resblocks.{block}"
            parts = [ours[f"layers.{block}.attention.{part}_proj.{kind}"] for part in "qkv"]
            theirs[f"{there}.attn.in_proj_{kind}"] = torch.cat(parts)
            for name, other in names.items():
                theirs[f"{there}.{other}.{kind}"] = ours[f"layers.{block}.{name}.{kind}"]
    return theirs
