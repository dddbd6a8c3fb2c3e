"""datasets: `encode...` inside `map`, its cache, and `with_embeddings`."""

import faiss
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDataset, List, Value
from datasets.fingerprint import Hasher
from PIL import Image as Pillow
from transformers import AutoModel

from hf_encoders.embed.column import with_embeddings
from hf_encoders.models.tower import Tower
from hf_encoders.search.index import EmbeddingIndex
from tests.helpers.multimodal_models import tiny_model

pytestmark = pytest.mark.numeric

WORDS = ["a red chair", "the lamp", "a table left of the lamp", "green", "a photo of the map"]
EMBEDDING = List(Value("float32"), length=8)
# Decodes to the same picture only if nobody encodes it a second time.
QUALITY = 30


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five rows in a Parquet file: images as JPEG, depth maps as 16-bit PNG."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    rows = []
    for index, text in enumerate(WORDS):
        Pillow.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{index}.jpg", quality=QUALITY)
        Pillow.fromarray(rng.integers(500, 4000, (40, 40)).astype(np.uint16)).save(folder / f"{index}.png")
        names = {"image": f"{index}.jpg", "depth": f"{index}.png"}
        pictures = {key: {"bytes": (folder / name).read_bytes(), "path": None} for key, name in names.items()}
        rows.append(pictures | {"text": text, "label": index % 2})
    features = Features(image=Image(), depth=Image(), text=Value("string"), label=ClassLabel(names=["a", "b"]))
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    return folder


