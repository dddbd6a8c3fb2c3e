"""Repos of tiny random encoders of transformers, a family each, as people have them: weights, tokenizer, images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers as library
from transformers import PreTrainedModel

from tests.helpers.multimodal_models import LENGTH, SIZE, SPECIAL, TRANSFORMER, WORDS, tiny_tokenizer

_PIXELS = {"image_size": SIZE, "patch_size": 8}
_CONVOLUTIONS = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_WORDS = {"vocab_size": len(SPECIAL + WORDS), "max_position_embeddings": LENGTH}
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
_DUAL = {"text_config": {**TRANSFORMER, **_WORDS, "eos_token_id": 3}, "vision_config": {**TRANSFORMER, **_PIXELS}}

IMAGES: Mapping[str, Callable[[], PreTrainedModel]] = {
    "vit": lambda: library.ViTModel(library.ViTConfig(**TRANSFORMER, **_PIXELS)),
    "dinov2": lambda: library.Dinov2Model(library.Dinov2Config(**TRANSFORMER, **_PIXELS)),
    "convnext": lambda: library.ConvNextModel(library.ConvNextConfig(**_CONVOLUTIONS, num_stages=2)),
    "swin": lambda: library.SwinModel(
        library.SwinConfig(
            image_size=SIZE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        )
    ),
    "resnet": lambda: library.ResNetModel(library.ResNetConfig(**_CONVOLUTIONS, embedding_size=8)),
}  # fmt: skip
TEXTS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: library.BertModel(library.BertConfig(**TRANSFORMER, **_WORDS)),
    "roberta": lambda: library.RobertaModel(
        library.RobertaConfig(**TRANSFORMER, **_WORDS | {"max_position_embeddings": LENGTH + 2}, pad_token_id=0)
    ),
    "modernbert": lambda: library.ModernBertModel(library.ModernBertConfig(**TRANSFORMER, **_WORDS, **_IDS)),
}
BOTH: Mapping[str, Callable[[], PreTrainedModel]] = {
    "clip": lambda: library.CLIPModel(library.CLIPConfig(**_DUAL, projection_dim=16)),
    "siglip": lambda: library.SiglipModel(library.SiglipConfig(**_DUAL)),
}
FAMILIES = {**IMAGES, **TEXTS, **BOTH}
# What embeds nothing, or not the same each time.
NO_ENCODERS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "vit_mae": lambda: library.ViTMAEModel(library.ViTMAEConfig(**TRANSFORMER, **_PIXELS)),
    "gpt2": lambda: library.GPT2Model(library.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=8)),
    "gpt2-lm": lambda: library.GPT2LMHeadModel(library.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=8)),
    "t5": lambda: library.T5EncoderModel(
        library.T5Config(d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16, vocab_size=8)
    ),
    "detr": lambda: library.YolosModel(library.YolosConfig(**TRANSFORMER, image_size=[SIZE, SIZE], patch_size=8)),
    "wav2vec2": lambda: library.Wav2Vec2Model(
        library.Wav2Vec2Config(
            **TRANSFORMER, conv_dim=[8], conv_stride=[4], conv_kernel=[4], num_feat_extract_layers=1,
            num_conv_pos_embeddings=2, num_conv_pos_embedding_groups=2,
        )
    ),
}  # fmt: skip


def save_encoder(folder: Path, family: str, *, tokenizer: bool = True, image_processor: bool = True) -> Path:
    """Write a repo of a family's tiny model, whose embeddings differ from input to input.

    Args:
        folder: where to.
        family: of `FAMILIES` or `NO_ENCODERS`.
        tokenizer: whether a model of texts gets one.
        image_processor: whether a model of images gets one.
    """
    torch.manual_seed(0)
    model = {**FAMILIES, **NO_ENCODERS}[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # at their initial scale, networks give nearly the same for any input
    model.save_pretrained(folder)
    if tokenizer and family not in IMAGES:
        words = tiny_tokenizer()
        words.model_input_names = ["input_ids", "attention_mask"]  # which all of these take
        words.save_pretrained(folder)
    if image_processor and family not in TEXTS:
        size = {"height": SIZE, "width": SIZE}
        library.ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder
