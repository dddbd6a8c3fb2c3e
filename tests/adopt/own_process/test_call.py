"""Arguments are checked against the signature of a class before it is made."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from hf_encoders.adopt.own_process.call import Call
from hf_encoders.adopt.own_process.network import describe
from hf_encoders.adopt.own_process.outputs import shown
from hf_encoders.adopt.own_process.refused import Refused
from hf_encoders.adopt.settings_object import Settings


@dataclass
class Sizes:
    dim: int = 4
    kernel: tuple[int, int] = (3, 3)
    kind: torch.dtype = torch.float32


class Plain(nn.Module):
    def __init__(self, dim, depth=2, norm=nn.LayerNorm, sizes=(1, 2)):
        super().__init__()
        self.made = (dim, depth, norm, sizes)


class OfSizes(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.made = sizes


class Many(nn.Module):
    def __init__(self, kernel, pad=1, *widths, **more):
        super().__init__()
        self.made = (kernel, pad, widths, more)


class OfConfig(nn.Module):
    def __init__(self, cfg, rate=0.1):
        super().__init__()
        self.made = (cfg, rate)


def call(cls, given, loose=()):
    return Call(cls, dict(given), list(loose), Settings)


def test_defaults_that_json_holds_are_written_down_and_others_stay_the_class_s():
    made = call(Plain, {"dim": 3})
    assert made.arguments == {"dim": 3, "depth": 2}
    assert made.make().made == (3, 2, nn.LayerNorm, (1, 2))


def test_what_a_checkpoint_says_of_its_training_is_left_out():
    assert call(Plain, {"dim": 3, "lr": 0.1}, loose=["dim", "lr"]).arguments == {"dim": 3, "depth": 2}


def test_one_object_of_settings_has_items_and_attributes():
    settings = call(OfConfig, {"model": {"dim": 3}, "layers": [{"a": 1}]}).make().made[0]
    assert settings.model.dim == settings["model"]["dim"] == 3
    assert settings.layers[0].a == 1 and settings.get("none", 5) == 5 and vars(settings)["model"].dim == 3


def test_arguments_by_place_come_before_those_of_a_star():
    made = call(Many, {"kernel": 3, "widths": [4, 5], "rate": 0.5})
    assert made.order == [["kernel", "place"], ["pad", "place"], ["widths", "more"], ["rate", "name"]]
    assert made.make().made == (3, 1, (4, 5), {"rate": 0.5})


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (Plain, {"dim": 3, "heads": 1}, "Plain has no argument 'heads'; it takes dim, depth, norm, sizes"),
        (Plain, {}, "Plain needs the argument 'dim'; give it in --kwargs"),
        (Many, {"kernel": 3, "widths": 4}, "the argument 'widths' is a list: the class takes *widths"),
        (Many, {"kernel": 3, "class": 4}, "'class' is no name of an argument"),
        (OfSizes, {"width": 3}, "its Sizes refuses the arguments"),
        (OfSizes, {"dim": 3}, "JSON does not hold its arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(cls, given, message):
    with pytest.raises(Refused) as error:
        call(cls, given)
    assert message in str(error.value)


class Needed(nn.Module):
    def __init__(self, kernel, norm=nn.LayerNorm, *widths):
        super().__init__()


def test_an_argument_before_a_star_that_json_does_not_hold_must_be_given():
    with pytest.raises(Refused, match="give 'norm' too: it stands before the items of"):
        call(Needed, {"kernel": 3, "widths": [1]})


@dataclass
class Inner:
    dim: int = 4


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    depth: int = 1

    def total(self):
        return self.depth


class OfOuter(nn.Module):
    def __init__(self, cfg: Outer | None = None):
        super().__init__()
        self.made = cfg


def test_dataclasses_within_each_other_become_an_object_of_settings():
    made = call(OfOuter, {"inner": {"dim": 5}})
    assert made.makers == {} and made.arguments == {"cfg": {"inner": {"dim": 5}, "depth": 1}}
    assert made.make().made.inner.dim == 5


class Star(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 2, padding_idx=1)
        self.same = self.table

    def forward(self, *inputs):
        return inputs


def test_a_network_is_described_by_its_weights_inputs_and_tables():
    assert describe(Star()) == {
        "weights": {"table.weight": [[5, 2], "float32"], "same.weight": [[5, 2], "float32"]},
        "tied": {"same.weight": "table.weight"},
        "takes": ["inputs"],
        "is_lazy": False,
        "tables": [[5, 1]],
    }


def test_what_a_network_returns_is_shown_in_words():
    output = {"a": [torch.ones(1, 2), None], "b": (torch.ones(3),)}
    assert shown(output) == "a dict of 'a': a list of [1, 2], a NoneType, 'b': a tuple of [3]"
