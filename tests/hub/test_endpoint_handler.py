"""handler.py: Inference Endpoints find and call it, it answers as the model does, and it says what is wrong."""

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from PIL import Image

from hf_encoders.command_line import run
from hf_encoders.commands.main import command
from hf_encoders.conversion.convert import convert
from hf_encoders.hub.complete import complete_repo
from hf_encoders.hub.push import Destination, push_model
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import SMALL_CHECKPOINT
from tests.helpers.calibrations import TEMPLATES, calibrate
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.multimodal_models import tiny_model

# Inference Endpoints' way to a handler: from its file, with the repo's folder on the path, and without this package.
ENDPOINT = """
import importlib.util, json, sys

sys.modules["hf_encoders"] = None  # any import of it fails
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
sys.modules["handler"] = handler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(handler)
endpoint = handler.EndpointHandler(folder)
assert type(endpoint.model).__module__.startswith("transformers_modules.")
for request in json.loads(sys.stdin.read()):
    print(json.dumps(endpoint(request)))
"""
LABELS = ["chair", "lamp"]
ROWS = (np.arange(1600).reshape(40, 40) / 400 + 1).tolist()


def content(image):
    with io.BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()


def base64_of(image):
    return base64.b64encode(content(image)).decode()


RED = Image.new("RGB", (40, 48), "red")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
DEEP = Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40 + 1)


