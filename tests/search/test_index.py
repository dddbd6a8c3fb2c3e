"""An index answers texts, images, depth maps and embeddings, and knows which model made it."""

import json
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Array2D, Column, Dataset, Features, Image, Value
from transformers import AutoModel

from hf_encoders.search.index import EmbeddingIndex
from tests.conftest import SAMPLES
from tests.helpers.colour_model import COLOURS, ColourModel

pytestmark = pytest.mark.numeric


def picture(colour, size=(8, 6)):
    return PIL.Image.new("RGB", size, colour)


def depth_map(left, middle, right):
    """A 16-bit map in thirds."""
    return PIL.Image.fromarray(np.repeat([[left] * 2 + [middle] * 2 + [right] * 2], 6, axis=0).astype(np.uint16))


@pytest.fixture
def model():
    return ColourModel()


@pytest.fixture
def dataset():
    """One row a colour; its map is high where the colour's component is."""
    features = Features({"image": Image(), "depth": Image(), "caption": Value("string")})
    rows = [
        {
            "image": picture(tuple(255 * value for value in colour)),
            "depth": depth_map(*(900 * value + 50 for value in colour)),
            "caption": name,
        }
        for name, colour in COLOURS.items()
    ]
    return Dataset.from_list(rows, features=features)


@pytest.fixture
def images(model, dataset):
    return EmbeddingIndex.from_dataset(model, dataset, "image")


def captions(results):
    return [result.row["caption"] for result in results]


def test_text_finds_images(images):
    results = images.search("green", k=2)
    assert captions(results)[0] == "green"
    assert results[0].index == 1
    assert results[0].score == pytest.approx(1, abs=1e-3)
    assert len(results) == 2
    assert results[0].score > results[1].score
    assert results[0].row["image"].size == (8, 6)


def test_a_batch_of_queries_gives_a_list_each(images):
    found = images.search(["blue", "red red green"], k=3)
    assert captions(found[0])[0] == "blue"
    assert captions(found[1]) == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("column", "modality", "query", "said"),
    [
        ("caption", "text", picture("blue"), None),
        ("depth", "depth", "blue", None),
        ("depth", None, "blue", None),
        ("image", None, "blue", None),
        ("depth", "depth", picture("blue"), None),
        ("depth", "depth", depth_map(50, 50, 990), None),
        ("image", "image", depth_map(50, 50, 990), "depth"),
        ("image", "image", np.full((4, 4, 3), (0, 0, 250), np.uint8), "image"),
        ("image", "image", np.array([0.1, 0.0, 5.0]), "embedding"),
        ("image", "image", torch.tensor([0.1, 0.0, 5.0]), "embedding"),
        ("image", "image", [0.1, 0, 5], "embedding"),
    ],
)
def test_any_modality_finds_any_other(model, dataset, column, modality, query, said):
    index = EmbeddingIndex.from_dataset(model, dataset, column, modality)
    assert captions(index.search(query, k=1, modality=said)) == ["blue"]
    assert captions(index.search([query, query], k=1, modality=said)[1]) == ["blue"]


def test_paths_of_queries_are_told_from_texts(images, tmp_path):
    picture("red").save(tmp_path / "query.png")
    assert captions(images.search(str(tmp_path / "query.png"), k=1, modality="image")) == ["red"]
    for query in (tmp_path / "query.png", str(tmp_path / "query.png"), [str(tmp_path / "query.png")]):
        found = images.search(query, k=1)
        assert captions(found[0] if isinstance(query, list) else found) == ["red"]


def test_a_depth_encoder_searches_depth_maps(tiny_encoder, objects_test):
    index = EmbeddingIndex.from_dataset(tiny_encoder, objects_test.select(range(12)), "depth", "depth", batch_size=4)
    best = index.search(objects_test[7]["depth"], k=3)[0]
    assert (best.index, best.row["noun"]) == (7, objects_test[7]["noun"])
    with pytest.raises(ValueError, match="the model embeds depth, not text"):
        index.search("a lamp", modality="text")


def test_rows_and_queries_in_other_units_are_read_as_they_are_told(objects_test):
    """A processor of millimetres, rows in metres: they are found by a map in millimetres, and by one in metres."""
    model = AutoModel.from_pretrained(SAMPLES / "multimodal-rooms")
    maps = [np.asarray(depth, dtype=np.float32) for depth in objects_test.select(range(8))["depth"]]
    features = Features({"depth": Array2D(maps[0].shape, "float32")})
    rows = Dataset.from_dict({"depth": [depth / 1000 for depth in maps]}, features=features).with_format("numpy")
    index = EmbeddingIndex.from_dataset(model, rows, "depth", "depth", unit_scale=1)
    for query, units in ((maps[3], {}), (maps[3] / 1000, {"unit_scale": 1}), (maps[3] * 5, {"preset": "tum"})):
        best = index.search(query, k=1, modality="depth", **units)[0]
        assert best.index == 3 and best.score > 0.999
    with pytest.raises(ValueError, match="unit_scale: for depth maps alone, and the query's modality is text"):
        index.search("a chair", unit_scale=1)


