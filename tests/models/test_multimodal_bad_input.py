"""What the multimodal encoder says of input that it cannot use, and what it does with the rest."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage

MODALITIES = ["text", "image", "depth"]
ITEM = {"text": "text", "image": "image", "depth": "map"}  # what messages call an input
GRADIENT = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)


def good(modality, count):
    """Inputs that differ, of a modality."""
    if modality == "text":
        return ["a red chair " * (1 + index % 3) + f"number {index % 10}" for index in range(count)]
    maps = [np.roll(GRADIENT, index, axis=1) for index in range(count)]
    return maps if modality == "depth" else [np.stack([one, one.T.reshape(6, 8), one], axis=-1) for one in maps]


def bad(modality):
    """An input that its type does not give away."""
    return None if modality == "text" else np.full_like(good(modality, 1)[0], np.nan)


def encode(model, modality, inputs, **options):
    return getattr(model, f"encode_{modality}")(inputs, **options)


def refusal(model, modality, inputs):
    """The one line that is said of them."""
    with pytest.raises((ValueError, TypeError)) as error:
        encode(model, modality, inputs)
    message = str(error.value)
    assert "\n" not in message and message.isprintable()
    return message


def cut_jpeg():
    file = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()[:1500]


@pytest.mark.parametrize("modality", MODALITIES)
def test_no_input_gives_no_rows(tiny_multimodal, modality):
    dimensions = tiny_multimodal.config.projection_dim
    for nothing in ([], (), iter([])):
        embeddings = encode(tiny_multimodal, modality, nothing)
        assert embeddings.shape == (0, dimensions) and embeddings.dtype == torch.float32
    embeddings, kept = encode(tiny_multimodal, modality, [], on_error="skip", convert_to="numpy")
    assert embeddings.shape == (0, dimensions) and kept.shape == (0,) and kept.dtype == bool


@pytest.mark.numeric
def test_an_empty_string_is_a_text(tiny_multimodal):
    rows = tiny_multimodal.encode_text(["", "a red chair", " "])
    assert torch.allclose(rows.norm(dim=-1), torch.ones(3)) and torch.allclose(rows[0], rows[2], atol=1e-6)
    assert torch.allclose(tiny_multimodal.encode_text("")[0], rows[0], atol=1e-6)


@pytest.mark.parametrize("modality", ["image", "depth"])
def test_an_empty_string_is_no_file(tiny_multimodal, modality):
    assert "an empty path" in refusal(tiny_multimodal, modality, [""])


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("bad", [None, 3, 2.5, object()], ids=["None", "int", "float", "object"])
def test_what_is_no_input_is_named(tiny_multimodal, modality, bad):
    kind = type(bad).__name__
    assert kind in refusal(tiny_multimodal, modality, bad)
    message = refusal(tiny_multimodal, modality, [*good(modality, 2), bad])
    assert f"{ITEM[modality]} 2: a {kind}, expected" in message


@pytest.mark.parametrize(
    ("modality", "bad", "expected"),
    [
        ("text", PILImage.new("RGB", (4, 4)), "text 0: a Image, expected a string"),
        ("text", [GRADIENT], "text 0: a ndarray, expected a string"),
        ("text", GRADIENT, "text 0: a ndarray, expected a string"),
        ("text", [["a", "b"]], "text 0: a list, expected a string"),
        ("text", [b"a red chair"], "text 0: a bytes, expected a string"),
        ("text", {"pixel_values": torch.zeros(1, 3, 32, 32)}, "pixel_values"),
        ("image", "a red chair", "a red chair: no such file"),
        ("image", [["a red chair"]], "image 0: a list"),
        ("image", np.full((4, 4), 3.5, np.float32), "image 0: floats from 3.5 to 3.5, expected 0 to 1"),
        ("image", PILImage.fromarray(np.full((4, 4), 3500.0, np.float32)), "encode_depth"),
        ("image", {"input_ids": torch.zeros(1, 4, dtype=torch.long)}, "input_ids"),
        ("depth", "a red chair", "a red chair: no such file"),
        ("depth", [["a red chair"]], "map 0: a list"),
        ("depth", [np.zeros((4, 4))], "no valid pixel"),
        ("depth", {"input_ids": torch.zeros(1, 4, dtype=torch.long)}, "input_ids"),
        ("depth", PILImage.fromarray(np.eye(4, dtype=np.uint8)).convert("P"), "mode 'P', expected depth"),
    ],
)
def test_the_wrong_modality(tiny_multimodal, modality, bad, expected):
    assert expected in refusal(tiny_multimodal, modality, bad)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_whole_data_set_is_asked_for_its_column(tiny_multimodal, modality):
    message = refusal(tiny_multimodal, modality, Dataset.from_dict({"caption": ["a"], "noun": ["b"]}))
    assert "caption, noun" in message


def test_an_absent_tower_is_named(tiny_multimodal):
    settings = tiny_multimodal.config.to_dict() | {"depth_config": None}
    model = type(tiny_multimodal)(type(tiny_multimodal.config)(**settings))
    for inputs in ([], good("depth", 1), {"depth_values": torch.zeros(1, 1, 32, 32)}):
        assert "no depth tower" in refusal(model, "depth", inputs)


def test_a_cut_jpeg_is_named_wherever_it_comes_from(tiny_multimodal, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(cut_jpeg())
    path = str(tmp_path / "cut.jpg")
    column = Dataset.from_dict({"image": [{"bytes": cut_jpeg(), "path": None}]}).cast_column("image", Image())["image"]
    undecoded = [{"bytes": cut_jpeg(), "path": None}]
    for inputs, name in ((path, path), ([tmp_path / "cut.jpg"], path), (undecoded, "image 0"), (column, "item 0")):
        assert name in refusal(tiny_multimodal, "image", inputs)


@pytest.mark.parametrize(
    ("modality", "kind"),
    [(modality, kind) for modality in MODALITIES for kind in (list, iter)] + [("image", np.array), ("depth", np.array)],
)
def test_one_bad_input_among_a_thousand_is_named(tiny_multimodal, modality, kind):
    inputs = good(modality, 1000)
    inputs[617] = bad(modality)
    assert f"{ITEM[modality]} 617: " in refusal(tiny_multimodal, modality, kind(inputs))


@pytest.mark.numeric
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_skipping_gives_the_rest_and_which_they_are(tiny_multimodal, modality, batch_size):
    inputs = good(modality, 9)
    for index in (0, 4, 5):
        inputs[index] = bad(modality)
    embeddings, kept = encode(tiny_multimodal, modality, inputs, batch_size=batch_size, on_error="skip")
    assert kept.tolist() == [False, True, True, True, False, False, True, True, True]
    rest = encode(tiny_multimodal, modality, [item for item, keep in zip(inputs, kept, strict=True) if keep])
    torch.testing.assert_close(embeddings, rest, atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", MODALITIES)
def test_skipping_everything(tiny_multimodal, modality):
    for inputs in ([bad(modality)] * 5, bad(modality)):
        embeddings, kept = encode(tiny_multimodal, modality, inputs, on_error="skip")
        assert embeddings.shape == (0, tiny_multimodal.config.projection_dim) and not kept.any()
    assert kept.shape == (1,)


@pytest.mark.parametrize("modality", MODALITIES)
def test_skipping_nothing(tiny_multimodal, modality):
    embeddings, kept = encode(tiny_multimodal, modality, good(modality, 5), on_error="skip")
    assert len(embeddings) == 5 and kept.tolist() == [True] * 5


def test_skipping_what_a_data_set_cannot_decode(tiny_multimodal):
    file = io.BytesIO()
    PILImage.new("RGB", (8, 8), "red").save(file, "JPEG")
    items = [{"bytes": content, "path": None} for content in (file.getvalue(), cut_jpeg(), file.getvalue())]
    column = Dataset.from_dict({"image": items}).cast_column("image", Image())["image"]
    for inputs in (column, items):
        embeddings, kept = tiny_multimodal.encode_image(inputs, on_error="skip")
        assert kept.tolist() == [True, False, True]
        torch.testing.assert_close(embeddings[0], embeddings[1])


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"on_error": "ignore"}, "on_error is 'raise' or 'skip'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"truncate_dim": 0}, "truncate_dim must be from 1 to"),
        ({"convert_to": "list"}, "convert_to is 'tensor' or 'numpy'"),
        ({"convert_to": "nump"}, "got 'nump'"),
    ],
)
@pytest.mark.parametrize("is_processed", [False, True], ids=["raw", "processed"])
def test_options_out_of_range(tiny_multimodal, modality, option, expected, is_processed):
    inputs = good(modality, 1)
    if is_processed:
        names = {"text": "text", "image": "images", "depth": "depth"}
        inputs = tiny_multimodal.processor(**{names[modality]: inputs})
    with pytest.raises(ValueError, match=expected):
        encode(tiny_multimodal, modality, inputs, **option)