def served(folder, requests, tmp_path):
    """What an endpoint answers."""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(folder)
    words = [sys.executable, "-c", ENDPOINT, str(folder)]
    done = subprocess.run(
        words, input=json.dumps(requests), env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.numeric
def test_an_endpoint_embeds_and_classifies(tiny_multimodal, tmp_path):
    folder = tmp_path / "repo"
    tiny_multimodal.save_pretrained(folder)
    complete_repo(folder, remote_code=True, handler=True, name="org/x")
    requests = [
        {"inputs": "a red chair"},
        {"inputs": ["a red chair", "a lamp"]},
        {"inputs": [{"image": base64_of(RED)}, {"image": f"data:image/png;base64,{base64_of(NOISE)}"}]},
        {"inputs": {"depth": ROWS}, "parameters": {"unit_scale": 2, "normalize": False}},
        {"inputs": base64_of(DEEP), "parameters": {"modality": "depth", "truncate_dim": 3}},
        {"inputs": {"image": base64_of(RED)}, "parameters": {"candidate_labels": LABELS}},
        {"inputs": [ROWS, ROWS], "parameters": {"candidate_labels": "chair, lamp", "top_k": 1, "threshold": 1}},
    ]
    text, texts, images, depth, cut, image_scores, depth_scores = served(folder, requests, tmp_path)

    model, rows = tiny_multimodal, np.array(ROWS, np.float32)
    close(texts, model.encode_text(["a red chair", "a lamp"]))
    close(text, texts[0])
    close(images, model.encode_image([RED, NOISE]))
    close([depth], model.encode_depth(rows, unit_scale=2, normalize=False))
    close([cut], model.encode_depth(DEEP, truncate_dim=3))
    (expected,) = ZeroShotClassifier(model, LABELS).classify([RED], "image")
    assert [answer["label"] for answer in image_scores] == [answer["label"] for answer in expected]
    close(*([answer["similarity"] for answer in answers] for answers in (image_scores, expected)))
    assert [[answer["label"] for answer in answers] for answers in depth_scores] == [[None], [None]]


@pytest.mark.numeric
def test_an_endpoint_of_depth_maps_alone(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "repo")
    complete_repo(tmp_path / "repo", remote_code=True, handler=True)
    requests = [{"inputs": ROWS}, {"inputs": [base64_of(DEEP), base64_of(DEEP)]}]
    one, two = served(tmp_path / "repo", requests, tmp_path)
    close([one], tiny_encoder.encode(np.array(ROWS, np.float32)))
    close(two, tiny_encoder.encode([DEEP, DEEP]))


@pytest.fixture
def endpoint(tiny_multimodal, tmp_path):
    """The handler of a multimodal model, in this process."""
    return handler(tiny_multimodal, tmp_path / "model")


def handler(model, folder):
    model.save_pretrained(folder)
    complete_repo(folder, remote_code=True, handler=True)
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


@pytest.mark.numeric
def test_the_body_of_a_request_may_be_the_file_of_a_picture(endpoint, tiny_multimodal):
    """The toolkit makes a PIL image of it; bytes are taken too."""
    for image in (RED, content(RED)):
        close([endpoint({"inputs": image})], tiny_multimodal.encode_image(RED))
    for depth_map in (DEEP, content(DEEP)):
        close([endpoint({"inputs": depth_map})], tiny_multimodal.encode_depth(DEEP))
    close(endpoint({"inputs": [RED, NOISE]}), tiny_multimodal.encode_image([RED, NOISE]))


def test_a_calibrated_threshold_has_the_prompts_that_it_was_measured_with(tiny_multimodal, tmp_path):
    calibrate(tiny_multimodal, thresholds=((1, -1.0),))
    endpoint = handler(tiny_multimodal, tmp_path / "model")
    parameters = {"candidate_labels": LABELS, "threshold": "calibrated"}
    answers = endpoint({"inputs": RED, "parameters": parameters})
    assert {answer["label"] for answer in answers} == set(LABELS)
    with pytest.raises(ValueError, match="calibrated with the templates"):
        endpoint({"inputs": RED, "parameters": {**parameters, "hypothesis_template": f"no {TEMPLATES[0]}"}})


IMAGE = {"image": base64_of(RED)}


@pytest.mark.parametrize(
    "inputs, parameters, message",
    [
        ([], {}, "inputs is an empty list"),
        (None, {}, r"inputs\[0\]: expected a file in base64, got NoneType"),
        ({"sound": "x"}, {}, r"inputs\[0\]: a mapping with sound, expected one of text, image, depth"),
        ({"path": "/etc/passwd"}, {}, r"inputs\[0\]: a mapping with path, expected one of text, image, depth"),
        ({**IMAGE, "text": "x"}, {}, r"inputs of several kinds \(image, text\): send a request for each"),
        (IMAGE, {"modality": "depth"}, r"inputs of several kinds \(depth, image\)"),
        ("x", {"modality": "sound"}, "modality 'sound': this model embeds text, image, depth"),
        ({"text": 3}, {}, r"inputs\[0\]: expected a text, got int"),
        ({"image": "/etc/passwd"}, {}, r"inputs\[0\]: a string that is no base64 of a file's content"),
        ({"image": "eHh4"}, {}, "image 0: not an image"),
        ({"depth": "eHh4"}, {}, "not a depth map of a kind that is read"),
        ({"depth": [[1, 2], [3]]}, {}, r"inputs\[0\]: rows of a depth map have equal lengths, and are numbers"),
        ({"depth": [1, 2]}, {}, r"inputs\[0\]: numbers of shape \[2\], expected rows \[H, W\]"),
        (["x", 3], {}, r"inputs\[1\]: expected a text, got int"),
        ("x", [], "parameters are a mapping, got list"),
        ("x", {"colour": 1, "size": 2}, "unknown parameters colour, size; there are modality, candidate_labels, "),
        ("x", {"candidate_labels": LABELS}, "images and depth maps are classified, and these inputs are texts"),
        (IMAGE, {"candidate_labels": 3}, "candidate_labels is a list of words, got int"),
        (IMAGE, {"candidate_labels": ["chair", 3]}, r"candidate_labels is a list of words, got \['chair', 3\]"),
        (IMAGE, {"candidate_labels": []}, "no labels, expected at least one"),
        (IMAGE, {"candidate_labels": ["chair", "chair"]}, "'chair' is there already"),
        (IMAGE, {"top_k": 1}, "top_k: for a classification, which candidate_labels ask for"),
        (IMAGE, {"candidate_labels": LABELS, "normalize": True}, "normalize: for embeddings, and candidate_labels ask"),
        (IMAGE, {"candidate_labels": LABELS, "top_k": 0}, "top_k must be at least 1"),
        (IMAGE, {"candidate_labels": LABELS, "top_k": True}, "top_k is a whole number, got True"),
        (IMAGE, {"candidate_labels": LABELS, "threshold": "high"}, "threshold is a cosine or 'calibrated', got 'high'"),
        (IMAGE, {"candidate_labels": LABELS, "threshold": "1.5"}, "threshold is a cosine, from -1 to 1"),
        (IMAGE, {"candidate_labels": LABELS, "threshold": "calibrated"}, "the model has no calibration"),
        (IMAGE, {"candidate_labels": LABELS, "hypothesis_template": 3}, "hypothesis_template is a text, got 3"),
        (IMAGE, {"candidate_labels": LABELS, "hypothesis_template": "x"}, r"'x', expected exactly one \{\}"),
        ("x", {"normalize": "yes"}, "normalize is true or false, got 'yes'"),
        ("x", {"truncate_dim": 3000}, "truncate_dim"),
        (IMAGE, {"unit_scale": 2}, "unit_scale: for depth maps, and these inputs are of the modality 'image'"),
        ({"depth": ROWS}, {"unit_scale": "x"}, "unit_scale must be a positive number"),
        ({"depth": ROWS}, {"preset": "none"}, "preset is one of"),
    ],
)
def test_a_request_that_makes_no_sense(shared_endpoint, inputs, parameters, message):
    with pytest.raises(ValueError, match=message):
        shared_endpoint({"inputs": inputs, "parameters": parameters})


@pytest.fixture(scope="module")
def shared_endpoint(tmp_path_factory):
    return handler(tiny_model(), tmp_path_factory.mktemp("endpoint") / "model")


@pytest.mark.parametrize("data", [None, [], {"parameters": {}}])
def test_a_request_without_inputs(shared_endpoint, data):
    with pytest.raises(ValueError, match="there are no inputs"):
        shared_endpoint(data)


# How it gets into a repo


def test_a_push_brings_it_and_the_packages_to_install(hub_client, tiny_multimodal, tmp_path, capsys):
    tiny_multimodal.save_pretrained(tmp_path / "model")
    command(["push", str(tmp_path / "model"), "org/served", "--with-handler", "--dry-run"])
    assert "handler.py" in capsys.readouterr().out
    push_model(tmp_path / "model", Destination("org/served", handler=True))
    there = snapshot_download("org/served", local_dir=tmp_path / "there")
    written = {name: open(f"{there}/{name}", encoding="utf-8").read() for name in ("requirements.txt", "README.md")}
    assert "transformers>=5.18,<6\n" in written["requirements.txt"]
    assert "hf-encoders" not in written["requirements.txt"]  # the code is in the repo
    assert "handler.py" in written["README.md"]
    assert not (tmp_path / "model" / "handler.py").exists()  # the folder stays as it was

    push_model(tmp_path / "model", Destination("org/plain"))
    assert "handler.py" not in hub_client.list_repo_files("org/plain")


def test_a_conversion_pushes_it_too(hub_client, tmp_path):
    words = ["convert", str(SMALL_CHECKPOINT), "--output", str(tmp_path / "out"), "--push-to-hub", "org/served-depth"]
    command([*words, "--with-handler"])
    assert "handler.py" in hub_client.list_repo_files("org/served-depth")


@pytest.mark.parametrize(
    "words, message",
    [
        (["push", "{folder}", "org/x", "--with-handler", "--no-with-remote-code"], "leave out --no-with-remote-code"),
        (["convert", str(SMALL_CHECKPOINT), "--output", "x", "--with-handler"], "--with-handler go with --push-to-hub"),
    ],
)
def test_options_that_exclude_each_other(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run(lambda: command([word.format(folder=tmp_path) for word in words]))
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_class_of_transformers_needs_none_and_no_handler_is_replaced(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "own")
    (tmp_path / "own" / "handler.py").write_text("mine")
    with pytest.raises(ValueError, match="handler.py: there is one already; leave out --with-handler"):
        complete_repo(tmp_path / "own", remote_code=True, handler=True)
    with pytest.raises(ValueError, match="a handler runs the model's code"):
        complete_repo(tmp_path / "own", remote_code=False, handler=True)
    torch.save({"model": randomised(ResNet(classes=3)).state_dict()}, tmp_path / "resnet.pth")
    repo = convert(tmp_path / "resnet.pth", tmp_path / "resnet")
    with pytest.raises(ValueError, match="a class of transformers, which Inference Endpoints serve without a handler"):
        push_model(repo, Destination("org/resnet", handler=True))
