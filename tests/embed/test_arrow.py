"""Arrow tables get a column of embeddings, whatever their schema says of the pictures."""

import pickle

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_encoders.any_encoder import load_encoder
from hf_encoders.embed import ArrowEmbedder
from tests.helpers.embedding_files import write_parquet


@pytest.fixture
def scenes(objects_test):
    return objects_test.select(range(4))


def without_metadata(table):
    return table.replace_schema_metadata(None)


def with_plain_bytes(table):
    contents = [depth["bytes"] for depth in table["depth"].to_pylist()]
    return table.drop_columns("depth").append_column("depth", pa.array(contents)).replace_schema_metadata(None)


@pytest.mark.parametrize("written", [lambda table: table, without_metadata, with_plain_bytes])
def test_a_table_of_any_writer_gets_its_embeddings(written, tiny_multimodal, scenes, tmp_path):
    table = written(pq.read_table(write_parquet(scenes, tmp_path / "scenes.parquet")))
    embedder = ArrowEmbedder(tiny_multimodal, "depth", "depth", name="vector", batch_size=3)
    found = embedder(table)
    expected = tiny_multimodal.encode_depth(scenes["depth"], convert_to="numpy")
    assert found.schema.field("vector").type == pa.list_(pa.float32(), embedder.dimensions)
    np.testing.assert_allclose(np.stack(found["vector"].to_numpy()), expected, atol=1e-6)
    assert found.drop_columns("vector").equals(table)


def test_rows_that_cannot_be_embedded_are_named_or_left_out(tiny_multimodal, scenes):
    contents = [{"bytes": b"no picture", "path": None}, *({"bytes": None, "path": "none.png"} for _ in range(1))]
    table = pa.table({"depth": contents, "number": [0, 1]})
    with pytest.raises(ValueError, match="map 0: not a depth map of a kind that is read"):
        ArrowEmbedder(tiny_multimodal, "depth", "depth")(table)
    skipping = ArrowEmbedder(tiny_multimodal, "depth", "depth", on_error="skip")
    assert skipping(table).num_rows == 0
    assert "none.png" in str(skipping.reason(table, 1))


def test_a_modality_that_the_model_does_not_embed_is_refused_at_once(tiny_encoder):
    with pytest.raises(ValueError, match="the model embeds depth, not text"):
        ArrowEmbedder(tiny_encoder, "caption", "text")


@pytest.fixture(params=["in memory", "by name"])
def any_model(request, tiny_multimodal, tmp_path):
    if request.param == "in memory":
        return tiny_multimodal
    tiny_multimodal.save_pretrained(tmp_path / "model")
    return load_encoder(tmp_path / "model")


@pytest.mark.parametrize("pickles", [pickle, cloudpickle], ids=lambda module: module.__name__)
@pytest.mark.parametrize(("column", "modality"), [("depth", "depth"), ("image", "image"), ("caption", "text")])
def test_another_process_gets_the_same_embedder(column, modality, pickles, any_model, scenes):
    table = scenes.with_format("arrow")[:]
    embedder = ArrowEmbedder(any_model, column, modality, batch_size=2, truncate_dim=5)
    sent = pickles.loads(pickles.dumps(embedder))
    assert sent(table)["embedding"].equals(embedder(table)["embedding"])


def test_map_of_datasets_takes_the_embedder(tiny_multimodal, scenes):
    embedder = ArrowEmbedder(tiny_multimodal, "depth", "depth", batch_size=2)
    embedded = scenes.with_format("arrow").map(embedder, batched=True, batch_size=2)
    expected = embedder(scenes.with_format("arrow")[:])["embedding"]
    assert embedded.with_format("arrow")[:]["embedding"].to_pylist() == expected.to_pylist()
    assert embedded.column_names == [*scenes.column_names, "embedding"]
