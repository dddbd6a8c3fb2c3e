"""Code that a repo brings runs when a person says so, and never else: in every command, of every part."""

import json

import pytest

from hf_encoders import load_encoder
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.models.repo_code import code_files
from tests.helpers.any_encoders import save_encoder

COMMANDS = {
    "encode": ["{photo}", "--output", "{out}.npz"],
    "search": ["{texts}", "{query}"],
    "classify": ["{texts}", "--labels", "a,b"],
    "embed": ["{texts}", "--output", "{out}"],
    "export": ["--to", "onnx", "--output", "{out}"],
    "evaluate": [
        "{texts}",
        "--tasks",
        "knn",
        "--text-column",
        "text",
        "--label-column",
        "text",
        "--train-split",
        "test",
    ],
}
MARK = "from pathlib import Path\n\nPath({path!r}).touch()\n"
CODE = {
    "configuration_own.py": """
from transformers import BertConfig


class OwnConfig(BertConfig):
    model_type = "own_words"
""",
    "modeling_own.py": """
from transformers import BertModel

from .configuration_own import OwnConfig
from .parts_own import TWO


class OwnModel(BertModel):
    config_class = OwnConfig

    def forward(self, *arguments, **options):
        outputs = super().forward(*arguments, **options)
        outputs.last_hidden_state = outputs.last_hidden_state * TWO
        return outputs
""",
    "parts_own.py": "\nTWO = 2\n",
    "tokenization_own.py": """
from transformers import BertTokenizer


class OwnTokenizer(BertTokenizer):
    pass
""",
    "image_own.py": """
from transformers import ViTImageProcessorPil


class OwnImages(ViTImageProcessorPil):
    pass
""",
    "modules_own.py": """
from sentence_transformers.models import Transformer


class OwnModule(Transformer):
    pass
""",
}


