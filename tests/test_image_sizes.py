"""Images of another size than a model's own, interpolated as transformers does it, in every tool, where one asks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextImageProcessorPil,
    DeiTConfig,
    DeiTModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from hf_encoders import load_encoder
from hf_encoders.backends import compiled
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.export.towers import export
from hf_encoders.maker import differences, maker
from hf_encoders.search import EmbeddingIndex
from hf_encoders.towers import make_tower
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import BOTH, IMAGES, save_encoder
from tests.helpers.pictures import save_pictures

OWN, OTHER = 32, 64
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": OWN,
    "patch_size": 8,
}
_BERT = {"vocab_size": 16, "max_position_embeddings": 16}
MORE = {
    "deit": lambda: DeiTModel(DeiTConfig(**_VIT)),
    "clip-vision": lambda: CLIPVisionModel(CLIPVisionConfig(**_VIT)),
}
# Those that interpolate where they are told to, and those that take any size.
TOLD, ANY = ("vit", "deit", "clip", "clip-vision", "siglip"), ("dinov2", "dinov3", "swin", "convnext", "resnet")
FIRST_TOKEN = ("vit", "deit", "dinov2", "dinov3", "clip-vision")
PICTURES = [
    Image.fromarray(np.random.default_rng(index).integers(0, 255, size=(90, 120, 3), dtype=np.uint8))
    for index in range(4)
]
BACKENDS = ("torch", "onnx", "openvino")


def processor(side=OTHER, **settings):
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return BitImageProcessorPil(**sizes | settings)


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    """Family → its repo."""
    folder = tmp_path_factory.mktemp("encoders")
    for family, make in MORE.items():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4 if parameter.ndim > 1 else 1)
        model.save_pretrained(folder / family)
        processor(OWN).save_pretrained(folder / family)
    for family in (*IMAGES, *BOTH, "bert"):
        save_encoder(family, folder / family, scale=4)
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of the pictures."""
    return save_pictures(tmp_path_factory.mktemp("photos"), PICTURES)


def expected(family, repo):
    """The embeddings at the other size, by transformers alone."""
    model, told = load_encoder(repo).model, {"interpolate_pos_encoding": True} if family in TOLD else {}
    pixels = processor()(PICTURES, return_tensors="pt")
    assert pixels["pixel_values"].shape == (len(PICTURES), 3, OTHER, OTHER)
    with torch.no_grad():
        if family in BOTH:
            features = model.get_image_features(**pixels, **told).pooler_output
            return torch.nn.functional.normalize(features, dim=-1)
        outputs = model(**pixels, **told)
    return outputs.last_hidden_state[:, 0] if family in FIRST_TOKEN else outputs.pooler_output.flatten(1)


def assert_equal(actual, wanted, within=1e-5):
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    np.testing.assert_allclose(actual, wanted, atol=within * np.abs(wanted).max())


def command(*words):
    cli.command([str(word) for word in words])


def refusal(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(lambda: command(*words))
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if "it/s]" not in line and "images/s]" not in line]  # progress
    assert stop.value.code == 2 and len(list(filter(None, lines))) == 1, error
    return error