@pytest.fixture
def rows(files, tmp_path):
    """The rows, with a cache of their own."""
    return Dataset.from_parquet(str(files / "rows.parquet"), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def repo(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path / "repo")
    return tmp_path / "repo"


def numbers(dataset):
    return dataset.with_format("numpy")["embedding"][:]


def raw(dataset, column="image"):
    return [item["bytes"] for item in dataset.cast_column(column, Image(decode=False))[column]]


def broken(rows):
    """The rows with bytes in the place of the second image that are none."""
    undecoded = rows.cast_column("image", Image(decode=False)).to_list()
    undecoded[1]["image"] = {"bytes": b"none", "path": None}
    return Dataset.from_list(undecoded, features=rows.features)


def count_calls(model, monkeypatch):
    calls = []
    encode = Tower.encode

    def counted(tower, inputs, *arguments, **options):
        calls.append(len(inputs))
        return encode(tower, inputs, *arguments, **options)

    monkeypatch.setattr(Tower, "encode", counted)
    return calls


@pytest.mark.parametrize("streamed", [False, True])
def test_plain_map(tiny_multimodal, rows, streamed):
    def embed(batch):
        return {"embedding": tiny_multimodal.encode_image(batch["image"], convert_to="numpy")}

    dataset = rows.to_iterable_dataset() if streamed else rows
    found = [row["embedding"] for row in dataset.map(embed, batched=True, batch_size=2)]
    np.testing.assert_allclose(found, tiny_multimodal.encode_image(rows["image"]), atol=1e-5)


def test_plain_map_of_a_method(tiny_multimodal, rows):
    def embed(maps):
        return {"embedding": tiny_multimodal.encode_depth(maps, convert_to="numpy")}

    mapped = rows.map(embed, batched=True, input_columns=["depth"], remove_columns=["image"])
    np.testing.assert_allclose(numbers(mapped), tiny_multimodal.encode_depth(rows["depth"]), atol=1e-5)
    assert "image" not in mapped.column_names


def test_a_function_with_a_model_has_one_hash(repo):
    """So `map` finds what it computed: before the first call, after it, and with the model loaded anew."""
    model, other = (AutoModel.from_pretrained(repo) for _ in range(2))
    fresh = Hasher.hash(model.encode_image)
    model.encode_text(WORDS)
    model.encode_image(np.zeros((40, 40, 3), np.uint8))
    assert Hasher.hash(model.encode_image) == fresh == Hasher.hash(other.encode_image)
    with torch.no_grad():
        other.visual_projection.bias[0] += 1
    assert Hasher.hash(other.encode_image) != fresh


@pytest.mark.parametrize(
    ("column", "modality", "method"),
    [("image", None, "encode_image"), ("depth", None, "encode_depth"), ("text", "text", "encode_text")],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_with_embeddings(tiny_multimodal, rows, column, modality, method, streamed):
    dataset = rows.to_iterable_dataset() if streamed else rows
    found = with_embeddings(dataset, tiny_multimodal, column, modality, batch_size=2)
    assert type(found) is type(dataset)
    assert found.features == rows.features | {"embedding": EMBEDDING}
    found = Dataset.from_list(list(found), features=found.features) if streamed else found
    expected = getattr(tiny_multimodal, method)(rows[column], convert_to="numpy")
    np.testing.assert_allclose(numbers(found), expected, atol=1e-5)
    assert numbers(found).dtype == np.float32
    assert found["text"][:] == WORDS and found["label"][:] == rows["label"][:]
    if not streamed:
        assert raw(found) == raw(rows) and raw(found, "depth") == raw(rows, "depth")


def test_a_stream_that_does_not_know_its_types(tiny_multimodal, rows):
    stream = IterableDataset.from_generator(lambda: (row for row in [*rows, {**rows[0], "image": "missing.jpg"}]))
    assert stream.features is None
    found = list(with_embeddings(stream, tiny_multimodal, "depth", batch_size=2))
    expected = tiny_multimodal.encode_depth([*rows["depth"], rows[0]["depth"]])
    np.testing.assert_allclose([row["embedding"] for row in found], expected, atol=1e-5)
    assert isinstance(found[0]["image"], Pillow.Image) and found[5]["image"] == "missing.jpg"
    images = list(with_embeddings(stream, tiny_multimodal, "image", on_error="skip"))
    assert [row["text"] for row in images] == WORDS


def test_a_depth_encoder_and_options(tiny_encoder, rows):
    found = with_embeddings(rows, tiny_encoder, "depth", name="vector", truncate_dim=4, normalize=True)
    assert found.features["vector"] == List(Value("float32"), length=4)
    expected = tiny_encoder.encode(rows["depth"], truncate_dim=4, normalize=True)
    np.testing.assert_allclose(found.with_format("numpy")["vector"][:], expected, atol=1e-5)


def test_splits_and_formats(tiny_multimodal, rows):
    splits = DatasetDict(train=rows.select([3, 1]), test=rows.select([0]), empty=rows.select([]))
    found = with_embeddings(splits.with_format("torch", ["label"]), tiny_multimodal, "image")
    assert {split: part.num_rows for split, part in found.items()} == {"train": 2, "test": 1, "empty": 0}
    assert all(part.features["embedding"] == EMBEDDING for part in found.values())
    assert set(found["train"][0]) == {"label", "embedding"} and isinstance(found["train"][0]["embedding"], torch.Tensor)
    expected = tiny_multimodal.encode_image(rows["image"])[[3, 1]]
    np.testing.assert_allclose(found["train"]["embedding"][:], expected, atol=1e-5)


def test_cache(repo, rows, monkeypatch):
    model = AutoModel.from_pretrained(repo)
    first = numbers(with_embeddings(rows, model, "image"))
    again = AutoModel.from_pretrained(repo)
    calls = count_calls(again, monkeypatch)

    def computed(model, column="image", modality=None, **options):
        """How many rows a call embeds, and what it gives."""
        calls.clear()
        found = numbers(with_embeddings(rows, model, column, modality, **options))
        return sum(calls), found

    count, found = computed(again)
    assert count == 0 and np.array_equal(found, first)
    assert computed(again, batch_size=2, show_progress_bar=False)[0] == 0
    assert computed(again, normalize=False)[0] == 5
    assert computed(again, "depth")[0] == 5
    assert computed(again, "depth", "image")[0] == 5
    again.processor.depth_image_processor.invalid_values = [500]
    assert computed(again, "depth")[0] == 5
    with torch.no_grad():
        again.visual_projection.bias += 1
    count, found = computed(again)
    assert count == 5 and not np.allclose(found, first, atol=1e-3)


def test_faiss_and_embedding_index(tiny_multimodal, rows):
    found = with_embeddings(rows, tiny_multimodal, "image")
    query = tiny_multimodal.encode_image(rows[3]["image"], convert_to="numpy")[0]
    found.add_faiss_index("embedding", metric_type=faiss.METRIC_INNER_PRODUCT)
    scores, nearest = found.get_nearest_examples("embedding", query, k=2)
    assert nearest["text"][0] == WORDS[3] and scores[0] == pytest.approx(1, abs=1e-5)
    found.drop_index("embedding")
    index = EmbeddingIndex(numbers(found), found, tiny_multimodal)
    hit = index.search(rows[2]["image"], k=1)[0]
    assert hit.index == 2 and hit.row["text"] == WORDS[2] and hit.score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_rows_that_cannot_be_embedded(tiny_multimodal, rows, streamed):
    dataset = broken(rows).to_iterable_dataset() if streamed else broken(rows)
    with pytest.raises(ValueError, match="in the batch from row 0 on: image 1: not an image of a kind"):
        list(with_embeddings(dataset, tiny_multimodal, "image"))
    found = list(with_embeddings(dataset, tiny_multimodal, "image", on_error="skip", batch_size=1))
    assert [row["text"] for row in found] == [WORDS[0], *WORDS[2:]]
    expected = tiny_multimodal.encode_image(rows["image"])[[0, 2, 3, 4]]
    np.testing.assert_allclose([row["embedding"] for row in found], expected, atol=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_errors(tiny_multimodal, rows, streamed):
    dataset = rows.to_iterable_dataset() if streamed else rows
    for arguments, options, message in [
        (("picture",), {}, "no column 'picture'; the data set has image, depth, text, label"),
        (("image",), {"name": "text"}, "there is a column 'text' already; give another name="),
        (("image", "sound"), {}, "modality is one of text, image, depth"),
        (("image",), {"truncate_dim": 99}, "truncate_dim must be from 1 to 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            with_embeddings(dataset, tiny_multimodal, *arguments, **options)
    with pytest.raises(ValueError, match="the model embeds text and image, not depth"):
        with_embeddings(dataset, tiny_model(depth=False), "depth")
    with pytest.raises(TypeError, match="a list, expected a data set"):
        with_embeddings([1], tiny_multimodal, "image")