def test_all_rows_are_found_where_k_is_larger(images):
    assert len(images.search("red", k=100)) == 3
    assert images.search([], k=5) == []


def test_rows_that_cannot_be_read_are_skipped_and_keep_the_others_positions(model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [str(tmp_path / "broken.png")]
    for name in COLOURS:
        picture(name).save(tmp_path / f"{name}.png")
        paths.append(str(tmp_path / f"{name}.png"))
    dataset = Dataset.from_dict({"file": paths})
    with pytest.raises(ValueError, match="broken.png"):
        EmbeddingIndex.from_dataset(model, dataset, "file")
    index = EmbeddingIndex.from_dataset(model, dataset, "file", on_error="skip")
    assert index.skipped == [0]
    best = index.search("blue", k=1)[0]
    assert (best.index, best.row["file"]) == (3, paths[3])
    index.save(tmp_path / "index")
    assert EmbeddingIndex.load(tmp_path / "index", model).search("blue", k=1) == [best]


def test_the_model_gets_the_column_undecoded(model, dataset, monkeypatch):
    """So that memory holds one batch of images, not all."""
    given = []
    encode = model.encode_image
    monkeypatch.setattr(
        model, "encode_image", lambda images, **options: given.append(images) or encode(images, **options)
    )
    EmbeddingIndex.from_dataset(model, dataset, "image", batch_size=2)
    assert isinstance(given[0], Column)
    assert model.batch_sizes == [2]


def test_an_index_of_embeddings_needs_no_model():
    index = EmbeddingIndex(np.eye(4) * 7, rows=[{"name": name} for name in "abcd"])
    results = index.search([0.0, 0, 3, 1], k=2)
    assert [result.row["name"] for result in results] == ["c", "d"]
    assert results[0].score == pytest.approx(3 / 10**0.5)
    assert EmbeddingIndex(torch.eye(2)).search(torch.eye(2), k=1)[1][0].row == {}
    assert EmbeddingIndex(np.empty((0, 4))).search(np.eye(4)) == [[], [], [], []]
    with pytest.raises(ValueError, match="no model"):
        index.search("red", modality="text")


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda m, d: EmbeddingIndex(np.ones(3)), r"shape \[3\], expected \[N, D\]"),
        (lambda m, d: EmbeddingIndex(np.array([[1, 1], [0, 0]])), "embedding 1 has no direction"),
        (lambda m, d: EmbeddingIndex(np.array([[1, np.nan]])), "embedding 0 has no direction"),
        (lambda m, d: EmbeddingIndex(np.ones((2, 3)), rows=d), "2 embeddings and 3 rows"),
        (lambda m, d: EmbeddingIndex(np.ones((2, 3)), index_type="tree"), "exact, hnsw, ivf"),
        (lambda m, d: EmbeddingIndex.from_dataset(m, d, "picture"), "no column 'picture'; .* image, depth, caption"),
        (lambda m, d: EmbeddingIndex.from_dataset(m, d, "image", "sound"), "modality is one of"),
        (lambda m, d: EmbeddingIndex.from_dataset(m, d, "image").search("red", k=0), "k must be at least 1"),
        (lambda m, d: EmbeddingIndex.from_dataset(m, d, "image").search(np.ones(3)), "say modality="),
        (lambda m, d: EmbeddingIndex(np.eye(3)).search([1.0, 2]), "queries of 2 dimensions, the index has 3"),
    ],
)
def test_what_cannot_be_indexed_or_searched_is_said(build, says, model, dataset):
    with pytest.raises(ValueError, match=says):
        build(model, dataset)


def test_a_streamed_data_set_is_refused(model, dataset):
    with pytest.raises(TypeError, match="IterableDataset, expected a datasets.Dataset"):
        EmbeddingIndex.from_dataset(model, dataset.to_iterable_dataset(), "image")


