"""The model in samples/: small enough, loadable as its card says, and as good on scenes it has not seen as stated."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoProcessor

from hf_encoders.evaluation.probes import knn_metrics
from hf_encoders.evaluation.retrieval import retrieval_metrics
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import SAMPLES

pytestmark = pytest.mark.numeric

MODEL = SAMPLES / "multimodal-rooms"


@pytest.fixture(scope="module")
def model():
    return AutoModel.from_pretrained(MODEL)


def rows(name, count):
    return Dataset.from_parquet(str(SAMPLES / name)).select(range(count))


def test_it_is_small_and_loads_whole(model):
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= 30e6
    assert model.dtype == torch.float32  # stored in float16, computed in float32
    _, info = AutoModel.from_pretrained(MODEL, output_loading_info=True)
    assert not any(info.values())
    processor = AutoProcessor.from_pretrained(MODEL)
    inputs = processor(text="a red chair", depth=rows("objects/test.parquet", 1)["depth"][0])
    outputs = model(**inputs)
    assert outputs.logits_per_depth.shape == (1, 1)


def test_it_finds_scenes_by_words_and_by_image(model):
    scenes = rows("rooms/test.parquet", 100)
    texts, images = model.encode_text(scenes["caption"]), model.encode_image(scenes["image"])
    depth = model.encode_depth(scenes["depth"])
    recall = retrieval_metrics(texts, images, names=("text", "image"))
    assert recall["text_to_image_recall@1"] > 0.8
    assert retrieval_metrics(texts, depth, names=("text", "depth"))["text_to_depth_recall@10"] > 0.8
    assert retrieval_metrics(images, depth, names=("image", "depth"))["image_to_depth_recall@1"] > 0.85


def test_it_knows_what_depth_maps_show(model):
    train, test = rows("objects/train.parquet", 600), rows("objects/test.parquet", 100)
    embeds, nouns = model.encode_depth(test["depth"]), list(test["noun"])
    found = knn_metrics(model.encode_depth(train["depth"]), list(train["noun"]), embeds, nouns, k=1)
    assert found["knn_accuracy"] > 0.6
    labels = sorted({*nouns, *train["noun"]})
    classifier = ZeroShotClassifier(model, labels, templates=["a red {}", "a gray {}", "a {}"])
    answers = classifier.classify_embeddings(embeds, top_k=1)
    right = sum(best[0]["label"] == noun for best, noun in zip(answers, nouns, strict=True))
    assert right / len(nouns) > 0.7
