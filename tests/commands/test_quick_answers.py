"""Help, mistakes and missing files are answered before anything heavy is imported, however a command is called."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_encoders.commands import main as cli
from hf_encoders.commands.inputs import DATA, ON_THIS_MACHINE, OR_ON_THE_HUB
from hf_encoders.commands.options import as_paths, path
from hf_encoders.data.presets import PRESETS, preset_name
from hf_encoders.training.recipe import _MODELS
from hf_encoders.training.shared_arguments import TRACKERS
from tests.conftest import ROOT

HEAVY = {
    "torch", "transformers", "datasets", "accelerate", "numpy", "PIL", "pyarrow", "huggingface_hub", "safetensors",
}  # fmt: skip
# Runs what the first word says as Python would, and prints at the end which modules are there.
WATCH = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sorted(name for name in sys.modules if "." not in name)))
way, *sys.argv = sys.argv[1:]
if way == "console":
    from hf_encoders.commands.main import main
    main()
elif way == "script":
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for folder in ("conversion", "training") for path in (ROOT / folder).glob("*.py")
)
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for file in (ROOT / "hf_encoders").rglob("*.py")
    if '\nif __name__ == "__main__"' in file.read_text()
    and file.parent.name != "own_process"  # another process starts it, and no person
)
# Whatever a shell can start, without its arguments.
WAYS = [
    *(("console", "hf-encoders", name) for name in cli.COMMANDS),
    *(("script", str(ROOT / script)) for script in SCRIPTS),
    *(("module", module) for module in MODULES),
]
TRAINS = [way for way in WAYS if "train" in way or "pretrain" in way[1]]
ABSENT = "./absent.pt"


def answer(*words, cwd=None):
    """What is printed: exit status, stdout, stderr. Fails if something heavy was imported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    printed, _, imported = done.stdout.rpartition("imported: ")
    assert imported, done.stderr
    assert not HEAVY & set(imported.split()), HEAVY & set(imported.split())
    return done.returncode, printed, done.stderr


def refusal(*words, cwd=None):
    """The one line of a call that is refused."""
    status, printed, error = answer(*words, cwd=cwd)
    assert (status, printed, error.count("\n")) == (2, "", 1), error
    return error


def make_parsers():
    (commands,) = (
        action for action in cli.make_parser(cli.COMMANDS)._actions if isinstance(action, argparse._SubParsersAction)
    )
    return commands.choices


def options_of(parser):
    return {name for action in parser._actions for name in action.option_strings}


@pytest.fixture(scope="module")
def parsers():
    return make_parsers()


def test_every_way_is_found():
    assert {"conversion/convert_ckpt.py", "training/evaluate.py", "training/pretrain.py"} <= set(SCRIPTS)
    assert {"hf_encoders.embed", "hf_encoders.commands.evaluate", "hf_encoders.training.pretrain_depth"} <= set(MODULES)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_help_is_there_at_once(way):
    status, printed, _ = answer(*way, "--help")
    assert status == 0 and printed.startswith("usage: ")


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_an_option_that_does_not_exist_is_named_at_once(way):
    line = refusal(*way, "--nothing")
    assert "--nothing" in line or "required: " in line or "invalid choice" in line


def test_a_command_that_does_not_exist_is_named_at_once():
    assert "'embroider'" in refusal("console", "hf-encoders", "embroider", "embed")


def least_words(parser, changed, absent, folder):
    """The words that a command needs, all of files and folders that are there; one argument names what is not.

    Args:
        parser: of the command.
        changed: the argument that is given `absent`.
        absent: a name that nothing has.
        folder: the value of all others that name something.
    """
    words, last = [], []
    for action in parser._actions:
        value = absent if action is changed else action.choices[0] if action.choices else str(folder)
        if action.option_strings and (action.required or action is changed):
            words += [f"{action.option_strings[-1]}={value}"]
        elif not action.option_strings and (action.nargs != "?" or action is changed):
            last += [value]
    return [*words, *last]


def inputs_of(parsers):
    known = (*ON_THIS_MACHINE, *OR_ON_THE_HUB, *DATA)
    return [(name, action) for name, parser in parsers.items() for action in parser._actions if action.dest in known]


def test_what_names_a_file_is_known_as_one(parsers):
    """An argument that is new is missing here, until it is in one of the tables or said to be written."""
    written = {"output", "save_index", "figures"}
    known = {*ON_THIS_MACHINE, *OR_ON_THE_HUB, *DATA, *written}
    for name, parser in parsers.items():
        for action in parser._actions:
            if action.type is path or action.metavar in ("DIR_OR_ID", "REPO", "CHECKPOINT", "DATA"):
                assert action.dest in known, (name, action.dest)
    assert {action.dest for _, action in inputs_of(parsers)} == known - written


