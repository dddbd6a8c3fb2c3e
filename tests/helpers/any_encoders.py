"""Small models of other libraries' kinds with random weights, saved with a tokenizer or an image processor."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    ResNetConfig,
    ResNetModel,
    RobertaConfig,
    RobertaModel,
    SiglipConfig,
    SiglipModel,
    SwinConfig,
    SwinModel,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    YolosConfig,
    YolosModel,
)

SIDE, LENGTH = 32, 16
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "chair",
    "lamp",
    "table",
    "on",
    "the",
    "green",
    "small",
    "map",
)
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_IMAGES = {**_SIZES, "image_size": SIDE, "patch_size": 8}
_TEXTS = {**_SIZES, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "pad_token_id": 0}
_MARKS = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
# Kind → what makes the model.
IMAGES = {
    "vit": lambda: ViTModel(ViTConfig(**_IMAGES)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**_IMAGES)),
    "dinov3": lambda: DINOv3ViTModel(DINOv3ViTConfig(**_IMAGES)),
    "convnext": lambda: ConvNextModel(ConvNextConfig(num_stages=2, **_STAGES)),
    "swin": lambda: SwinModel(
        SwinConfig(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    ),
    "resnet": lambda: ResNetModel(ResNetConfig(embedding_size=8, **_STAGES)),
}
TEXTS = {
    "bert": lambda: BertModel(BertConfig(**_TEXTS)),
    "roberta": lambda: RobertaModel(RobertaConfig(**_TEXTS | {"max_position_embeddings": LENGTH + 1})),
    "modernbert": lambda: ModernBertModel(ModernBertConfig(**_TEXTS, **_MARKS)),
}
BOTH = {
    "clip": lambda: CLIPModel(
        CLIPConfig(text_config=_TEXTS | {"eos_token_id": 3}, vision_config=_IMAGES, projection_dim=16)
    ),
    "siglip": lambda: SiglipModel(SiglipConfig(text_config=_TEXTS, vision_config=_IMAGES)),
}
KINDS = {**IMAGES, **TEXTS, **BOTH}
_GENERATIVE = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 8}
_SOUNDS = {"conv_dim": [8], "conv_stride": [4], "conv_kernel": [4], "num_feat_extract_layers": 1}
# What embeds nothing, or not the same each time.
NO_ENCODERS = {
    "vit_mae": lambda: ViTMAEModel(ViTMAEConfig(**_IMAGES)),
    "gpt2": lambda: GPT2Model(GPT2Config(**_GENERATIVE)),
    "gpt2-lm": lambda: GPT2LMHeadModel(GPT2Config(**_GENERATIVE)),
    "t5": lambda: T5EncoderModel(T5Config(d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16, vocab_size=8)),
    "yolos": lambda: YolosModel(YolosConfig(**_IMAGES | {"image_size": [SIDE, SIDE]})),
    "wav2vec2": lambda: Wav2Vec2Model(
        Wav2Vec2Config(**_SIZES, **_SOUNDS, num_conv_pos_embeddings=2, num_conv_pos_embedding_groups=2)
    ),
}


def save_encoder(kind, folder, *, scale=1, tokenizer=True, image_processor=True):
    """Save a small model of a kind → the folder.

    Args:
        kind: of `KINDS` or `NO_ENCODERS`.
        folder: where to.
        scale: of the weights: at their initial one, networks give nearly the same for any input.
        tokenizer, image_processor: whether it gets them, where it reads such inputs.
    """
    torch.manual_seed(0)
    model = {**KINDS, **NO_ENCODERS}[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    if kind not in TEXTS and image_processor:
        size = {"height": SIDE, "width": SIDE}
        BitImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    if kind not in IMAGES and tokenizer:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder
