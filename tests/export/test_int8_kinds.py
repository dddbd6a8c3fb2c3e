"""Every kind of encoder in 8 bits: calibrated by real inputs, judged by others, refused where embeddings are lost."""

import PIL.Image
import pytest
import torch
from datasets import Dataset

from hf_encoders import load_encoder
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.export.int8 import calibration_inputs
from hf_encoders.export.programs import Traced
from hf_encoders.export.towers import export
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import KINDS, save_encoder

pytest.importorskip("openvino")
pytest.importorskip("nncf")
onnx_ir = pytest.importorskip("onnx_ir")

ROWS = 40
# Attention on both backends, and a tower that reads its padding; the others take a minute or two.
FAST = {("vit", "openvino"), ("siglip", "onnx")}
CELLS = [
    pytest.param(kind, backend, marks=() if (kind, backend) in FAST else pytest.mark.slow)
    for kind in KINDS
    for backend in ("onnx", "openvino")
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """A file of captions, of other texts, and of images."""
    path = tmp_path_factory.mktemp("calibration") / "rooms.parquet"
    Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(ROWS)).to_parquet(path)
    return str(path)


def inputs_of(rooms, tower):
    return Dataset.from_parquet(rooms)["caption" if tower == "text" else "image"][:]


def centred_cosine(found, expected):
    """What is left of what tells the inputs apart."""
    centre = expected.mean(0)
    return torch.cosine_similarity(found - centre, expected - centre).mean()


@pytest.mark.parametrize(("kind", "backend"), CELLS)
def test_int8_tells_inputs_apart_as_float32_does(kind, backend, rooms, tmp_path):
    folder = save_encoder(kind, tmp_path / "model")
    report = export(str(folder), tmp_path / "exported", backend, calibration=rooms)
    encoder = load_encoder(tmp_path / "exported")
    assert set(report["towers"]) == set(encoder.towers)
    for name in encoder.towers:
        inputs, encode = inputs_of(rooms, name), encoder.tower(name).encode
        measured = report["towers"][name]["int8"]
        assert measured["mean_cosine"] > 0.99 and measured["centred_cosine"] > 0.9
        found, expected = encode(inputs, backend=backend, dtype="int8"), encode(inputs)
        assert centred_cosine(found, expected) > 0.9 and not torch.equal(found, expected)


def test_embeddings_that_are_lost_are_refused_in_one_line(rooms, tmp_path, monkeypatch, capsys):
    """The cosine of the whole may be large still."""
    monkeypatch.setattr("hf_encoders.export.towers.in_int8", beside_a_constant)
    folder = save_encoder("vit", tmp_path / "model")
    options = ["--to", "onnx", "--int8", "--calibration", rooms, "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        run(lambda: cli.command(["export", str(folder), *options]))
    lines = [line for line in capsys.readouterr().err.splitlines() if "int8" in line]
    assert stopped.value.code == 2 and len(lines) == 1
    assert "image: int8 ruins its embeddings: " in lines[0] and "tells 20 inputs apart, expected 0.8" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    report = export(str(folder), tmp_path / "out", "onnx", calibration=rooms, least_cosine=-1)
    assert report["towers"]["image"]["int8"]["mean_cosine"] > 0.9 > report["towers"]["image"]["int8"]["centred_cosine"]


def beside_a_constant(backend, tower, exact, inputs):
    """The tower, with a constant in its embeddings beside which the inputs hardly count."""
    program = onnx_ir.from_proto(onnx_ir.to_proto(exact.component.program))
    graph = program.graph
    embeddings = graph.outputs[0]
    with torch.no_grad():
        first = 100 * exact.network(**inputs[0])[embeddings.name][0]
    value = onnx_ir.tensor(first.numpy(), name="constant")
    constant = onnx_ir.Value(name="constant", const_value=value)
    graph.register_initializer(constant)
    add = onnx_ir.node("Add", [embeddings, constant])
    graph.append(add)
    graph.outputs[0] = add.outputs[0]
    embeddings.name, add.outputs[0].name = "before", embeddings.name
    from transformers.exporters import ExportedComponent

    return Traced(ExportedComponent(program, exact.component.metadata), exact.network)


def test_one_input_again_and_again_has_nothing_to_tell_apart(tmp_path):
    (tmp_path / "captions.txt").write_text("a red chair\n" * 6)
    report = export(
        str(save_encoder("bert", tmp_path / "model")),
        tmp_path / "out",
        "onnx",
        calibration=str(tmp_path / "captions.txt"),
    )
    measured = report["towers"]["text"]["int8"]
    assert measured["centred_cosine"] == measured["mean_cosine"] > 0.99


def test_two_data_sets_calibrate_two_towers(tmp_path, rooms):
    (tmp_path / "captions.txt").write_text("a red chair\na blue table\n")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        PIL.Image.new("RGB", (40, 40), ("red", "blue")[number]).save(tmp_path / "photos" / f"{number}.png")
    encoder = load_encoder(save_encoder("clip", tmp_path / "model"))
    names = [str(tmp_path / "captions.txt"), str(tmp_path / "photos")]
    inputs = calibration_inputs(encoder, encoder.towers, names)
    assert {name: len(rows) for name, rows in inputs.items()} == {"text": 2, "image": 2}
    assert set(inputs["text"][0]) == {"input_ids", "attention_mask"}
    first = calibration_inputs(encoder, ["text"], [names[0], rooms])  # the first that has inputs for it
    assert len(first["text"]) == 2


def test_a_tower_without_inputs_is_named(tmp_path, caplog):
    (tmp_path / "captions.txt").write_text("a red chair\n")
    encoder = load_encoder(save_encoder("clip", tmp_path / "model"))
    assert set(calibration_inputs(encoder, encoder.towers, [str(tmp_path / "captions.txt")])) == {"text"}
    assert "image: not written in int8 (" in caplog.text
    assert "captions.txt: which column holds the images" in caplog.text


@pytest.mark.parametrize(
    ("content", "towers", "message"),
    [
        ('{"a": "red", "b": "blue"}\n', ["text"], "which column holds the texts? Say it by the name 'caption'; it has"),
        ("photos", ["text"], "photos: no inputs for text"),
        ('{"caption": "red"}\n{"caption": null}\n', ["text"], "rows.jsonl: text 1: a NoneType, expected a string"),
    ],
)
def test_data_that_calibrates_nothing_is_refused(content, towers, message, tmp_path):
    encoder = load_encoder(save_encoder("clip", tmp_path / "model"))
    source = tmp_path / "rows.jsonl"
    if content == "photos":
        source = tmp_path / "photos"
        source.mkdir()
        PIL.Image.new("RGB", (40, 40)).save(source / "0.png")
    else:
        source.write_text(content)
    with pytest.raises((ValueError, TypeError), match=message.replace("?", r"\?")):
        calibration_inputs(encoder, towers, [str(source)])