def test_a_saved_index_comes_back(images, model, tmp_path):
    images.save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index", model)
    assert captions(loaded.search("green")) == captions(images.search("green"))
    assert loaded.search("green")[0].row["image"].getpixel((0, 0)) == (0, 255, 0)
    assert (loaded.modality, loaded.column, len(loaded)) == ("image", "image", 3)
    assert (tmp_path / "index" / "rows").stat().st_mode & 0o111  # a folder that can be entered
    # Without a model it still answers embeddings.
    assert captions(EmbeddingIndex.load(tmp_path / "index").search([0, 1, 0], k=1)) == ["green"]


def test_an_index_is_not_written_over_what_it_is_not(images, tmp_path):
    images.save(tmp_path / "index")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        images.save(tmp_path / "index")
    images.save(tmp_path / "index", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="not a folder with an index"):
        images.save(tmp_path / "mine", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "mine"]


def test_another_model_or_revision_is_refused(dataset, tmp_path):
    maker = ColourModel("org/colours", revision="abc123")
    EmbeddingIndex.from_dataset(maker, dataset, "image").save(tmp_path / "index")
    trained = ColourModel("org/colours", revision="abc123")
    torch.nn.init.constant_(trained.scale, 1.01)
    with pytest.raises(ValueError, match="made by org/colours at revision abc123; the model given has other weights"):
        EmbeddingIndex.load(tmp_path / "index", trained)
    with pytest.raises(
        ValueError, match="made by org/colours at revision abc123; the model given has other revision abc123, now def"
    ):
        EmbeddingIndex.load(tmp_path / "index", ColourModel("org/colours", revision="def456"))
    # The same weights under another name, such as a clone of the repo, are the same model.
    assert EmbeddingIndex.load(tmp_path / "index", ColourModel("/clones/colours")).search("red", k=1)
    EmbeddingIndex(np.eye(3)).save(tmp_path / "bare")
    with pytest.raises(ValueError, match="without a model"):
        EmbeddingIndex.load(tmp_path / "bare", maker)


def damage_vectors(folder):
    path = folder / "embeddings.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_manifest(**changes):
    def change(folder):
        path = folder / "embedding_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_vectors, "damaged, embeddings.safetensors is not the file that was saved"),
        (lambda folder: (folder / "embeddings.safetensors").unlink(), "damaged .*No such file"),
        (lambda folder: (folder / "embedding_index.json").write_text("{"), "damaged, its embedding_index.json"),
        (lambda folder: (folder / "embedding_index.json").unlink(), "no index there"),
        (lambda folder: next((folder / "rows").glob("*.arrow")).write_bytes(b"ARROW1"), "damaged"),
        (change_manifest(format=3), "an index of format 3"),
        (change_manifest(shape=[4, 3]), "not those that were saved"),
        (change_manifest(vectors=None), "damaged"),
    ],
)
def test_a_damaged_folder_is_said_in_one_line(damage, says, images, model, tmp_path):
    images.save(tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(ValueError, match=says) as caught:
        EmbeddingIndex.load(tmp_path / "index", model)
    assert str(tmp_path / "index") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_saved_with_faiss_is_read_without(images, model, tmp_path, monkeypatch):
    images.save(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert captions(EmbeddingIndex.load(tmp_path / "index", model).search("green", k=1)) == ["green"]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
def test_an_index_of_smaller_vectors_answers_and_comes_back(precision, model, dataset, tmp_path):
    index = EmbeddingIndex.from_dataset(model, dataset, "image", precision=precision, rescore_multiplier=2)
    hits = index.search("green")
    assert captions(hits)[0] == "green"
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    index.save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index", model)
    assert loaded.search("green") == hits
    assert (loaded.precision, loaded.index_type, index.precision) == (precision, "exact", precision)
    manifest = json.loads((tmp_path / "index" / "embedding_index.json").read_text())
    assert manifest["precision"] == precision
    assert manifest["rescore_multiplier"] == (2 if precision == "binary" else 1)
    per_row = {"float32": 12, "float16": 6, "int8": 3, "binary": 9 + 3}
    assert (index.nbytes, loaded.nbytes) == (3 * per_row[precision], 0)


@pytest.mark.parametrize("precision", ["float32", "binary"])
def test_truncated_embeddings_are_those_of_encode(precision, tiny_multimodal, tmp_path):
    texts = ["a chair", "a table left of a lamp", "a lamp", "two chairs"]
    dataset = Dataset.from_dict({"text": texts})
    index = EmbeddingIndex.from_dataset(tiny_multimodal, dataset, "text", "text", truncate_dim=5, precision=precision)
    index.save(tmp_path / "index")
    cut = tiny_multimodal.encode_text(texts, truncate_dim=5, convert_to="numpy")
    whole = tiny_multimodal.encode_text(texts, convert_to="numpy")
    for searched in (index, EmbeddingIndex.load(tmp_path / "index", tiny_multimodal)):
        by_text = searched.search(texts[1], k=4)
        scores = np.array([hit.score for hit in sorted(by_text, key=lambda hit: hit.index)])
        np.testing.assert_allclose(scores, cut @ cut[1], atol=1e-5 if precision == "float32" else 1e-2)
        for query in (cut[1], whole[1], 3 * whole[1]):  # cut or not, it is the same query
            hits = searched.search(query, k=4, modality="embedding")
            assert [hit.index for hit in hits] == [hit.index for hit in by_text]
            assert hits[0].score == pytest.approx(by_text[0].score, abs=1e-5)
        with pytest.raises(ValueError, match="queries of 4 dimensions, the index has 5"):
            searched.search(cut[1, :4], modality="embedding")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "int4"}, "precision is one of float32, float16, int8, binary"),
        ({"precision": "int8", "index_type": "tree"}, "index_type is one of exact, hnsw, ivf or None, got 'tree'"),
        ({"precision": "binary", "index_type": "hnsw"}, "'hnsw' has no precision 'binary'.*use that, or 'ivf'"),
        ({"precision": "binary", "rescore_multiplier": 0}, "rescore_multiplier must be at least 1, got 0"),
        ({"truncate_dim": 4}, "truncate_dim must be from 1 to 3, got 4"),
        ({"truncate_dim": 0}, "truncate_dim must be from 1 to 3, got 0"),
        ({"truncate_dim": 2}, "embedding 2 has no direction in its first 2 dimensions"),
    ],
)
def test_sizes_that_cannot_be_are_said(options, says):
    with pytest.raises(ValueError, match=says):
        EmbeddingIndex(np.eye(3), **options)