@pytest.mark.parametrize("family", [*TOLD, *ANY])
def test_positions_are_interpolated_as_transformers_does_it(family, repos):
    encoder, plain = load_encoder(repos[family], interpolate=OTHER), load_encoder(repos[family])
    wanted = expected(family, repos[family])
    assert encoder.interpolate == OTHER
    assert_equal(encoder.encode_image(PICTURES), wanted)
    with pytest.raises(AssertionError):
        assert_equal(plain.encode_image(PICTURES), wanted, within=1e-3)


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_every_pooling_is_of_all_tokens(pooling, repos):
    encoder = load_encoder(repos["vit"], interpolate=OTHER, pooling=pooling)
    pixels = processor()(PICTURES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        outputs = encoder.model(pixels, interpolate_pos_encoding=True)
    hidden = outputs.last_hidden_state
    assert hidden.shape[1] == 1 + (OTHER // 8) ** 2
    wanted = {"cls": hidden[:, 0], "mean": hidden.mean(1), "pooler": outputs.pooler_output}[pooling]
    assert_equal(encoder.encode_image(PICTURES), wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["vit", "clip"])
def test_images_of_another_size_name_the_option(family, backend, repos):
    encoder = load_encoder(repos[family], image_processor=processor())
    with pytest.raises(ValueError) as error:
        encoder.encode_image(PICTURES, backend=backend)
    assert str(error.value) == (
        f"{repos[family]}: was given images of 64 x 64 pixels, and its positions are those of 32 x 32;"
        " --interpolate 64 (interpolate=64) interpolates them, or give an --image-processor of 32 x 32 pixels"
    )


@pytest.mark.parametrize("family", ["deit", "clip-vision", "siglip"])
def test_every_family_with_positions_names_the_option(family, repos):
    encoder = load_encoder(repos[family], image_processor=processor())
    with pytest.raises(ValueError, match=r"those of 32 x 32; --interpolate 64 \(interpolate=64\) interpolates them"):
        encoder.encode_image(PICTURES)
    oblong = torch.zeros(1, 3, 32, 64)
    with pytest.raises(ValueError, match=r"images of 32 x 64 .* --interpolate SIZE \(interpolate=SIZE\)"):
        encoder.encode_image(oblong)


@pytest.mark.parametrize("family", ANY)
def test_networks_that_take_any_size_need_no_option(family, repos):
    encoder = load_encoder(repos[family], image_processor=processor())
    assert_equal(encoder.encode_image(PICTURES), expected(family, repos[family]))


def test_an_error_of_something_else_stays_what_it_is(repos):
    encoder = load_encoder(repos["vit"])
    with pytest.raises(ValueError, match="channel dimension"):
        encoder.encode_image(torch.zeros(1, 4, OWN, OWN))


def test_every_command_takes_the_option(repos, photos, tmp_path, capsys):
    words, wanted = ("--interpolate", OTHER), expected("clip", repos["clip"])
    command("encode", repos["clip"], photos, "--output", tmp_path / "out.npz", "--normalize", *words)
    assert_equal(np.load(tmp_path / "out.npz")["embeddings"], wanted)
    command("embed", repos["clip"], photos, "--output", tmp_path / "out", *words)
    index = EmbeddingIndex.from_folder(tmp_path / "out", load_encoder(repos["clip"], interpolate=OTHER))
    assert index.search(PICTURES[2], k=1)[0].index == 2
    capsys.readouterr()
    command("search", repos["clip"], photos, photos / "3.png", "-k", "1", "--format", "json", *words)
    assert json.loads(capsys.readouterr().out)["index"] == 3
    command("classify", repos["clip"], photos, "--labels", "a chair,lamp", "--top-k", "2", "--format", "json", *words)
    row = json.loads(capsys.readouterr().out.splitlines()[0])["labels"]
    scores = ZeroShotClassifier(load_encoder(repos["clip"], interpolate=OTHER), ["a chair", "lamp"]).classify(PICTURES)
    assert [best["score"] for best in row] == pytest.approx([best["score"] for best in scores[0]], abs=1e-4)
    line = refusal(capsys, "embed", repos["clip"], photos, "--output", tmp_path / "out")
    assert "other settings (model.interpolate was '64', is None" in line


def test_every_command_names_the_option_in_one_line(repos, photos, tmp_path, capsys):
    rooms = SAMPLES / "rooms" / "validation.parquet"
    for name, words in {
        "encode": [photos, "--output", tmp_path / "out.npz"],
        "embed": [photos, "--output", tmp_path / "out"],
        "search": [photos, photos / "1.png"],
        "classify": [photos, "--labels", "a,b"],
        "evaluate": [rooms, "--tasks", "retrieval", "--split", "train", "--limit", "2"],
        "export": ["--to", "onnx", "--output", tmp_path / "exported"],
    }.items():
        line = refusal(capsys, name, repos["clip"], *words, "--image-processor", saved(tmp_path, processor()))
        assert "--interpolate 64 (interpolate=64) interpolates them" in line, name
        line = refusal(capsys, name, repos["clip"], *words, "--interpolate", "60")
        assert "--interpolate 60 is no multiple of its patches of 8 pixels; take 56 or 64" in line, name
    assert not (tmp_path / "exported").exists() and not (tmp_path / "out.npz").exists()


def saved(folder, image_processor):
    image_processor.save_pretrained(folder / "processor")
    return folder / "processor"


def test_a_report_of_an_evaluation_says_the_size(repos, tmp_path):
    rooms = SAMPLES / "rooms" / "validation.parquet"
    words = ["--tasks", "retrieval", "--limit", "4", "--split", "train", "--output", tmp_path / "metrics.json"]
    command("evaluate", repos["clip"], rooms, *words, "--interpolate", OTHER)
    assert json.loads((tmp_path / "metrics.json").read_text())["interpolate"] == OTHER
    command("evaluate", repos["clip"], rooms, *words, "--overwrite")
    assert "interpolate" not in json.loads((tmp_path / "metrics.json").read_text())


def test_another_size_is_another_maker(repos):
    own, other, third = (maker(load_encoder(repos["clip"], interpolate=side)) for side in (None, 64, 96))
    for one, two in ((own, other), (other, own), (other, third)):
        assert sorted(differences(one, two)) == ["image processor", "image size"]
    texts = [maker(load_encoder(repos["clip"], interpolate=side), ["text"]) for side in (None, 64)]
    assert texts[0] == texts[1]  # the size of images says nothing of texts


@pytest.mark.parametrize("family", ["vit", "clip", "dinov2"])
def test_the_models_own_size_changes_nothing(family, repos):
    encoder = load_encoder(repos[family], interpolate=OWN)
    assert encoder.interpolate is None and maker(encoder) == maker(load_encoder(repos[family]))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("family", ["vit", "clip"])
def test_an_export_is_of_its_size(family, backend, repos, tmp_path):
    rooms = str(SAMPLES / "rooms" / "validation.parquet")
    calibration = rooms if family == "vit" else None
    report = export(repos[family], tmp_path / "out", backend, calibration=calibration, interpolate=OTHER)
    assert report["interpolate"] == {"image": OTHER} | ({"text": None} if family == "clip" else {})
    assert json.loads((tmp_path / "out" / backend / "export_report.json").read_text()) == report
    encoder = load_encoder(tmp_path / "out", interpolate=OTHER)
    assert_equal(encoder.encode_image(PICTURES, backend=backend), expected(family, repos[family]), within=1e-4)
    plain = load_encoder(tmp_path / "out")
    assert_equal(plain.encode_image(PICTURES, backend=backend), plain.encode_image(PICTURES), within=1e-4)
    if calibration:
        assert report["towers"]["image"]["int8"]["least_cosine"] > 0.9
        small = encoder.encode_image(PICTURES, backend=backend, dtype="int8")
        assert torch.cosine_similarity(small, encoder.encode_image(PICTURES)).min() > 0.9
        for other in (plain, load_encoder(tmp_path / "out", interpolate=96)):
            with pytest.raises(ValueError, match="was made of images of another size"):
                other.encode_image(PICTURES, backend=backend, dtype="int8")


def test_a_program_is_compiled_once_for_its_size(repos, monkeypatch):
    compilations, original = [], compiled.export_tower
    monkeypatch.setattr(compiled, "export_tower", lambda tower: compilations.append(tower) or original(tower))
    encoder = load_encoder(repos["vit"], interpolate=OTHER)
    for _ in range(2):
        encoder.encode_image(PICTURES, backend="openvino")
    assert len(compilations) == 1


def test_the_command_export_says_how_to_load_it(repos, tmp_path, capsys):
    command("export", repos["vit"], "--to", "onnx", "--output", tmp_path / "out", "--interpolate", OTHER)
    said = capsys.readouterr().out
    assert "image: for 64 x 64 pixels, so it is loaded with --interpolate 64" in said
    assert f'load_encoder("{tmp_path / "out"}", interpolate=64)' in said


def test_what_has_no_images_of_a_choice_refuses_it(repos, photos, tiny_encoder, tiny_multimodal, tmp_path, capsys):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    tiny_multimodal.save_pretrained(tmp_path / "both")
    for repo in ("depth", "both"):
        line = refusal(capsys, "encode", tmp_path / repo, photos, "--interpolate", OTHER)
        assert "one of our own models" in line and "leave --interpolate out" in line
    line = refusal(capsys, "encode", repos["bert"], photos, "--interpolate", OTHER)
    assert "a BertModel embeds text alone; leave --interpolate out" in line


def test_positions_that_cannot_be_interpolated(photos, tmp_path, capsys):
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**_VIT), BertConfig(**_VIT | _BERT), projection_dim=16
    )
    VisionTextDualEncoderModel(config).save_pretrained(tmp_path / "dual")
    processor(OWN).save_pretrained(tmp_path / "dual")
    line = refusal(capsys, "encode", tmp_path / "dual", photos, "--interpolate", OTHER)
    assert "those of 32 x 32, which it cannot interpolate (" in line
    assert "give an --image-processor of 32 x 32 pixels" in line


