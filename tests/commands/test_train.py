"""`hf-encoders train`: recipes by name, and which of the two models a recipe trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.training import pretrain, pretrain_depth
from hf_encoders.training.recipe import find_recipe, parse, recipe_names, trained_model
from tests.conftest import ROOT, SAMPLES
from tests.helpers.training_runs import RECIPE

pytestmark = pytest.mark.usefixtures("first_run")


def test_recipes_have_names():
    assert {"sample", "lit", "siglip", "depth_sample"} <= set(recipe_names())
    assert yaml.safe_load(Path(find_recipe("lit")).read_text())["model_type"] == "multimodal_encoder"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_one_of_its_model(name):
    script = pretrain_depth if trained_model([name]) == "depth_semantic_encoder" else pretrain
    *_, run = parse([name, "--dataset", "org/data"], script.KINDS, script.DEFAULT_RECIPE, "")
    assert run.output_dir.startswith(("multimodal-", "depth-"))


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configurations(path):
    assert load_config_from_file(str(path)).num_processes >= 1


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lit").write_text("epochs: 3")
    assert Path(find_recipe("lit")).read_text() == "epochs: 3"


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(ValueError, match="lid: no such recipe; give a YAML file, or one of .*lit"):
        find_recipe("lid")


@pytest.mark.parametrize(
    ("words", "trainer"),
    [
        (["sample"], "Trainer"),
        (["--max_steps", "1"], "Trainer"),
        (["depth_sample", "--epochs", "1"], "DepthTrainer"),
        (["{file}"], "DepthTrainer"),
    ],
)
def test_the_recipe_says_which_model_is_trained(words, trainer, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("model_type: depth_semantic_encoder\ndataset: maps")
    started = []
    for module, name in (("multimodal", "Trainer"), ("depth", "DepthTrainer")):
        target = f"hf_encoders.training.{module}.trainer.{name}"
        monkeypatch.setattr(target, lambda *options, name=name: started.append(name) or _Trains())
    cli.command(["train", *(word.format(file=tmp_path / "mine.yaml") for word in words)])
    assert started == [trainer]


class _Trains:
    def train(self):
        pass


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    """Fails where a model or data set is loaded, or a connection is made."""

    def fails(*words, **options):
        pytest.fail("loaded something")

    for target in (
        "hf_encoders.training.multimodal.trainer.build_model",
        "hf_encoders.training.multimodal.trainer.load_rows",
        "hf_encoders.training.depth.trainer.build_autoencoder",
        "hf_encoders.training.depth.trainer.open_maps",
        "socket.socket.connect",
        "socket.getaddrinfo",
    ):
        monkeypatch.setattr(target, fails)


def refusal(words, capsys):
    """What the command line says of a run that it refuses."""
    with pytest.raises(SystemExit) as end:
        run(lambda: cli.command(["train", *words]))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_without_its_data_asks_for_it_before_anything_is_loaded(
    name, nothing_is_loaded, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hf_encoders.training.recipe._CLONE", tmp_path)  # installed, without the samples of a clone
    assert "give --dataset" in refusal([name], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("absent.parquet", "absent.parquet: no such file"),
        ("/absent/folder", "/absent/folder: no such file or folder"),
        ("empty", "empty: no data: this folder holds no file"),
        ("", "no data: give --dataset"),
    ],
)
def test_data_that_is_not_there_is_named_before_anything_is_loaded(
    name, data, message, nothing_is_loaded, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    recipe = yaml.safe_load(Path(find_recipe(name)).read_text())
    paths = {key: value for key, value in recipe.items() if str(value).startswith("samples/")}
    assert message in refusal([name, *(f"--{key}=org/{key}" for key in paths), "--dataset", data], capsys)


def test_a_recipe_of_the_other_model_is_refused():
    with pytest.raises(ValueError, match="depth_sample.yaml: trains a depth_semantic_encoder, this script a multi"):
        parse(["depth_sample"], pretrain.KINDS, "sample", "")


def test_it_trains(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"model_type": "multimodal_encoder", "max_steps": 1}))
    cli.command(["train", str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / "out")])
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_its_help_is_that_of_the_training(capsys):
    with pytest.raises(SystemExit):
        cli.command(["train", "--help"])
    shown = capsys.readouterr().out
    assert "--resume_from_checkpoint" in shown
    assert "--resume-from-checkpoint" not in shown  # one spelling; both are parsed


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (
            ["-c", "import sys; from hf_encoders.commands.main import main; sys.exit(main())", "train"],
            "hf-encoders train",
        ),
        (["training/pretrain.py"], "accelerate launch training/pretrain.py"),
        (["training/pretrain_depth.py"], "accelerate launch training/pretrain_depth.py"),
        (["-m", "hf_encoders.training.pretrain"], "accelerate launch -m hf_encoders.training.pretrain"),
    ],
)
def test_its_usage_is_what_a_person_types(start, name):
    for words, stream in ((["--help"], "stdout"), (["--nothing"], "stderr")):
        done = subprocess.run([sys.executable, *start, *words], cwd=ROOT, capture_output=True, text=True)
        line = getattr(done, stream).splitlines()[0]
        expected = (
            f"usage: {name} [RECIPE | FILE.yaml] [--OPTION VALUE ...]",
            f"{name}: no option --nothing (see --help)",
        )
        assert line in expected


def test_the_help_of_a_recipe_shows_what_it_sets(capsys):
    """Without one, it shows what the options are for data of one's own."""
    shown = []
    for words in ([], ["sample"]):
        with pytest.raises(SystemExit):
            parse([*words, "--help"], pretrain.KINDS, "sample", "")
        shown.append(" ".join(capsys.readouterr().out.split()))
    assert "several are joined (default: [])" in shown[0]
    assert "several are joined (default: ['samples/rooms']" in shown[1] or "samples/rooms'])" in shown[1]
    assert "object object" not in "".join(shown)