def test_a_float32_index_is_saved_and_read_as_before(images, model, tmp_path):
    images.save(tmp_path / "index")
    path = tmp_path / "index" / "embedding_index.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({key: manifest[key] for key in manifest if key not in ("precision", "dimensions")}))
    assert EmbeddingIndex.load(tmp_path / "index", model).search("green") == images.search("green")


def test_a_hit_with_a_broken_picture_is_found_undecoded(model, dataset, tmp_path):
    pictures = [{"bytes": b"no picture", "path": None}] * len(dataset)
    captions_of = dataset["caption"][:]
    features = Features({"caption": Value("string"), "photo": Image()})
    rows = Dataset.from_dict({"caption": captions_of, "photo": pictures}, features=features)
    hits = EmbeddingIndex.from_dataset(model, rows, "caption", "text").search(captions_of[0], k=2)
    assert hits[0].row == {"caption": captions_of[0], "photo": pictures[0]}


@pytest.mark.parametrize("k", [3.0, "3", None, True])
def test_k_is_a_whole_number(images, k):
    with pytest.raises(TypeError, match="k is a whole number, got"):
        images.search("red", k=k)
    assert len(images.search("red", k=np.int64(2))) == 2


@pytest.mark.parametrize("change", ["weights", "tokenizer"])
def test_an_index_of_texts_is_of_its_tokens(change, tiny_multimodal, tmp_path):
    rows = Dataset.from_dict({"caption": ["a red chair", "the lamp"]})
    EmbeddingIndex.from_dataset(tiny_multimodal, rows, "caption", "text", dtype="bfloat16").save(tmp_path / "index")
    manifest = json.loads((tmp_path / "index" / "embedding_index.json").read_text())
    assert manifest["options"] == {"dtype": "bfloat16"}
    EmbeddingIndex.load(tmp_path / "index", tiny_multimodal)
    if change == "weights":
        tiny_multimodal.text_encoder.get_input_embeddings().weight.data[7, 3] += 1
    else:
        tiny_multimodal.text_tokenizer.model_max_length = 5
    says = "weights" if change == "weights" else "text processor"
    with pytest.raises(ValueError, match=f"the model given has other {says}"):
        EmbeddingIndex.load(tmp_path / "index", tiny_multimodal)


def test_an_index_of_an_older_version_is_refused_with_a_model_alone(images, model, tmp_path):
    images.save(tmp_path / "index")
    manifest = json.loads((tmp_path / "index" / "embedding_index.json").read_text())
    kept = ("name_or_path", "revision", "fingerprint")
    change_manifest(model={name: manifest["model"][name] for name in kept})(tmp_path / "index")
    with pytest.raises(ValueError, match="with an older hf_encoders.*make it again, or load it without a model"):
        EmbeddingIndex.load(tmp_path / "index", model)
    assert len(EmbeddingIndex.load(tmp_path / "index").search(np.eye(3)[0])) == 3
