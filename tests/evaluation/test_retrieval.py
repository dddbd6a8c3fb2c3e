"""Retrieval metrics: against a naive reference, in every chunk size, with ties, and their errors."""

import re

import numpy as np
import pytest
import torch

from hf_encoders.evaluation.retrieval import retrieval_metrics, retrieval_ranks

pytestmark = pytest.mark.numeric

KS = (1, 2, 5)


def naive_metrics(texts, images, text_ids, image_ids, captions):
    """The definition, one pair at a time, over the full matrix."""
    texts, images = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (texts, images))
    similarities = texts @ images.T
    correct = np.array([
        [any(captions[t] == captions[other] and text_ids[other] == image for other in range(len(texts)))
         for image in image_ids]
        for t in range(len(texts))
    ])  # fmt: skip
    metrics = {}
    for prefix, rows, hits in (
        ("text_to_image", similarities, correct), ("image_to_text", similarities.T, correct.T),
    ):  # fmt: skip
        ranks = [1 + (row[~hit] >= row[hit].max() - 1e-6).sum() for row, hit in zip(rows, hits, strict=True)]
        metrics |= {f"{prefix}_recall@{k}": np.mean(np.array(ranks) <= k) for k in KS}
        metrics[f"{prefix}_median_rank"] = np.median(ranks)
    return metrics


def make_sides(images=23, captions_an_image=3, dimensions=6):
    """Texts near their images, in mixed order; some captions are those of several images."""
    rng = np.random.default_rng(0)
    image_embeds = rng.normal(size=(images, dimensions))
    image_ids = [f"image {number}" for number in rng.permutation(images)]
    owners = rng.permutation(np.repeat(np.arange(images), captions_an_image))
    captions = [f"a scene of kind {rng.integers(30)}" for _ in owners]
    # Equal captions have equal embeddings, as a text encoder gives.
    of_caption = {caption: image_embeds[owner] for caption, owner in zip(captions, owners, strict=True)}
    noise = {caption: rng.normal(size=dimensions) for caption in of_caption}
    text_embeds = np.stack([of_caption[caption] + noise[caption] for caption in captions])
    return text_embeds, image_embeds, [image_ids[owner] for owner in owners], image_ids, captions


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 23, 64, 1000])
@pytest.mark.parametrize("with_captions", [True, False])
def test_retrieval_is_that_of_the_full_matrix(chunk_size, with_captions):
    texts, images, text_ids, image_ids, captions = make_sides()
    expected = naive_metrics(texts, images, text_ids, image_ids, captions if with_captions else list(range(len(texts))))
    actual = retrieval_metrics(
        texts, images, first_ids=text_ids, second_ids=image_ids, captions=captions if with_captions else None,
        ks=KS, chunk_size=chunk_size,
    )  # fmt: skip
    assert actual == pytest.approx(expected)
    assert 0 < actual["text_to_image_recall@1"] < actual["text_to_image_recall@5"] < 1


def test_equal_captions_are_no_false_negatives():
    # Two images have the caption "a chair": its text lies at the other one, and is right there too.
    texts = np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    images = np.array([[1.0, 0.1, 0], [0.1, 1, 0], [0, 0, 1]])
    strict = retrieval_metrics(texts, images)
    lenient = retrieval_metrics(texts, images, captions=["a chair", "a chair", "a bed"])
    assert strict["text_to_image_recall@1"] == pytest.approx(2 / 3)
    assert strict["image_to_text_recall@1"] == pytest.approx(1 / 3)  # for an image, the two equal texts tie
    assert lenient["text_to_image_recall@1"] == lenient["image_to_text_recall@1"] == 1


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_a_collapsed_model_finds_nothing(chunk_size):
    same = torch.ones(40, 8) + 3e-7 * torch.randn(40, 8)
    metrics = retrieval_metrics(same, same, chunk_size=chunk_size)
    assert metrics["text_to_image_recall@10"] == metrics["image_to_text_recall@10"] == 0
    assert metrics["text_to_image_median_rank"] == 40


def test_any_two_sides_pair_row_by_row():
    depth = torch.randn(5, 4, requires_grad=True)
    metrics = retrieval_metrics(depth, depth.detach().numpy() * 3, names=("depth", "reference"), ks=[1])
    assert metrics == {
        "depth_to_reference_recall@1": 1, "depth_to_reference_median_rank": 1,
        "reference_to_depth_recall@1": 1, "reference_to_depth_median_rank": 1,
    }  # fmt: skip


def test_ids_are_compared_by_value():
    rows = torch.eye(3)
    expected = retrieval_metrics(rows, rows[[2, 0, 1]], first_ids=[7, 8, 9], second_ids=[9, 7, 8])
    assert expected["text_to_image_recall@1"] == 1
    for make in (np.array, torch.tensor, lambda ids: list(np.array(ids)), lambda ids: list(torch.tensor(ids))):
        actual = retrieval_metrics(rows, rows[[2, 0, 1]], first_ids=make([7, 8, 9]), second_ids=[9, 7, 8])
        assert actual == expected


ROWS = np.eye(3)
WITH_NAN = np.where(np.arange(3)[:, None] == 1, np.nan, ROWS)
RETRIEVAL_ERRORS = {
    "empty": (ROWS[:0], ROWS, {}, "text: no embeddings (shape [0, 3])"),
    "one vector": (ROWS, ROWS[0], {}, "image: embeddings of shape [3], expected [N, D]"),
    "nan": (ROWS, WITH_NAN, {}, "image: row 1 has NaN or infinite values"),
    "dimensions": (ROWS, ROWS[:, :2], {}, "text has embeddings of 3 dimensions, image of 2"),
    "number of ids": (ROWS, ROWS, {"first_ids": [1, 2]}, "text ids: 2 for 3 embeddings, expected one each"),
    "number of captions": (ROWS, ROWS, {"captions": ["a"]}, "captions of text: 1 for 3 embeddings"),
    "caption": (ROWS, ROWS, {"captions": ["a", None, "b"]}, "captions of text: item 1 is None, expected a string"),
    "text alone": (ROWS, ROWS, {"first_ids": [0, 1, 5]}, "text 2 (id 5) has no image with its id"),
    "image alone": (ROWS[:2], ROWS, {}, "image 2 (id 2) has no text with its id"),
    "same names": (ROWS, ROWS, {"names": ("depth", "depth")}, "names are two different names of the sides"),
    "k": (ROWS, ROWS, {"ks": (0, 1)}, "ks must be at least 1, got (0, 1)"),
    "chunk": (ROWS, ROWS, {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
}


@pytest.mark.parametrize("case", RETRIEVAL_ERRORS)
def test_retrieval_names_what_is_wrong(case):
    first, second, options, message = RETRIEVAL_ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        retrieval_metrics(first, second, **options)


def test_ranks_are_in_the_order_of_the_rows():
    images, image_ids = np.eye(3), ["c", "a", "b"]
    texts = np.array([[0, 1.0, 2], [3, 0, 1], [3, 2, 1]])
    ranks = retrieval_ranks(texts, images, first_ids=["a", "c", "b"], second_ids=image_ids)
    assert ranks[0].tolist() == [2, 1, 3] and ranks[1].tolist() == [1, 2, 3]