def test_a_recipe_says_no_without_quotes(tmp_path):
    """YAML reads the word as False."""
    (tmp_path / "mine.yaml").write_text("dataset: org/data\nmixed_precision: no\nepochs: 3")
    *_, run = parse([str(tmp_path / "mine.yaml")], pretrain.KINDS, "sample", "")
    assert run.mixed_precision == "no"


def parsed(*words):
    data, model, *_ = parse(list(words), pretrain.KINDS, pretrain.DEFAULT_RECIPE, "")
    return data, model


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["sample", "--init_from", "x"], {"init_from": "x"}),
        (["sample", "--text-model=x", "--vision_model", "y"], {"text_model": "x", "vision_model": "y"}),
        (["lit", "--init_from", "x"], {"init_from": "x", "freeze": ["visual_encoder"]}),
        (["lit", "--vision_model", "x"], {"vision_model": "x", "text_model": "google-bert/bert-base-uncased"}),
        (["lit", "--vision_model", "x"], {"projection_dim": 512}),  # the same way: the rest of the model stays
        (["lit", "--model_config", '{"projection_dim": 8}'], {"model_config": {"projection_dim": 8}}),
        (["sample", "--model_config", '{"projection_dim": 8}'], {"tokenizer": "samples/tokenizer/vocab.txt"}),
        (["{file}", "--init_from", "x"], {"init_from": "x", "tokenizer": "mine"}),  # it names another repo, not a way
    ],
)
def test_flags_of_a_model_stand_instead_of_that_of_the_recipe(words, kept, tmp_path):
    (tmp_path / "mine.yaml").write_text("init_from: y\ntokenizer: mine")
    words = [word.format(file=tmp_path / "mine.yaml") if "{file}" in word else word for word in words]
    _, model = parsed(*words, "--dataset", "org/data")
    for name, value in kept.items():
        found = getattr(model, name)
        assert str(found).endswith(str(value)) if name == "tokenizer" else found == value
    ways = [model.init_from, model.text_model or model.vision_model, model.model_config]
    assert sum(map(bool, ways)) == 1
    if "tokenizer" not in kept:
        assert not (model.tokenizer or model.image_processor or model.depth_processor)


def test_the_default_recipe_is_of_its_own_data():
    data, model = parsed()
    assert data.depth_column == "depth" and model.model_config and model.tokenizer.endswith("vocab.txt")
    data, model = parsed("--dataset", "org/captions", "--init_from", "x")
    assert not (data.depth_column or model.model_config or model.tokenizer) and data.image_scale == 1
    data, model = parsed("sample", "--dataset", "org/captions")  # named, it is meant
    assert data.dataset == ["org/captions"] and model.model_config
    with pytest.raises(ValueError, match=r"no model: give one of --init_from, .*, or name a recipe .*sample"):
        pretrain.command(["--dataset", str(SAMPLES / "rooms")])


def test_a_depth_network_that_is_given_stands_instead_of_that_of_the_recipe():
    words = ["depth_sample", "--init_from", "x"]
    _, model, _ = parse(words, pretrain_depth.KINDS, pretrain_depth.DEFAULT_RECIPE, "")
    assert model.init_from == "x" and model.model_config is None
