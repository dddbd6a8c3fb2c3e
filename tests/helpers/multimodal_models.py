"""A tiny multimodal encoder with a working processor: words that it knows, images of 32 pixels, depth maps of 32."""

import torch
from transformers import BertConfig, BertTokenizer, ViTConfig, ViTImageProcessorPil

from hf_encoders import (
    DepthImageProcessor,
    DepthSemanticEncoderConfig,
    MultimodalEncoderConfig,
    MultimodalEncoderModel,
    MultimodalEncoderProcessor,
)
from tests.conftest import TINY

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "a the of photo map this is chair table lamp red green blue left right small large . , ##s".split()
LENGTH, SIZE = 16, 32
TEXT = {"vocab_size": len(SPECIAL + WORDS), "max_position_embeddings": LENGTH}
TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def tiny_tokenizer(**options):
    vocab = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    return BertTokenizer(vocab=vocab, model_max_length=LENGTH, **options)


def tiny_processor(depth=True):
    size = {"height": SIZE, "width": SIZE}
    depth_processor = DepthImageProcessor(size=SIZE) if depth else None
    return MultimodalEncoderProcessor(ViTImageProcessorPil(size=size), tiny_tokenizer(), depth_processor)


def tiny_model_config(depth=True, **options):
    return MultimodalEncoderConfig(
        text_config=BertConfig(**TRANSFORMER, **TEXT),
        vision_config=ViTConfig(**TRANSFORMER, image_size=SIZE, patch_size=8),
        depth_config=DepthSemanticEncoderConfig(**TINY | {"image_size": SIZE}) if depth else None,
        **{"projection_dim": 8} | options,
    )


def tiny_model(depth=True, **options):
    """A model whose embeddings differ from input to input, in evaluation mode."""
    torch.manual_seed(0)
    model = MultimodalEncoderModel(tiny_model_config(depth, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("text_encoder", "visual_encoder")) and parameter.ndim > 1:
                parameter.mul_(4)  # at their initial scale, the towers give nearly the same for any input
    model.processor = tiny_processor(depth)
    return model.eval()
