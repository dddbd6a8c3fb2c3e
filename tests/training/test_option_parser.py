"""Dataclasses as options: the same values as transformers' HfArgumentParser makes, without its import."""

from dataclasses import dataclass

import pytest
from transformers import HfArgumentParser

from hf_encoders.training import pretrain, pretrain_depth
from hf_encoders.training.option_parser import OptionParser, Settings, option


@dataclass
class Options:
    name: str = option("", "a name")
    some_count: int = option(1, "a count")
    rate: float | None = option(None, "a rate")
    names: list[str] = option(["a"], "names")
    sizes: list[int] = option([], "sizes")
    is_on: bool = option(True, "on")
    is_off: bool = option(False, "off")
    kind: str = option("one", "a kind", choices=["one", "two"])
    settings: Settings = option(None, "settings")


LINES = [
    [],
    ["--name", "x", "--some_count", "3", "--rate", "1e-3"],
    ["--some-count=4", "--names", "b", "c", "--sizes", "1", "2"],
    ["--is_on", "false", "--is_off"],
    ["--no_is_on", "--is_off", "yes"],
    ["--no-is-on", "--is-off=0"],
    ["--kind", "two", "--settings", '{"a": 1}'],
]


@pytest.mark.parametrize("words", LINES)
def test_it_reads_as_transformers_does(words):
    (expected,) = HfArgumentParser(Options).parse_args_into_dataclasses(list(words))
    (found,) = OptionParser([Options], "").parse(words)
    assert found == expected and type(found.rate) is type(expected.rate)


@pytest.mark.parametrize("script", [pretrain, pretrain_depth])
def test_the_options_of_the_trainings_are_the_same(script):
    ours, theirs = OptionParser(script.KINDS, ""), HfArgumentParser(script.KINDS)
    for one, other in zip(ours._actions[1:], theirs._actions[1:], strict=True):
        assert (one.dest, one.default, one.nargs, one.choices, one.help) == (
            other.dest, other.default, other.nargs, other.choices, other.help,
        )  # fmt: skip
        assert set(one.option_strings) <= set(other.option_strings)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--is_on", "perhaps"], "argument --is_on: expected yes or no, got 'perhaps'"),
        (["--kind", "three"], "argument --kind: invalid choice: 'three'"),
        (["--some_count", "x"], "argument --some_count: invalid int value: 'x'"),
        (["--names"], "argument --names: expected at least one argument"),
        (["--nothing"], "no option --nothing"),
    ],
)
def test_a_mistake_takes_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as end:
        OptionParser([Options], "").parse(words)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and says in error
