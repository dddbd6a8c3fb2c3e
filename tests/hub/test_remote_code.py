"""The code that goes into repos: complete, flat, named by each auto class, and never trusted by this package itself."""

import ast
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig, AutoModel, BertConfig, pipeline

from hf_encoders.hub.remote_code import write_remote_code
from tests.conftest import ROOT
from tests.helpers.multimodal_models import tiny_model

MODELS, HANDLER = (ROOT / "hf_encoders" / place for place in ("models", "hub/templates/handler.py"))
# Runs pipelines as somebody without the package does, with the depth maps of a file; prints what they give.
PIPELINES = """
import json, sys

sys.modules["hf_encoders"] = None  # any import of it fails
from transformers import pipeline

folder, depth_map, tasks = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for task, options in tasks.items():
    pipe = pipeline(task, model=folder, trust_remote_code=True)
    assert type(pipe).__module__.startswith("transformers_modules."), type(pipe)
    print(json.dumps(pipe(depth_map, **options)))
    pipe.save_pretrained(f"{folder}-again")
"""
TASKS = {
    "depth-feature-extraction": {"pool": True},
    "depth-zero-shot-classification": {"candidate_labels": ["chair", "lamp"]},
}


@pytest.fixture(params=["depth", "multimodal"])
def repo(request, tmp_path, tiny_encoder):
    model = tiny_encoder if request.param == "depth" else tiny_model()
    model.save_pretrained(tmp_path / "repo")
    return tmp_path / "repo"


def relative_imports(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    return [(node.level, node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level]


def test_all_that_is_imported_is_there_and_flat(repo):
    written = write_remote_code(repo)
    assert {path.name for path in written} == {path.name for path in repo.glob("*.py")}
    for path in written:
        assert path.parent == repo and path.read_bytes() == (MODELS / path.name).read_bytes()
        assert "hf_encoders" not in re.sub("`import hf_encoders`|hf_encoders needs", "", path.read_text())
        for level, module in relative_imports(path):
            assert level == 1 and (repo / f"{module}.py").is_file()


def test_each_auto_class_is_named(repo):
    write_remote_code(repo)
    named = [json.loads(path.read_text()).get("auto_map", {}) for path in sorted(repo.glob("*.json"))]
    named = {auto: place.split(".") for one in named for auto, place in one.items()}
    kind = "AutoProcessor" if "multimodal" in str(named) else "AutoImageProcessor"
    head = "AutoModelForZeroShotImageClassification" if kind == "AutoProcessor" else "AutoModelForImageClassification"
    assert named.keys() == {"AutoConfig", "AutoModel", head, kind}
    for module, name in named.values():
        assert f"class {name}(" in (repo / f"{module}.py").read_text()


def test_here_the_packages_own_classes_are_used_and_saved_without_code(repo, tmp_path):
    write_remote_code(repo)
    model = AutoModel.from_pretrained(repo)
    assert type(model).__module__.startswith("hf_encoders.models.")
    model.save_pretrained(tmp_path / "again")
    assert not any("auto_map" in path.read_text() for path in (tmp_path / "again").glob("*.json"))
    first = {path.name: path.read_bytes() for path in repo.iterdir()}
    write_remote_code(repo)
    assert {path.name: path.read_bytes() for path in repo.iterdir()} == first
    assert AutoConfig.from_pretrained(repo).model_type == model.config.model_type


@pytest.mark.numeric
def test_the_pipelines_of_depth_maps_travel_with_the_code(repo, tmp_path):
    write_remote_code(repo)
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40 + 1).save(tmp_path / "map.png")
    config = json.loads((repo / "config.json").read_text())
    tasks = {task: TASKS[task] for task in config["custom_pipelines"]}
    assert list(tasks) == list(TASKS)[: 2 if config["model_type"] == "multimodal_encoder" else 1]
    words = ["-c", PIPELINES, str(repo), str(tmp_path / "map.png"), json.dumps(tasks)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for line, (task, options) in zip(done.stdout.splitlines(), tasks.items(), strict=True):
        pipe = pipeline(task, model=str(repo))  # nobody says trust_remote_code: the package has its own
        assert type(pipe).__module__.startswith("hf_encoders.")
        expected = pipe(str(tmp_path / "map.png"), **options)
        if task == "depth-feature-extraction":
            np.testing.assert_allclose(json.loads(line), expected, rtol=1e-4, atol=1e-5)
        else:
            assert [answer["label"] for answer in json.loads(line)] == [answer["label"] for answer in expected]
            scores = [[answer["score"] for answer in answers] for answers in (json.loads(line), expected)]
            np.testing.assert_allclose(*scores, atol=1e-4)
    # What they save names no pipelines, whose code would be missing.
    assert "custom_pipelines" not in (tmp_path / "repo-again" / "config.json").read_text()


def test_a_model_without_a_depth_tower_brings_no_pipeline(tmp_path):
    tiny_model(depth=False).save_pretrained(tmp_path)
    write_remote_code(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    assert not (tmp_path / "depth_pipelines.py").exists()


@pytest.mark.parametrize("config", [None, BertConfig()])
def test_what_is_no_repo_of_ours(config, tmp_path):
    if config:
        config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a model of type 'bert'" if config else "no repo of a model"):
        write_remote_code(tmp_path)
    assert not list(tmp_path.glob("*.py"))


# What hands on a person's word: --trust-remote-code, or the argument of `load_encoder`.
# What a person said, also as it is handed on by a class that says `False` by itself.
_HOLDERS = ("args", "options", "model", "destination")
ASKED = {"False", "trust", "trust_remote_code", *(f"{holder}.trust_remote_code" for holder in _HOLDERS)}


def test_this_project_never_trusts_code_for_its_user():
    sources = [path for folder in ("hf_encoders", "conversion", "training") for path in (ROOT / folder).rglob("*.py")]
    sources.remove(HANDLER)  # a file of a repo, which runs the code beside it
    # Runs, in a process of its own, what was made of a class that a person named.
    sources.remove(ROOT / "hf_encoders" / "adopt" / "own_process" / "loaded.py")
    nodes = [(path, node) for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    trusting = [
        f"{path.name}:{node.lineno}"
        for path, node in nodes
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) not in ASKED
    ]
    assert len(sources) > 50 and trusting == []
    # Without the word, transformers asks the person at the terminal: everything that loads says it, or hands it on.
    asking = [
        f"{path.name}:{node.lineno}"
        for path, node in nodes
        if isinstance(node, ast.Call)
        and re.fullmatch(r"Auto\w+\.from_pretrained", ast.unparse(node.func))
        and not any(keyword.arg in (None, "trust_remote_code") for keyword in node.keywords)
    ]
    assert asking == []
    functions = [node.args for _, node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    defaults = [
        ast.unparse(default)
        for arguments in functions
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if argument.arg in ("trust_remote_code", "trust") and default is not None
    ]
    assert defaults and set(defaults) == {"False"}
