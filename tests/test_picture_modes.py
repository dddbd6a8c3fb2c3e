"""Pictures as people have them, through every tool: embedded as the plain RGB picture that a viewer shows."""

import io

import numpy as np
import pytest
from datasets import Dataset, Image, load_dataset
from PIL import Image as Pictures

from hf_encoders import load_encoder
from hf_encoders.commands import main as cli
from hf_encoders.embed import with_embeddings
from hf_encoders.search import EmbeddingIndex
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.helpers.any_encoders import save_encoder
from tests.helpers.multimodal_models import tiny_model

# EXIF's orientation → what shows such pixels upright, by the table of its standard.
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: np.rot90(pixels),
}
GREY, COLOURS = np.indices((40, 52)).sum(0).astype(np.uint8) * 2, 6  # a slope, and so many colours of a palette
ALPHA = np.tile(np.repeat(np.array([0, 90, 255, 200], np.uint8), 13), (40, 1))


def blocks():
    """A picture of large coloured blocks [40, 52, 3], which lies differently in every orientation."""
    return np.random.default_rng(5).integers(0, 256, (5, 4, 3), np.uint8).repeat(8, 0).repeat(13, 1)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def on_white(colours, alpha):
    share = alpha[..., None] / 255
    return (colours * share + 255 * (1 - share)).round().astype(np.uint8)


def samples():
    """Mode → the bytes of a file of it, and the pixels [H, W, 3] that a viewer shows."""
    grey = np.stack([GREY] * 3, -1)
    colours, numbers = blocks(), np.arange(40 * 52).reshape(40, 52) // 350
    palette = np.random.default_rng(1).integers(0, 256, (COLOURS, 3), np.uint8)
    indexed = Pictures.fromarray(numbers.astype(np.uint8), "L").convert("P")
    indexed.putpalette(palette.flatten().tolist())
    clear = np.array([0, 255, 80, 255, 255, 30], np.uint8)
    found = {
        "RGB.png": (file_of(Pictures.fromarray(colours)), colours),
        "L.png": (file_of(Pictures.fromarray(GREY)), grey),
        "LA.png": (file_of(Pictures.fromarray(np.dstack([GREY, ALPHA]), "LA")), on_white(grey, ALPHA)),
        "RGBA.png": (file_of(Pictures.fromarray(np.dstack([colours, ALPHA]))), on_white(colours, ALPHA)),
        "P.png": (file_of(indexed), palette[numbers]),
        "P-clear.png": (
            file_of(indexed, transparency=clear.tobytes()),
            on_white(palette[numbers], clear[numbers]),
        ),
        "I16.png": (file_of(Pictures.fromarray(GREY.astype(np.uint16) * 257)), grey),
        "1.png": (file_of(Pictures.fromarray(GREY > 90)), (grey > 90) * np.uint8(255)),
    }
    cmyk = file_of(Pictures.fromarray(colours).convert("CMYK"), "JPEG", quality=95)
    found["CMYK.jpg"] = cmyk, np.asarray(Pictures.open(io.BytesIO(cmyk)).convert("RGB"))
    for orientation, turn in TURNS.items():
        exif = Pictures.Exif()
        exif[0x0112] = orientation
        content = file_of(Pictures.fromarray(colours), "JPEG", exif=exif, quality=95)
        found[f"exif-{orientation}.jpg"] = content, turn(np.asarray(Pictures.open(io.BytesIO(content))))
    return dict(sorted(found.items()))


SAMPLES = samples()
CONTENTS = [content for content, _ in SAMPLES.values()]
PLAIN = [Pictures.fromarray(np.ascontiguousarray(pixels)) for _, pixels in SAMPLES.values()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in zip(SAMPLES, CONTENTS, strict=True):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module", params=["vit", "clip", "ours"])
def repo(request, tmp_path_factory):
    """The repo of an encoder."""
    folder = tmp_path_factory.mktemp("encoders") / request.param
    if request.param == "ours":
        tiny_model().save_pretrained(folder)
        return str(folder)
    return str(save_encoder(request.param, folder, scale=4))


def opened():
    return [Pictures.open(io.BytesIO(content)) for content in CONTENTS]


def rows_of(cells):
    return Dataset.from_dict({"image": cells}).cast_column("image", Image())


def by_command(repo, folder, tmp_path):
    words = ["encode", repo, str(folder), "--output", str(tmp_path / "out.npz")]
    cli.command([*words, *(["--modality", "image"] if repo.endswith("ours") else [])])
    return np.load(tmp_path / "out.npz")["embeddings"]


def by_embed(repo, folder, tmp_path):
    cli.command(["embed", repo, str(folder), "--modality", "image", "--output", str(tmp_path / "out")])
    table = load_dataset(str(tmp_path / "out" / "data"), split="train").with_format("numpy")
    return table["embedding"][:]


# Way in → the embeddings of the pictures, in order.
WAYS = {
    "files": lambda repo, folder, _: load_encoder(repo).encode_image([str(folder / name) for name in SAMPLES]),
    "opened": lambda repo, folder, _: load_encoder(repo).encode_image(opened()),
    "bytes": lambda repo, folder, _: load_encoder(repo).encode_image([{"bytes": content} for content in CONTENTS]),
    "rows": lambda repo, folder, _: load_encoder(repo).encode_image(
        rows_of([{"bytes": content, "path": None} for content in CONTENTS])["image"]
    ),
    "a column": lambda repo, folder, _: with_embeddings(
        rows_of([str(folder / name) for name in SAMPLES]), load_encoder(repo), "image", "image"
    ).with_format("numpy")["embedding"][:],
    "the command encode": by_command,
    "the command embed": by_embed,
}


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("way", WAYS)
def test_every_mode_is_embedded_as_the_picture_that_is_shown(way, repo, folder, tmp_path):
    plain = unit(load_encoder(repo).encode_image(PLAIN))
    found = unit(WAYS[way](repo, folder, tmp_path))
    # Two of them differ by far more than the rounding of alpha to 8 bits makes.
    assert np.abs(plain[list(SAMPLES).index("exif-1.jpg")] - plain[list(SAMPLES).index("exif-2.jpg")]).max() > 0.02
    far = dict(zip(SAMPLES, np.abs(found - plain).max(1), strict=True))
    assert {name: distance for name, distance in far.items() if not distance < 5e-3} == {}


def test_every_mode_finds_the_picture_that_is_shown(repo, folder):
    encoder = load_encoder(repo)
    index = EmbeddingIndex.from_dataset(encoder, rows_of(PLAIN), "image", "image")
    for queries in (opened(), [str(folder / name) for name in SAMPLES]):
        scores = [hits[0].score for hits in index.search(queries, k=1, modality="image")]
        assert scores == pytest.approx([1] * len(SAMPLES), abs=1e-4)


def test_every_mode_is_classified_as_the_picture_that_is_shown(repo, folder):
    encoder = load_encoder(repo)
    if "text" not in encoder.towers:
        return
    classifier = ZeroShotClassifier(encoder, ["a chair", "the red lamp", "a table"], "{}")

    def scores(inputs):
        found = classifier.classify(inputs, "image", top_k=3)
        return [{best["label"]: pytest.approx(best["score"], abs=1e-2) for best in row} for row in found]

    given = classifier.classify([str(folder / name) for name in SAMPLES], "image", top_k=3)
    assert [{best["label"]: best["score"] for best in row} for row in given] == scores(PLAIN)
