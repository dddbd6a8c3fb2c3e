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
    ViTConfig,
    ViTModel,
)

SIDE, LENGTH = 32, 16
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "chair", "lamp", "table", "on", "the")
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


def save_encoder(kind, folder):
    """Save a small model of a kind → the folder."""
    torch.manual_seed(0)
    KINDS[kind]().save_pretrained(folder)
    if kind not in TEXTS:
        size = {"height": SIDE, "width": SIDE}
        BitImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    if kind not in IMAGES:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder
