"""`encode_text`, `encode_image`, `encode_depth`: every form of input, order, padding, gradients, options."""

import copy
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from transformers import AutoModel

from hf_encoders import (
    DepthImageProcessor,
    DepthSemanticEncoderModel,
    MultimodalEncoderModel,
    MultimodalEncoderProcessor,
)
from hf_encoders.models.text_tower import Truncation, note_cut_texts
from tests.helpers.multimodal_models import LENGTH, SIZE, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.numeric

WORDS = "red green blue chair table lamp small large left right".split()
TEXTS = [" ".join(WORDS[index % 10 : index % 10 + 1 + index % 4] + ["a"] * (index % 7)) for index in range(20)]
PICTURES = [np.random.RandomState(index).randint(0, 256, (24 + index, 40, 3), dtype=np.uint8) for index in range(6)]
MAPS = [1 + np.sin(np.linspace(0, 3 + index, 1600)).reshape(40, 40) ** 2 for index in range(6)]


def one_by_one(model, texts):
    rows = [model.get_text_features(**model.text_tokenizer(text, return_tensors="pt")).pooler_output for text in texts]
    return nn.functional.normalize(torch.cat(rows), dim=-1).detach()


def differ(rows):
    """Whether the order of the rows would show."""
    return torch.pdist(rows).min() > 1e-3


def as_files(pictures, folder, suffix=".png"):
    paths = [folder / f"{index}{suffix}" for index in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        Image.fromarray(picture).save(path)
    return paths


TEXT_FORMS = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "generator": lambda texts: (text for text in texts),
    "array": np.array,
    "column": lambda texts: Dataset.from_dict({"caption": texts})["caption"],
}


@pytest.mark.parametrize("form", TEXT_FORMS)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_texts_come_back_in_order(form, batch_size, tiny_multimodal):
    texts = list(dict.fromkeys(TEXTS))
    expected = one_by_one(tiny_multimodal, texts)
    assert differ(expected)
    embeddings = tiny_multimodal.encode_text(TEXT_FORMS[form](texts), batch_size=batch_size)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    assert embeddings.dtype == torch.float32 and not embeddings.requires_grad


def test_windows_of_many_texts_keep_their_order(tiny_multimodal):
    texts = [TEXTS[index * 7 % 20] for index in range(200)]  # batches of 1 make windows of 64
    expected = {text: row for text, row in zip(TEXTS, one_by_one(tiny_multimodal, TEXTS), strict=True)}
    embeddings = tiny_multimodal.encode_text(iter(texts), batch_size=1)
    torch.testing.assert_close(embeddings, torch.stack([expected[text] for text in texts]), atol=1e-5, rtol=0)


def test_texts_of_like_length_share_a_batch(tiny_multimodal):
    shapes = []
    tiny_multimodal.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    tiny_multimodal.encode_text(["red", "red " * 9, "blue", "blue " * 9], batch_size=2)
    assert shapes == [(2, 11), (2, 3)]


def test_a_string_is_one_text(tiny_multimodal):
    assert torch.equal(tiny_multimodal.encode_text("a red chair"), tiny_multimodal.encode_text(["a red chair"]))


def test_long_texts_are_cut_with_one_warning(tiny_multimodal, caplog):
    long = [f"{word} " * 40 for word in WORDS]
    embeddings = tiny_multimodal.encode_text(["red", *long], batch_size=1)
    cut = tiny_multimodal.encode_text([f"{word} " * (LENGTH - 2) for word in WORDS])
    torch.testing.assert_close(embeddings[1:], cut, atol=1e-5, rtol=0)
    messages = [record.getMessage() for record in caplog.records]
    those = f"{len(WORDS)} texts (the first is text 1) are"
    assert messages == [f"{those} longer than {LENGTH} tokens; what is beyond is left out"]


def test_one_long_text_is_named(tiny_multimodal, caplog):
    tiny_multimodal.encode_text(["red", "red " * 40, "red " * (LENGTH - 2), ""])
    assert caplog.messages == [f"text 1 is longer than {LENGTH} tokens; what is beyond is left out"]


def test_a_tokenizer_in_python_counts_too(tiny_multimodal, caplog):
    tokenizer = tiny_multimodal.text_tokenizer
    texts = {4: "red " * 40, 7: "red " * (LENGTH - 2)}
    truncation = Truncation()
    tokens = dict(tokenizer(list(texts.values()), truncation=True))  # without what the one in Rust keeps
    note_cut_texts(tokenizer, texts, tokens, [LENGTH, LENGTH], LENGTH, truncation)
    assert (truncation.count, truncation.first) == (1, 4) and not caplog.records


def test_prompts_go_before_texts(tiny_multimodal, tmp_path, caplog):
    encoded = tiny_multimodal.encode_text(["chair", "lamp"])
    for encode in (tiny_multimodal.encode_query, tiny_multimodal.encode_document):  # without prompts
        assert torch.equal(encode(["chair", "lamp"]), encoded)
    tiny_multimodal.prompts = {"query": "a red "}
    tiny_multimodal.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    assert model.prompts == {"query": "a red "}
    expected = tiny_multimodal.encode_text(["a red chair", "a red lamp"])
    torch.testing.assert_close(model.encode_query(["chair", "lamp"]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.encode_query(word for word in ("chair", "lamp")), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.encode_document(["chair", "lamp"]), encoded, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="the prompt 'a red ' goes before raw texts"):
        model.encode_query(model.processor(text=["chair"]))
    caplog.clear()
    model.encode_query("chair " * (LENGTH - 3))
    assert "text 0 is longer than" in caplog.text  # with its prompt
    model.prompts = {}
    model.save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).prompts == {}


def test_damaged_prompts_are_named(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": 3}')
    with pytest.raises(ValueError, match=r"config_sentence_transformers\.json: prompts cannot be read"):
        AutoModel.from_pretrained(tmp_path)


def test_texts_that_just_fit_give_no_warning(tiny_multimodal, caplog):
    tiny_multimodal.encode_text("red " * (LENGTH - 2))
    assert not caplog.records


def test_the_limit_is_the_towers_where_the_tokenizer_states_none(tiny_multimodal, caplog):
    tiny_multimodal.processor.tokenizer.model_max_length = int(1e30)
    tiny_multimodal.encode_text("red " * 40)
    assert f"longer than {LENGTH} tokens" in caplog.text


def test_the_limit_is_the_tokenizers_where_that_is_less(tiny_multimodal, caplog):
    cut = tiny_multimodal.encode_text("red " * 4)
    tiny_multimodal.processor.tokenizer.model_max_length = 6
    torch.testing.assert_close(tiny_multimodal.encode_text("red " * 5), cut, atol=1e-5, rtol=0)
    assert "longer than 6 tokens" in caplog.text


def processed(model):
    return model.processor(text=TEXTS[:6], images=PICTURES, depth=MAPS)


RAW = {"text": TEXTS[:6], "image": PICTURES, "depth": MAPS}


@pytest.mark.parametrize("kind", RAW)
def test_processed_inputs_give_the_embeddings_of_raw_ones_without_gradients(kind, tiny_multimodal):
    encode = getattr(tiny_multimodal, f"encode_{kind}")
    embeddings = encode(processed(tiny_multimodal), batch_size=4)
    assert embeddings.dtype == torch.float32 and not embeddings.requires_grad and not embeddings.is_inference()
    torch.testing.assert_close(embeddings, encode(RAW[kind]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", RAW)
def test_encode_is_inference_in_training_mode_too(kind, tiny_multimodal):
    tiny_multimodal.config.text_config.hidden_dropout_prob = 0.5
    tiny_multimodal.train()
    encode = getattr(tiny_multimodal, f"encode_{kind}")
    for inputs in (RAW[kind], processed(tiny_multimodal)):
        assert torch.equal(encode(inputs), encode(inputs))  # no dropout, no statistics of a batch
    assert tiny_multimodal.training and all(module.training for module in tiny_multimodal.modules())


def test_forward_has_the_same_embeddings_with_gradients(tiny_multimodal):
    inputs = processed(tiny_multimodal)
    outputs = tiny_multimodal(**inputs)
    found = {"text": outputs.text_embeds, "image": outputs.image_embeds, "depth": outputs.depth_embeds}
    for kind, embeddings in found.items():
        expected = getattr(tiny_multimodal, f"encode_{kind}")(inputs)
        torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    (found["text"] * found["image"] * found["depth"]).sum().backward()
    for name in ("text", "visual", "depth"):
        for part in ("encoder", "projection"):
            gradients = [p.grad for p in getattr(tiny_multimodal, f"{name}_{part}").parameters()]
            assert any(gradient is not None and gradient.any() for gradient in gradients)


def test_the_legacy_way_around_the_towers(tiny_multimodal):
    tokens = tiny_multimodal.text_tokenizer(TEXTS, return_tensors="pt", padding=True)
    feature = tiny_multimodal.text_projection(tiny_multimodal.text_encoder(**tokens).last_hidden_state[:, 0])
    torch.testing.assert_close(nn.functional.normalize(feature, dim=-1), tiny_multimodal.encode_text(tokens))
    pixels = tiny_multimodal.image_processor(PICTURES, return_tensors="pt")["pixel_values"]
    feature = tiny_multimodal.visual_projection(tiny_multimodal.visual_encoder(pixels).last_hidden_state[:, 0])
    torch.testing.assert_close(nn.functional.normalize(feature, dim=-1), tiny_multimodal.encode_image(pixels))


def test_the_processors_whole_output_serves_each(tiny_multimodal):
    inputs = tiny_multimodal.processor(text=TEXTS[:6], images=PICTURES, depth=MAPS)
    outputs = tiny_multimodal(**inputs)
    torch.testing.assert_close(tiny_multimodal.encode_text(inputs), outputs.text_embeds)
    torch.testing.assert_close(tiny_multimodal.encode_image(inputs), outputs.image_embeds)
    torch.testing.assert_close(tiny_multimodal.encode_depth(inputs), outputs.depth_embeds)


IMAGE_FORMS = {
    "arrays": lambda folder: PICTURES,
    "images": lambda folder: [Image.fromarray(picture) for picture in PICTURES],
    "paths": lambda folder: as_files(PICTURES, folder),
    "strings": lambda folder: [str(path) for path in as_files(PICTURES, folder)],
    "generator": lambda folder: iter(PICTURES),
    "column": lambda folder: Dataset.from_dict({"i": [Image.fromarray(p) for p in PICTURES]})["i"],
    "undecoded": lambda folder: [{"bytes": path.read_bytes(), "path": None} for path in as_files(PICTURES, folder)],
    "mixed": lambda folder: [*as_files(PICTURES, folder)[:3], *PICTURES[3:]],
}


@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_every_form_of_the_same_images(form, tiny_multimodal, tmp_path):
    pixels = tiny_multimodal.image_processor([Image.fromarray(p) for p in PICTURES], return_tensors="pt")
    with torch.no_grad():
        expected = tiny_multimodal(**pixels).image_embeds
    assert differ(expected)
    embeddings = tiny_multimodal.encode_image(IMAGE_FORMS[form](tmp_path), batch_size=4)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "form",
    [
        lambda folder: PICTURES[0],
        lambda folder: torch.from_numpy(PICTURES[0]),
        lambda folder: Image.fromarray(PICTURES[0]),
        lambda folder: as_files(PICTURES[:1], folder)[0],
        lambda folder: str(as_files(PICTURES[:1], folder)[0]),
        lambda folder: {"path": str(as_files(PICTURES[:1], folder)[0]), "bytes": None},
        lambda folder: PICTURES[0][None],
    ],
    ids=["array", "tensor", "image", "path", "string", "undecoded", "batch of one"],
)
def test_one_image_gives_one_row(form, tiny_multimodal, tmp_path):
    expected = tiny_multimodal.encode_image(PICTURES[:1])
    torch.testing.assert_close(tiny_multimodal.encode_image(form(tmp_path)), expected, atol=1e-5, rtol=0)


def test_depth_maps_go_through_the_depth_processor(tiny_multimodal, tmp_path):
    tiny_multimodal.processor.depth_image_processor.invalid_fill = 0.5
    values = tiny_multimodal.depth_processor(MAPS)["pixel_values"]
    with torch.no_grad():
        expected = tiny_multimodal(depth_values=values).depth_embeds
    for index, one in enumerate(MAPS):
        np.save(tmp_path / f"{index}.npy", one)
    paths = [tmp_path / f"{index}.npy" for index in range(len(MAPS))]
    for inputs in (MAPS, np.stack(MAPS), paths, Dataset.from_dict({"d": MAPS}).with_format("numpy")["d"]):
        embeddings = tiny_multimodal.encode_depth(inputs, batch_size=4)
        torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)


def test_the_depth_tower_by_itself_reads_maps_as_the_model_does(tiny_multimodal, tmp_path):
    default = tiny_multimodal.encode_depth(MAPS)
    tiny_multimodal.processor.depth_image_processor = DepthImageProcessor(
        size=tiny_multimodal.config.depth_config.image_size, normalization="range", value_range=(0, 4)
    )
    tiny_multimodal.save_pretrained(tmp_path / "model")
    loaded = MultimodalEncoderModel.from_pretrained(tmp_path / "model")
    tower = copy.deepcopy(loaded.depth_encoder)
    tower.save_pretrained(tmp_path / "tower")
    tower_of = MultimodalEncoderModel.from_towers(loaded.text_encoder, loaded.visual_encoder, loaded.depth_encoder)
    for model in (tiny_multimodal, loaded):
        expected = model.encode_depth(MAPS)
        assert (expected - default).abs().max() > 1e-3
        alone = model.depth_encoder.encode(MAPS)
        torch.testing.assert_close(nn.functional.normalize(model.depth_projection(alone), dim=-1), expected)
    for other in (tower, DepthSemanticEncoderModel.from_pretrained(tmp_path / "tower"), tower_of.depth_encoder):
        torch.testing.assert_close(other.encode(MAPS), alone)


@pytest.mark.parametrize("kind", ["text", "image", "depth"])
@pytest.mark.parametrize("processed", [False, True])
def test_options(kind, processed, tiny_multimodal):
    raw = {"text": TEXTS[:6], "image": PICTURES, "depth": MAPS}[kind]
    names = {"text": "text", "image": "images", "depth": "depth"}
    inputs = tiny_multimodal.processor(**{names[kind]: raw}) if processed else raw
    encode = getattr(tiny_multimodal, f"encode_{kind}")
    features = encode(inputs, normalize=False)
    assert not torch.allclose(features.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(encode(inputs), nn.functional.normalize(features, dim=-1))
    short = encode(inputs, truncate_dim=3, convert_to="numpy", device="cpu")
    assert isinstance(short, np.ndarray) and short.dtype == np.float32
    expected = nn.functional.normalize(features[:, :3], dim=-1).detach().numpy()
    np.testing.assert_allclose(short, expected, atol=1e-5)
    half = encode(inputs, dtype="bfloat16")
    assert torch.cosine_similarity(half.float(), features).min() > 0.99 and not torch.equal(
        half.float(), encode(inputs)
    )
    rows, kept = encode(inputs, on_error="skip")
    assert torch.equal(rows, encode(inputs)) and kept.tolist() == [True] * 6


def test_progress_bar_counts_texts(tiny_multimodal, capsys):
    tiny_multimodal.encode_text(TEXTS, batch_size=8, show_progress_bar=True)
    assert re.search(r"Encoding.*20/20", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode_text(TEXTS, batch_size=0), "batch_size must be at least 1"),
        (lambda m: m.encode_text(TEXTS, truncate_dim=9), "truncate_dim must be from 1 to 8, got 9"),
        (lambda m: m.encode_text(m.processor(text=TEXTS), truncate_dim=9), "truncate_dim must be from 1 to 8, got 9"),
        (lambda m: m.encode_text(TEXTS, on_error="ignore"), "on_error is 'raise' or 'skip', got 'ignore'"),
        (lambda m: m.encode_text({"text": TEXTS}), "a mapping with text, expected input_ids"),
        (lambda m: m.encode_text(["a", "b\udcff"]), "text 1: holds lone surrogates"),
        (
            lambda m: m.encode_text(m.text_tokenizer("red " * 40, return_tensors="pt")),
            f"42 tokens, the model takes {LENGTH}; tokenize with truncation=True",
        ),
        (lambda m: m.encode_image({"input_ids": [1]}), "a mapping with input_ids, expected pixel_values"),
        (lambda m: m.encode_depth({"input_ids": [1]}), "expected depth_values or pixel_values"),
    ],
)
def test_errors(call, message, tiny_multimodal):
    with pytest.raises(ValueError, match=message):
        call(tiny_multimodal)


def test_another_models_tokenizer_is_refused(tiny_multimodal):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["sofa"])
    tiny_multimodal.processor.tokenizer = tokenizer
    with pytest.raises(ValueError, match=r"the tokenizer has 26 tokens and the text tower 25"):
        tiny_multimodal.encode_text("a sofa")


def test_options_that_do_not_exist(tiny_multimodal):
    for inputs in (TEXTS, tiny_multimodal.processor(text=TEXTS)):
        with pytest.raises(TypeError, match="normalise"):
            tiny_multimodal.encode_text(inputs, normalise=True)


@pytest.mark.parametrize(
    ("values", "warns"), [(torch.full((1, 3, SIZE, SIZE), 2.6), False), (torch.full((1, 3, SIZE, SIZE), 200.0), True)]
)
def test_raw_pixels_passed_for_processed_ones_are_warned_of(values, warns, tiny_multimodal, recwarn):
    tiny_multimodal.encode_image(values)
    assert any("outside" in str(one.message) for one in recwarn) == warns


def test_a_model_without_its_processors_still_takes_processed_inputs():
    model = tiny_model()
    inputs = model.processor(text=TEXTS)
    model.processor = MultimodalEncoderProcessor()
    assert model.encode_text(inputs).shape == (20, 8)