@pytest.fixture
def ran(tmp_path):
    """The file that the code makes when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def places(tmp_path):
    from PIL import Image

    (tmp_path / "texts.txt").write_text("a chair\na lamp\n")
    Image.new("RGB", (40, 50)).save(tmp_path / "photo.png")
    return {"texts": tmp_path / "texts.txt", "photo": tmp_path / "photo.png", "out": tmp_path / "out", "query": "a"}


@pytest.fixture
def repo(tmp_path, ran):
    """Makes a repo of a family with code, and settings that name it."""

    def make(family, settings):
        folder = save_encoder(family, tmp_path / f"with code {family}")
        for name, code in CODE.items():
            (folder / name).write_text(MARK.format(path=str(ran)) + code)
        for name, content in settings.items():
            path = folder / name
            old = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(old | content if isinstance(content, dict) else content))
        return folder

    return make


def refusals(capsys, repo, places, *options):
    """The lines of all commands, which are refused."""
    for name, words in COMMANDS.items():
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(
                lambda name=name, words=words: cli.command(
                    [name, str(repo), *(w.format(**places) for w in words), *options]
                )
            )
        line = capsys.readouterr().err
        assert stop.value.code == 2 and line.count("\n") == 1, line
        yield name, line


MODEL = {
    "model_type": "own_words",
    "auto_map": {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
}
TOKENIZER = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}}
IMAGES = {"image_processor_type": "OwnImages", "auto_map": {"AutoImageProcessor": "image_own.OwnImages"}}


def test_a_model_of_its_own_code_is_refused_with_the_files(repo, ran, places, capsys):
    folder = repo("bert", {"config.json": MODEL})
    for name, line in refusals(capsys, folder, places):
        files = "configuration_own.py, modeling_own.py, parts_own.py"
        assert f"needs code of its repo ({files}), which was not run; read it, then say --trust-remote-code" in line, (
            name
        )
    assert not ran.exists()


def test_it_runs_when_a_person_says_so(repo, ran, places, capsys):
    folder = repo("bert", {"config.json": MODEL})
    cli.command(["search", str(folder), str(places["texts"]), "a chair", "--trust-remote-code", "-k", "1"])
    assert ran.exists() and "a chair" in capsys.readouterr().out
    encoder = load_encoder(str(folder), trust_remote_code=True)
    plain = load_encoder(str(save_encoder("bert", folder.parent / "plain")))
    assert encoder.towers == ("text",) and type(encoder.model).__name__ == "OwnModel"
    assert encoder.encode_text("a lamp").tolist() == (2 * plain.encode_text("a lamp")).tolist()


def test_code_beside_a_model_of_transformers_is_left_unread_and_said(repo, ran, caplog):
    folder = repo("bert", {"config.json": {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}})
    assert type(load_encoder(str(folder)).model).__name__ == "BertModel"
    assert not ran.exists()
    assert "modeling_own.py" in caplog.text and "was not run: this is transformers' own BertModel" in caplog.text


def test_a_network_that_only_its_code_builds_is_refused_with_the_files(repo, ran, places, capsys):
    """Such as a BERT with other position embeddings: transformers' own would have random ones."""
    from safetensors.torch import load_file, save_file

    folder = repo("bert", {"config.json": {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}})
    tensors = load_file(folder / "model.safetensors")
    del tensors["embeddings.position_embeddings.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for _, line in refusals(capsys, folder, places):
        assert "'embeddings.position_embeddings.weight' at random" in line
        assert "code of its own (modeling_own.py" in line and "say --trust-remote-code" in line
    assert not ran.exists()


def test_an_image_processor_of_its_own_code_is_refused(repo, ran, places, capsys):
    folder = repo("convnext", {"preprocessor_config.json": IMAGES})
    for name, line in refusals(capsys, folder, {**places, "texts": places["photo"], "query": places["photo"]}):
        if name not in ("classify", "evaluate"):  # which refuse a model of images, and a data set without labels
            assert "its image processor needs code of its repo (image_own.py), which was not run" in line, name
    assert not ran.exists()


def test_a_tokenizer_of_its_own_code_is_refused(repo, ran, places, capsys):
    folder = repo("modernbert", {"tokenizer_config.json": TOKENIZER})
    (folder / "tokenizer.json").unlink()
    for name, line in refusals(capsys, folder, places):
        if name not in ("encode", "classify", "evaluate"):
            assert "its tokenizer needs code of its repo (tokenization_own.py), which was not run" in line, name
    assert not ran.exists()


def test_a_tokenizer_that_can_be_read_without_its_code_is(repo, ran, caplog):
    folder = repo("modernbert", {"tokenizer_config.json": TOKENIZER})
    assert load_encoder(str(folder)).encode_text("a chair").shape == (1, 32)
    assert "code of its tokenizer (tokenization_own.py) was not run: this is a TokenizersBackend" in caplog.text
    assert not ran.exists()


def test_a_processor_that_is_given_runs_no_code_either(repo, ran, places, capsys):
    given = repo("convnext", {"preprocessor_config.json": IMAGES})
    (given / "config.json").unlink()
    plain = save_encoder("convnext", given.parent / "plain", image_processor=False)
    for name, line in refusals(capsys, plain, places, "--image-processor", str(given)):
        assert f"{given}: its image processor needs code of its repo (image_own.py)" in line, name
    assert not ran.exists()
    load_encoder(str(plain), image_processor=str(given), trust_remote_code=True).encode_image(str(places["photo"]))
    assert ran.exists()


def test_modules_of_sentence_transformers_run_no_code(repo, ran, places):
    modules = [{"idx": 0, "name": "0", "path": "", "type": "modules_own.OwnModule"}]
    folder = repo("bert", {"modules.json": modules})
    try:
        load_encoder(str(folder)).encode_text("a chair")
    except ValueError as error:
        assert "modules_own" in str(error) and "trust" in str(error)
    assert not ran.exists()


def test_other_commands_run_none(repo, ran, places, capsys):
    folder = repo("bert", {"config.json": MODEL, "tokenizer_config.json": TOKENIZER})
    for words in (["verify", folder], ["push", folder, "org/x"], ["export-legacy", folder, "--output", "x.pth"]):
        with pytest.raises(SystemExit) as stop:
            run(lambda words=words: cli.command([str(word) for word in words]))
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1, error
    assert not ran.exists()


def test_files_of_another_repo_are_named_with_it(tmp_path):
    mapping = {"AutoConfig": "other/repo--configuration.Own", "AutoModel": "other/repo--modeling.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": mapping}))
    assert code_files(str(tmp_path), "main") == [
        "other/repo/configuration.py",
        "other/repo/modeling.py",
    ]


@pytest.mark.parametrize("content", ["[]", "{", '{"auto_map": 3}', '{"auto_map": {"AutoModel": [null, 4]}}'])
def test_settings_that_name_no_code(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    assert code_files(str(tmp_path), "main") == []
