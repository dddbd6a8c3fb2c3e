"""Which of several networks is taken: by what papers evaluate, or not at all."""

import re

import pytest
import torch

from hf_encoders.checkpoints.checkpoint import Checkpoint
from hf_encoders.checkpoints.errors import AmbiguousWeightsError
from hf_encoders.checkpoints.finding.choice import WeightsWanted, choose
from hf_encoders.checkpoints.finding.networks import FamilyNames

FAMILIES = [
    FamilyNames("sparrow", re.compile(r"wing\.\d+|tail"), (re.compile("tail"),)),
    FamilyNames("salmon", re.compile(r"fin\.\d+|scales"), (re.compile("scales"),)),
    FamilyNames("ours", re.compile(r"ours\.\d+"), ()),
]
ALONE = ("sparrow", "salmon")


def sparrow(wings=4, size=3):
    return {f"wing.{number}": torch.ones(size) for number in range(wings)} | {"tail": torch.ones(2)}


SALMON = {"fin.0": torch.ones(1), "scales": torch.ones(1)}
OURS = {f"ours.{number}": torch.ones(1) for number in range(3)}


def below(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def chosen(content, path=None, preferred=()):
    return choose(Checkpoint("a.pth", "test", content), FAMILIES, WeightsWanted(path), preferred, ALONE)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"student": sparrow(), "teacher": sparrow()}, "teacher"),
        ({"student": {"module": sparrow()}, "teacher": sparrow()}, "teacher"),
        ({"model": {"student.backbone": sparrow(), "teacher.backbone": sparrow()}}, 'model."teacher.backbone"'),
        ({"student": sparrow(2), "teacher": sparrow(9)}, "student"),  # distilled from a larger network
        ({"student": sparrow(size=2), "teacher": sparrow(size=9)}, "student"),
        ({"teacher": sparrow(), "model": sparrow()}, "model"),  # no pair
        ({"encoder_k": sparrow(), "encoder_q": sparrow()}, "encoder_q"),
        (
            {"state_dict": below("encoder_k.net.", sparrow()) | below("encoder_q.net.", sparrow())},
            "state_dict.encoder_q.net",
        ),
        ({"model": below("criterion.net.", sparrow(9)) | below("net.", sparrow())}, "model.net"),
        ({"perceptual_loss": SALMON, "model": sparrow()}, "model"),
        ({"best_val_loss": sparrow(), "best_val_loss_ema": sparrow()}, "best_val_loss"),
        ({"target_network": sparrow(), "online_network": sparrow()}, "online_network"),
        ({"momentum_encoder": sparrow(), "base_encoder": sparrow()}, "base_encoder"),
        ({"state_dict_ema": sparrow(), "state_dict": sparrow()}, "state_dict"),
        ({"model_ema": sparrow(), "model": sparrow()}, "model"),
        ({"a": sparrow(2), "b": sparrow(9)}, "b"),  # a is a part of a network
        ({"net": sparrow(), "model": sparrow()}, "model"),
        ({"model": sparrow(), "salmon_ema": SALMON}, "model"),
    ],
)
def test_what_papers_evaluate(content, path):
    found = chosen(content)
    assert found.network.path == path and len(found.others) == 1
    said = [note for note in found.notes if "took the teacher, not the student" in note]
    assert len(said) == ("teacher" in path)


@pytest.mark.parametrize(
    "content",
    [
        {"question_model": sparrow(), "ctx_model": sparrow()},
        {"x": {"a": sparrow()}, "y": {"a": sparrow()}},
        {"image": sparrow(), "text": SALMON},
        {"model": sparrow(), "other": SALMON},
        {"state_dict": {**sparrow(9), **{f"fish.{name}": tensor for name, tensor in SALMON.items()}}},
    ],
)
def test_what_nothing_tells_is_asked(content):
    with pytest.raises(AmbiguousWeightsError, match="nothing tells which is meant") as error:
        chosen(content)
    paths = re.findall(r"([^ ]+) \((?:sparrow|salmon), \d+ tensors\)", str(error.value))
    assert len(paths) == 2 and str(error.value).endswith("take one with --weights PATH")
    for path in paths:
        assert chosen(content, path).network.path == path


def test_a_family_that_is_asked_for_is_taken():
    content = {"image": sparrow(), "text": SALMON}
    assert chosen(content, preferred=["salmon"]).network.family == "salmon"
    content = {"first": OURS, "second": OURS, "third": sparrow(9)}
    assert chosen(content, preferred=["ours"]).network.path == "first"


def test_near_families_are_counted():
    found = chosen({"wing.0": torch.ones(1), "wing.1": torch.ones(1), "fin.7": torch.ones(1), "beak": torch.ones(1)})
    assert found.near == {"sparrow": 2, "salmon": 1} and found.network.family == "sparrow"
    assert chosen(sparrow()).near == {}


def test_a_part_of_a_network_is_taken_where_it_is_asked_for():
    roe = {f"roe.{name}": tensor for name, tensor in SALMON.items()}
    content = {"model": sparrow(9) | roe}
    families = [*FAMILIES, FamilyNames("bird", re.compile(r"(?:wing|roe)\..+|tail"), (re.compile("tail"),))]
    found = choose(Checkpoint("a.pth", "test", content), families, None, (), ALONE)
    assert found.network.family == "bird" and len(found.network.members) == 12
    part = choose(Checkpoint("a.pth", "test", content), families, WeightsWanted("model.roe"), (), ALONE)
    assert part.network.family == "salmon" and part.network.prefix == "roe."
    assert [member.name for member in part.network.members] == ["fin.0", "scales"]


def test_a_network_of_a_loss_is_not_what_was_trained():
    content = {"state_dict": {"generator.weight": torch.ones(3, 3)} | below("perceptual_loss.net.", sparrow())}
    with pytest.raises(AmbiguousWeightsError, match="part of a loss: state_dict.perceptual_loss.net") as error:
        chosen(content)
    assert "--weights PATH" in str(error.value) and "\n" not in str(error.value)
    assert chosen(content, "perceptual_loss.net").network.family == "sparrow"


@pytest.mark.parametrize("path", ["state_dict.module.wings.visual", "module.wings.visual", "visual"])
def test_a_part_is_found_by_the_end_of_its_path(path):
    families = [*FAMILIES, FamilyNames("bird", re.compile(r"visual_encoder\..+|beak|feet"), (re.compile("beak"),))]
    bird = {"beak": torch.ones(1), "feet": torch.ones(2)} | below("visual.", sparrow())
    content = {"state_dict": below("module.wings.", bird)}
    found = choose(Checkpoint("a.pth", "test", content), families, WeightsWanted(path), (), ALONE)
    assert found.network.family == "sparrow" and found.network.path == "state_dict.module.wings.visual"
