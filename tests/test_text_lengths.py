"""Texts of any length embed by any model: what is beyond its limit is cut, with one warning that counts."""

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from hf_encoders import load_encoder
from tests.helpers.any_encoders import LENGTH, save_encoder
from tests.helpers.multimodal_models import TEXT, TRANSFORMER, tiny_tokenizer

pytestmark = pytest.mark.numeric

POSITIONS = {**TRANSFORMER, **TEXT, "max_position_embeddings": 12}
SPECIAL = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
VISION = {**TRANSFORMER, "image_size": 32, "patch_size": 8}
# Model, and how many tokens it takes: RoBERTa counts positions from its padding index on.
MODELS = {
    "bert": (lambda: BertModel(BertConfig(**POSITIONS)), 12),
    "roberta": (lambda: RobertaModel(RobertaConfig(**POSITIONS, pad_token_id=1)), 10),
    "modernbert": (lambda: ModernBertModel(ModernBertConfig(**POSITIONS, **SPECIAL)), 12),
    "clip": (lambda: CLIPModel(CLIPConfig(text_config={**POSITIONS, **SPECIAL}, vision_config=VISION)), 12),
}
TOKENIZERS_LIMITS = {"the model's": 10**30, "the tokenizer's": 7}


@pytest.mark.parametrize("whose", TOKENIZERS_LIMITS)
@pytest.mark.parametrize("kind", MODELS)
def test_texts_are_cut_at_the_limit(kind, whose, tmp_path, caplog):
    make, limit = MODELS[kind]
    limit = min(limit, TOKENIZERS_LIMITS[whose])
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = TOKENIZERS_LIMITS[whose]
    encoder = load_encoder(tmp_path, tokenizer=tokenizer)
    caplog.clear()
    fitting = encoder.encode_text(["red", "green " * (limit - 2), "blue " * (limit - 2)])
    assert not caplog.records
    embeddings = encoder.encode_text(["red", "green " * 40, "blue " * 40], batch_size=1)
    torch.testing.assert_close(embeddings, fitting, atol=1e-5, rtol=0)
    assert caplog.messages == [
        f"2 texts (the first is text 1) are longer than {limit} tokens; what is beyond is left out"
    ]


def test_siglip_reads_texts_that_are_padded_to_its_limit(tmp_path):
    """Its feature is that of the last position, so that a text's neighbours in a batch must not count."""
    encoder = load_encoder(save_encoder("siglip", tmp_path))
    texts = ["a red chair", "the lamp on the table on a red chair", "a lamp"]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        texts, padding="max_length", max_length=LENGTH, return_tensors="pt"
    )
    model = AutoModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = F.normalize(model.get_text_features(input_ids=tokens["input_ids"]).pooler_output)
    assert torch.allclose(encoder.encode_text(texts), expected, atol=1e-6)
    assert torch.allclose(torch.cat([encoder.encode_text(text) for text in texts]), expected, atol=1e-6)
    assert torch.allclose(encoder.encode_text(texts, backend="onnx"), expected, atol=1e-5)
