"""What all commands have in common: MODEL first, the shared options, both spellings, help, and no heavy import."""

import argparse
import subprocess
import sys
from typing import get_args

import pytest

from hf_encoders.command_line import run, with_dashes
from hf_encoders.commands import main as cli
from hf_encoders.commands.options import DATA_HELP
from hf_encoders.data.names import Kind
from hf_encoders.towers import Pooling
from hf_encoders.training import pretrain
from hf_encoders.training.recipe import parse
from tests.conftest import ROOT

# What each takes first, and whether it embeds.
MODELS = {
    "verify": False, "export-legacy": False, "encode": True, "embed": True, "search": True, "classify": True,
    "evaluate": True, "calibrate": True, "export": False,
}  # fmt: skip
ON_THE_HUB = {*MODELS, "convert", "push"}


@pytest.fixture(scope="module")
def parsers():
    """Of every command."""
    (commands,) = (
        action for action in cli.make_parser(cli.COMMANDS)._actions if isinstance(action, argparse._SubParsersAction)
    )
    return commands.choices


def options(parser):
    return {name: action for action in parser._actions for name in action.option_strings}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.command([name, "--help"])
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_what_loads_a_model_names_it_first(parsers):
    for name in MODELS:
        first = next(action for action in parsers[name]._actions if not action.option_strings)
        assert first.dest == "model", name


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        ("--revision", {*ON_THE_HUB, "demo"}),
        ("--token", {*ON_THE_HUB, "demo"}),
        ("--device", {"demo", *(name for name, embeds in MODELS.items() if embeds)}),
        ("--batch-size", {name for name, embeds in MODELS.items() if embeds}),
        ("--format", {*ON_THE_HUB, "inspect", "adopt"}),
    ],
)
def test_shared_options_are_where_they_are_due(option, commands, parsers):
    taking = {name: options(parser)[option] for name, parser in parsers.items() if option in options(parser)}
    assert set(taking) == commands
    if option not in ("--revision", "--format"):  # which say what they mean for this command
        assert len({action.help for action in taking.values()}) == 1


@pytest.mark.parametrize("option", ["--pooling", "--tokenizer", "--image-processor", "--trust-remote-code"])
def test_what_embeds_takes_the_options_of_other_peoples_encoders(option, parsers):
    taking = [options(parsers[name])[option] for name in (*(n for n, embeds in MODELS.items() if embeds), "export")]
    assert len({(action.help, action.default, action.metavar) for action in taking}) == 1
    assert not taking[0].default
    # `push` loads an adopted network to write its figures on the card, so it too is told that code may run.
    elsewhere = {"push"} if option == "--trust-remote-code" else set()
    assert {name for name in ("verify", "push", "inspect") if option in options(parsers[name])} == elsewhere
    if option == "--pooling":
        assert set(taking[0].choices) == set(get_args(Pooling))


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("embed", "dataset"),
        ("search", "source"),
        ("demo", "data"),
        ("classify", "source"),
        ("evaluate", "dataset"),
        ("evaluate", "train_dataset"),
        ("calibrate", "dataset"),
        ("calibrate", "unknown_dataset"),
        ("export", "calibration"),
    ],
)
def test_what_names_data_says_all_forms_of_it_in_the_same_words(command, argument, parsers):
    (action,) = (action for action in parsers[command]._actions if action.dest == argument)
    assert DATA_HELP in action.help
    # A kind that is new in `locate` is missing here, until the help tells it.
    words = {"pictures": "images, depth maps", "parquet": "parquet files", "webdataset": "(.tar)", "hub": "Hub id"}
    words |= {"json": ".jsonl, .json", "csv": ".csv", "text": ".txt"}
    assert all(words[kind] in DATA_HELP for kind in get_args(Kind))
    assert "pattern" in DATA_HELP and "URL" in DATA_HELP


def test_help_spells_options_with_dashes_alone(parsers):
    assert not [name for parser in parsers.values() for name in options(parser) if "_" in name]