def test_a_network_that_fails_at_a_size_is_refused_when_it_is_loaded(tmp_path):
    ViTModel(ViTConfig(**_VIT | {"image_size": [16, 24]})).save_pretrained(tmp_path)  # its positions make no square
    processor(OWN).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cannot embed images of 64 pixels \(.*; leave --interpolate out"):
        load_encoder(tmp_path, interpolate=OTHER)


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (60, "--interpolate 60 is no multiple of its patches of 8 pixels; take 56 or 64"),
        (5, "take 8"),
        (0, "interpolate is a number of pixels, got 0"),
        (True, "interpolate is a number of pixels, got True"),
        ("64", "interpolate is a number of pixels, got '64'"),
    ],
)
def test_sides_that_are_none(side, said, repos):
    with pytest.raises(ValueError) as error:
        load_encoder(repos["vit"], interpolate=side)
    assert str(error.value).endswith(said)


@pytest.mark.parametrize(
    ("given", "size", "crop"),
    [
        (processor(OWN, size={"shortest_edge": 36}), {"shortest_edge": 72}, {"height": 64, "width": 64}),
        (ViTImageProcessorPil(size={"height": OWN, "width": OWN}), {"height": 64, "width": 64}, None),
        (processor(OWN, size={"height": 48, "width": 40}), {"height": 96, "width": 80}, {"height": 64, "width": 64}),
        (ConvNextImageProcessorPil(size={"shortest_edge": OWN}, crop_pct=0.875), {"shortest_edge": 64}, None),
    ],
    ids=["crop", "resize", "oblong resize", "convnext"],
)
def test_a_processor_shows_the_same_part_of_a_picture(given, size, crop, repos):
    before = given.to_dict()
    encoder = load_encoder(repos["dinov2"], image_processor=given, interpolate=OTHER)
    made = encoder.image_processor
    assert type(made) is type(given) and dict(made.size) == size
    assert (dict(made.crop_size) if crop else None) == crop and given.to_dict() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (processor(OWN, do_resize=False), "its BitImageProcessorPil resizes to no side, so --interpolate 64 cannot"),
        (processor(OWN, size={"longest_edge": 64, "shortest_edge": 32}), "resizes to no side"),
        (processor(OWN, crop_size={"height": 32, "width": 16}), "crops no squares, which --interpolate 64 makes"),
        (processor(OWN, do_center_crop=False), "fails with --interpolate 64|makes no squares of 64 pixels"),
    ],
)
def test_processors_that_cannot_say_so(given, said, repos):
    with pytest.raises(ValueError, match=said):
        load_encoder(repos["vit"], image_processor=given, interpolate=OTHER)


def test_a_repo_without_an_image_processor_asks_for_one(tmp_path):
    repo = save_encoder("vit", tmp_path, image_processor=False)
    with pytest.raises(ValueError, match="has no image processor; give one as image_processor="):
        load_encoder(repo, interpolate=OTHER)


def test_a_tower_of_a_plain_model_interpolates():
    model = CLIPModel(CLIPConfig(text_config=_VIT | _BERT, vision_config=_VIT, projection_dim=16)).eval()
    tower = make_tower(model, processor(), "image", interpolate=OTHER)
    pixels = processor()(PICTURES, return_tensors="pt")
    with torch.no_grad():
        wanted = model.get_image_features(**pixels, interpolate_pos_encoding=True).pooler_output
    assert_equal(tower.encode(PICTURES), wanted)
    with pytest.raises(ValueError, match="CLIPModel: was given images of 64 x 64 pixels"):
        make_tower(model, processor(), "image").encode(PICTURES)
