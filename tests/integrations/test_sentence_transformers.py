"""sentence-transformers reads our repos: the same embeddings as ours, its other calls, its training."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from transformers import AutoModel, BertConfig

from hf_encoders.hub.sentence_transformers import write_sentence_transformers_files
from tests.helpers.multimodal_models import LENGTH, tiny_model

pytestmark = pytest.mark.numeric

FILES = ("modules.json", "sentence_bert_config.json")
TEXTS = ["a red chair", "the lamp left of the table", "red " * 60]
RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
# Millimetres: what is cut to 8 bits anywhere becomes constant.
DEPTH = np.random.default_rng(0).integers(500, 4000, (40, 50)).astype(np.uint16)


def saved(model, folder):
    model.save_pretrained(folder)
    write_sentence_transformers_files(folder)
    return folder


def load(folder):
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture
def paths(tmp_path):
    """Files of a picture that lies on its side, and of a depth map."""
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=upright)
    Image.fromarray(DEPTH).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", DEPTH)
    return {name: str(tmp_path / name) for name in ("a.jpg", "d.png", "d.npy")}


def test_texts_and_images(tiny_multimodal, tmp_path, paths):
    loaded = load(saved(tiny_multimodal, tmp_path / "repo"))
    embeddings = loaded.encode(TEXTS)
    np.testing.assert_allclose(embeddings, tiny_multimodal.encode_text(TEXTS), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    colour = Image.fromarray(RGB)
    images = [paths["a.jpg"], colour, colour.convert("RGBA"), colour.convert("L"), RGB, RGB.transpose(2, 0, 1)]
    images += [torch.tensor(RGB), RGB / 255]
    expected = tiny_multimodal.encode_image(images)
    np.testing.assert_allclose(loaded.encode(images, batch_size=4), expected, atol=1e-5)
    named = [{"image": image} for image in images]  # says what it is, and takes paths of any kind
    np.testing.assert_allclose(loaded.encode(named), expected, atol=1e-5)
    assert torch.unique(expected.round(decimals=4), dim=0).shape[0] >= 3  # they differ


def test_depth_maps_are_refused_by_the_image_tower(tiny_multimodal, tmp_path, paths):
    loaded = load(saved(tiny_multimodal, tmp_path / "repo"))
    for item in (paths["d.png"], Image.fromarray(DEPTH), Image.fromarray(DEPTH.astype(np.float32))):
        with pytest.raises(ValueError, match="is a depth map, expected an image; use encode_depth"):
            loaded.encode([{"image": item}])
    with pytest.raises(ValueError, match="a file, expected a text"):
        loaded.encode([{"text": paths["d.npy"]}])


def test_depth_maps(tiny_encoder, tmp_path, paths):
    tiny_encoder.processor.unit_scale = 0.001
    tiny_encoder.processor.normalization, tiny_encoder.processor.value_range = "range", [0, 8]
    loaded = load(saved(tiny_encoder, tmp_path / "repo"))
    expected = tiny_encoder.encode(DEPTH)
    maps = [paths["d.png"], Image.fromarray(DEPTH), Image.fromarray(DEPTH.astype(np.float32)), DEPTH[None]]
    maps += [torch.tensor(DEPTH.astype(np.float32))[None], {"image": DEPTH}, {"image": paths["d.npy"]}]
    for item in maps:
        np.testing.assert_allclose(loaded.encode([item]), expected, atol=1e-5)
    assert not np.allclose(np.linalg.norm(expected), 1, atol=1e-2)  # as ours: not normalised
    assert loaded.get_embedding_dimension() == tiny_encoder.config.hidden_size


def test_what_it_does_not_take_is_an_error(tiny_multimodal, tiny_encoder, tmp_path, paths):
    images, maps = load(saved(tiny_multimodal, tmp_path / "images")), load(saved(tiny_encoder, tmp_path / "maps"))
    for model, item, message in [
        (images, RGB[..., 0], "'audio' is not supported"),  # two dimensions: wrap them as {"image": ...}
        (maps, DEPTH, "'audio' is not supported"),
        (maps, paths["d.npy"], "'text' is not supported"),
        (maps, Image.fromarray(RGB), "map 0"),
        (maps, np.stack([DEPTH, DEPTH]), "shape"),
        (images, {"image": "missing.png"}, "missing.png: no such file"),
        (images, {"image": RGB, "text": "a lamp"}, "Encode each modality separately"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.encode([item])


def test_its_other_calls(tiny_multimodal, tmp_path):
    loaded = load(saved(tiny_multimodal, tmp_path))
    whole = tiny_multimodal.encode_text(TEXTS)
    assert torch.allclose(loaded.encode(TEXTS, convert_to_tensor=True, batch_size=2), whole, atol=1e-5)
    assert loaded.encode(TEXTS[0]).shape == (8,)
    # It cuts what is normalised already; we normalise what is cut.
    cut = loaded.encode(TEXTS, truncate_dim=4, normalize_embeddings=True, convert_to_tensor=True)
    assert torch.allclose(cut, tiny_multimodal.encode_text(TEXTS, truncate_dim=4), atol=1e-5)
    assert torch.allclose(loaded.similarity(whole, whole), tiny_multimodal.similarity(whole, whole), atol=1e-5)
    assert loaded.get_embedding_dimension() == 8
    prompted = loaded.encode(["chair"], prompt="a red ", convert_to_tensor=True)
    assert torch.allclose(prompted, tiny_multimodal.encode_text("a red chair"), atol=1e-5)


def test_prompts(tiny_multimodal, tmp_path):
    repo = saved(tiny_multimodal, tmp_path)
    path = repo / "config_sentence_transformers.json"
    written = json.loads(path.read_text())
    assert written["prompts"] == {"query": "", "document": ""} and load(repo).similarity_fn_name == "cosine"
    path.write_text(json.dumps({**written, "prompts": {"query": "a red ", "document": "the "}}))
    write_sentence_transformers_files(repo)  # leaves them
    theirs, ours = load(repo), AutoModel.from_pretrained(repo)
    texts = ["chair", "lamp"]
    np.testing.assert_allclose(theirs.encode_query(texts), ours.encode_query(texts), atol=1e-5)
    np.testing.assert_allclose(theirs.encode_document(texts), ours.encode_document(texts), atol=1e-5)
    assert torch.allclose(
        ours.encode_query(texts), tiny_multimodal.encode_text(["a red chair", "a red lamp"]), atol=1e-5
    )


@pytest.mark.parametrize("tokenizers_limit", [5, 10 * LENGTH])
def test_texts_are_cut_where_the_model_or_its_tokenizer_ends(tiny_multimodal, tmp_path, tokenizers_limit):
    tiny_multimodal.processor.tokenizer.model_max_length = tokenizers_limit
    loaded = load(saved(tiny_multimodal, tmp_path))
    assert loaded.max_seq_length == min(LENGTH, tokenizers_limit)
    np.testing.assert_allclose(loaded.encode(TEXTS), tiny_multimodal.encode_text(TEXTS), atol=1e-5)


def test_what_it_saves_loads_everywhere(tiny_multimodal, tmp_path):
    ours = saved(tiny_multimodal, tmp_path / "ours")
    load(ours).save_pretrained(str(tmp_path / "theirs"))
    for name in FILES:
        assert (tmp_path / "theirs" / name).read_bytes() == (ours / name).read_bytes()
    expected = tiny_multimodal.encode_image([RGB])
    np.testing.assert_allclose(load(tmp_path / "theirs").encode([RGB]), expected, atol=1e-5)
    model = AutoModel.from_pretrained(tmp_path / "theirs")
    assert torch.allclose(model.encode_image([RGB]), expected, atol=1e-5)
    assert torch.allclose(model.encode_depth(DEPTH), tiny_multimodal.encode_depth(DEPTH), atol=1e-5)


def test_training(tiny_multimodal, tmp_path):
    model = load(saved(tiny_multimodal, tmp_path / "repo"))
    images = [Image.new("RGB", (40, 40), (60 * index, 0, 9)) for index in range(4)]
    pairs = {"text": ["a red chair", "a lamp", "the table", "green"], "image": images}
    options = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "use_cpu": True}
    before = tiny_multimodal.state_dict()
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(tmp_path / "run"), report_to="none", save_strategy="no", disable_tqdm=True, **options
        ),
        train_dataset=Dataset.from_dict(pairs),
        loss=MultipleNegativesRankingLoss(model),
    )
    loss = trainer.train().training_loss
    after = model[0].model.state_dict()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"text_encoder", "visual_encoder", "text_projection", "visual_projection"}
    assert np.isfinite(loss)


def test_depth_maps_in_the_shared_space(tiny_multimodal, tmp_path):
    """It knows no depth beside images, so the depth tower becomes a model of its own, out of its modules."""
    tower = load(saved(tiny_multimodal.depth_encoder, tmp_path / "tower"))
    projection = tiny_multimodal.depth_projection
    dense = Dense(projection.in_features, projection.out_features, activation_function=torch.nn.Identity())
    dense.linear.load_state_dict(projection.state_dict())
    tower.append(dense)
    tower.append(Normalize())
    tower.save_pretrained(str(tmp_path / "depth"))
    embeddings = load(tmp_path / "depth").encode([DEPTH[None]])
    np.testing.assert_allclose(embeddings, tiny_multimodal.encode_depth(DEPTH), atol=1e-5)
    # Modules that somebody arranged stay as they are.
    before = [(tmp_path / "depth" / name).read_bytes() for name in FILES]
    write_sentence_transformers_files(tmp_path / "depth")
    assert [(tmp_path / "depth" / name).read_bytes() for name in FILES] == before


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ({"tokenizer"}, {"image"}),
        ({"image_processor"}, {"text"}),
        ({"depth_image_processor"}, {"text", "image"}),
        ({"tokenizer", "image_processor"}, None),
    ],
)
def test_only_what_has_a_processor(absent, expected, tmp_path):
    model = tiny_model(depth="depth_image_processor" not in absent)
    for name in absent:
        setattr(model.processor, name, None)
    saved(model, tmp_path)
    if expected is None:
        assert not any((tmp_path / name).exists() for name in FILES)
        return
    loaded = load(tmp_path)
    assert set(loaded.modalities) == expected
    for kind, (items, embed) in {"text": (TEXTS, model.encode_text), "image": ([RGB], model.encode_image)}.items():
        if kind in expected:
            np.testing.assert_allclose(loaded.encode(items), embed(items), atol=1e-5)


def test_files_follow_the_repo(tiny_multimodal, tmp_path):
    tokenizer, tiny_multimodal.processor.tokenizer = tiny_multimodal.processor.tokenizer, None
    saved(tiny_multimodal, tmp_path)
    tiny_multimodal.processor.tokenizer = tokenizer
    saved(tiny_multimodal, tmp_path)
    assert set(json.loads((tmp_path / FILES[1]).read_text())["modality_config"]) == {"text", "image"}
    (tmp_path / FILES[1]).write_text("{}")  # somebody else's
    (tmp_path / FILES[0]).unlink()
    write_sentence_transformers_files(tmp_path)
    assert (tmp_path / FILES[1]).read_text() == "{}" and not (tmp_path / FILES[0]).exists()


def test_another_model(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a model of type .bert., neither ours"):
        write_sentence_transformers_files(tmp_path)