def test_what_is_not_there_is_named_at_once(parsers, tmp_path):
    for name, action in inputs_of(parsers):
        words = least_words(parsers[name], action, ABSENT, tmp_path)
        line = refusal("console", "hf-encoders", name, *words)
        assert line.removeprefix("error: ").removeprefix("./") == "absent.pt: no such file\n", (name, words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["encode", "./none", "{here}"], "./none: no such file or folder"),
        (["encode", "~none/model", "{here}"], "~none/model: no such file or folder"),
        (["encode", "/none/model", "{here}"], "/none/model: no such file or folder"),
        (["encode", "../none", "{here}"], "../none: no such file or folder"),
        (["encode", "one/two/three", "{here}"], "one/two/three: no such file or folder"),
        (["encode", "none.PTH", "{here}"], "none.PTH: no such file"),
        (["encode", "{here}", "{here}", "none.png"], "none.png: no such file"),
        (["encode", "{here}", "{here}", "--output", "embeddings.txt"], "embeddings.txt: the output is a .npz file"),
        (["embed", "{here}", "none/*.tar", "--output", "out"], "none/*.tar: no such file"),
        (["embed", "{here}", "maps.parquet", "--output", "out"], "maps.parquet: no such file"),
        (["evaluate", "{here}", "{here}/none"], "none: no such file or folder"),
        (["classify", "{here}", "{here}", "--labels", "@names.txt"], "names.txt: no such file"),
        (["classify", "{here}", "{here}", "--labels", "a", "--output", "a.txt"], "a.txt: the output is a .jsonl or"),
        (["search", "{here}", "{here}", "chair.png"], "chair.png: no such file; --by text takes it for words"),
        (["search", "{here}", "{here}", "a chair", "--by", "image"], "a chair: no such file or folder"),
        (["convert"], "give either a CHECKPOINT to convert or --verify REPO"),
        (["export", "{here}", "--to", "onnx", "--int8"], "--int8 and --calibration go together"),
        (["convert", "none\n.pth"], r"none\n.pth: no such file"),
    ],
)  # fmt: skip
def test_each_kind_of_name_is_looked_for(words, says, tmp_path):
    assert says in refusal("console", "hf-encoders", *(word.format(here=tmp_path) for word in words), cwd=tmp_path)


@pytest.mark.parametrize("way", TRAINS, ids=" ".join)
def test_trainings_name_what_is_not_there_at_once(way, tmp_path):
    assert "none.yaml: no such recipe" in refusal(*way, "none.yaml", cwd=tmp_path)
    depth = "pretrain_depth" in way[1]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model_type: {'depth_semantic' if depth else 'multimodal'}_encoder\ndataset: org/data\n")
    for name in ("dataset", *(_MODELS if not depth else ["init_from"])):
        assert refusal(*way, str(recipe), f"--{name}", ABSENT) == f"error: {ABSENT}: no such file\n"


@pytest.mark.parametrize("name", [name for name, parser in make_parsers().items() if "--preset" in options_of(parser)])
def test_a_name_that_is_none_of_a_few_is_answered_with_all_of_them_at_once(name, parsers, tmp_path):
    words = least_words(parsers[name], None, "", tmp_path)
    line = refusal("console", "hf-encoders", name, *words, "--preset", "kiti")
    assert f"argument --preset: is one of {', '.join(PRESETS)}, got 'kiti'" in line


def test_values_to_choose_from_are_those_of_the_libraries():
    """Options know them without an import that takes seconds."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    from hf_encoders.models.depth_units import PRESETS as known
    from hf_encoders.models.depth_units import preset_named

    assert tuple(known) == PRESETS
    for name in (*PRESETS, "NYU", "Nyu_PNG", "sun-rgb-d", "SUN_RGBD"):
        assert preset_named(name) is known[preset_name(name)]
    assert set(map(str, LOGGER_TYPE_TO_CLASS)) <= set(TRACKERS)


@pytest.mark.parametrize("way", TRAINS, ids=" ".join)
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--preset", f"--preset is one of {', '.join(PRESETS)}, got 'none of them'"),
        ("--mixed_precision", "invalid choice: 'none of them' (choose from "),
        ("--report_to", "invalid choice: 'none of them' (choose from "),
        ("--lr_schedule", "invalid choice: 'none of them' (choose from "),
    ],
)
def test_trainings_answer_so_too_for_flags_and_recipes(way, option, says, tmp_path):
    assert says in refusal(*way, "--dataset", str(tmp_path), option, "none of them")
    recipe = tmp_path / "recipe.yaml"
    model = "depth_semantic" if "pretrain_depth" in way[1] else "multimodal"
    recipe.write_text(f"model_type: {model}_encoder\ndataset: org/data\n{option[2:]}: none of them")
    assert " is one of " in (line := refusal(*way, str(recipe))) and line.endswith(", got 'none of them'\n")


@pytest.mark.parametrize("name", ["org/model", "model", "org/bge-small-en-v1.5", "org/model_v2.0"])
def test_ids_on_the_hub_are_not_looked_for(name, tmp_path, monkeypatch):
    from hf_encoders.commands.inputs import check_inputs

    monkeypatch.chdir(tmp_path)
    check_inputs(argparse.Namespace(model=name, source=name, dataset=["https://host/maps.parquet"], labels=None))


def test_paths_are_paths_once_they_were_looked_for():
    args = argparse.Namespace(output=path("out"), paths=[path("a"), path("b")], model="org/model", k=[1])
    as_paths(args)
    assert (args.output, args.paths) == (Path("out"), [Path("a"), Path("b")])
    assert (args.model, args.k) == ("org/model", [1])