def test_adding_options_imports_nothing_heavy():
    """Completion adds those of all commands at once."""
    code = (
        "import sys; from hf_encoders.commands import main; main.make_parser(main.COMMANDS);"
        "print(*{'torch', 'transformers', 'datasets', 'numpy', 'PIL', 'huggingface_hub', 'shtab'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        (["--batch_size", "4"], ["--batch-size", "4"]),
        (["--batch_size=4_0"], ["--batch-size=4_0"]),
        (["my_model", "my_data", "-k", "my_k"], ["my_model", "my_data", "-k", "my_k"]),
        (["--a_red chair", "--output", "_"], ["--a_red chair", "--output", "_"]),
        (["--on_error", "skip", "--", "--red_chair"], ["--on-error", "skip", "--", "--red_chair"]),
    ],
)
def test_names_of_options_take_dashes_and_values_stay(words, parsed):
    assert with_dashes(words) == parsed


@pytest.mark.parametrize("words", [["--id-column", "my_id-1"], ["--id_column", "my_id-1"], ["--id_column=my_id-1"]])
def test_a_command_takes_both_spellings(words):
    args = cli.make_parser(["embed"]).parse_args(["embed", "my_model", "my-data", "--output", "my_folder", *words])
    assert (args.model, args.dataset, str(args.output)) == ("my_model", "my-data", "my_folder")
    assert args.id_column == "my_id-1"


@pytest.mark.parametrize("option", ["--learning_rate", "--learning-rate"])
def test_training_takes_both_spellings(option):
    *_, training = parse(["sample", option, "0.5"], pretrain.KINDS, "sample", "")
    assert training.learning_rate == 0.5


@pytest.mark.parametrize(("words", "code"), [([], 2), (["embroider"], 2), (["--nothing"], 2)])
def test_without_a_command_one_line_names_them(words, code, capsys):
    with pytest.raises(SystemExit) as end:
        cli.command(words)
    error = capsys.readouterr().err
    assert end.value.code == code
    assert error.count("\n") == 1
    if words != ["--nothing"]:
        assert all(name in error for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["searchh", "model", "photos", "a chair"], "hf-encoders: no command 'searchh'; did you mean search?"),
        (["exprt", "--to", "onnx"], "hf-encoders: no command 'exprt'; did you mean export?"),
        (["--versoin"], "hf-encoders: no option --versoin; did you mean --version?"),
        (["search", "--colum", "text"], "hf-encoders search: no option --colum; did you mean --column?"),
        (["embed", "m", "d", "--ouput=out"], "hf-encoders embed: no option --ouput; did you mean --output?"),
        (
            ["embed", "m", "d", "--id_colunm", "x"],
            "hf-encoders embed: no option --id-colunm; did you mean --id-column?",
        ),
        (["classify", "m", "d", "--label", "a"], "hf-encoders classify: no option --label; did you mean --labels?"),
        (["convert", "a.pth", "--push", "b"], "hf-encoders convert: no option --push; did you mean --push-to-hub?"),
        (["encode", "m", "d", "--zzz"], "hf-encoders encode: no option --zzz (see --help)"),
        (
            ["train", "sample", "--learning-rat", "1"],
            "hf-encoders train: no option --learning-rat; did you mean --learn",
        ),
        (["train", "--epoch", "1"], "hf-encoders train: no option --epoch; did you mean --epochs?"),
    ],
)
def test_what_was_meant_is_named(words, says, capsys):
    """Whole names alone are options: a part of one would become another when an option is added."""
    with pytest.raises(SystemExit) as end:
        cli.command(words)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert error.startswith(says)


def test_words_after_two_dashes_are_no_options():
    words = ["search", "model", "photos", "--", "--colum", "-1"]
    assert cli.make_parser(["search"]).parse_args(words).queries == ["--colum", "-1"]


def test_an_option_of_a_recipe_that_is_none_is_answered_likewise(tmp_path):
    (tmp_path / "mine.yaml").write_text("learing_rate: 1")
    with pytest.raises(ValueError, match=r"no option learing_rate; did you mean learning_rate\?"):
        parse([str(tmp_path / "mine.yaml")], pretrain.KINDS, "sample", "")


def test_no_parser_takes_parts_of_names():
    for folder in ("hf_encoders", "conversion", "training", "examples", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            made = path.read_text(encoding="utf-8").split("argparse.ArgumentParser(")[1:]
            assert all("allow_abbrev=False" in call.partition("\n")[0] for call in made), path


def test_control_c_ends_with_130_in_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(interrupted)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing was written\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `hf-encoders ... | head`."""
    code = (
        "from argparse import Namespace; from hf_encoders.commands.runner import Result, perform;"
        "perform(lambda args: Result(['a line'] * 100_000, None), Namespace(token=None, format='table'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
