"""Whatever a file holds, its weights are found or refused in one line, and it can be inspected."""

import json
import random
from pathlib import Path

import pytest
import torch

from hf_encoders.checkpoints.checkpoint import Checkpoint, Stub
from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.finding.choice import WeightsWanted, choose
from hf_encoders.commands import inspect
from hf_encoders.conversion import inspection
from hf_encoders.conversion.families.legacy.depth_layouts import recognise_depth
from hf_encoders.conversion.families.legacy.multimodal_layouts import is_multimodal, recognise_multimodal
from hf_encoders.conversion.families.names import FAMILIES
from hf_encoders.conversion.plain_data import plain_metadata
from tests.helpers.legacy_files import tiny_state
from tests.helpers.multimodal_files import multimodal_state

NAMES = [*list(tiny_state())[::40], *list(multimodal_state())[::9]]
WORDS = [
    *("model", "module", "ema", "state_dict", "optimizer", "state", "param_groups", "a.b", "", "\x1b[0m", "<!--", "0"),
    *("_parameters", "_buffers", "_modules", "x.lora_A", "weight_g", "encoder", "decoder", "text", "\udce9", "ema_a_b"),
]
CLASSES = ["a.B", "omegaconf.X", "pathlib.Path", "datetime.datetime", "torch.device", "\x1b.x", "torch.Size"]
PLAIN = [None, True, 3, 1 << 300, 0.5, float("nan"), "text", "/home/anna/x", b"\0\1", 2j, float("-inf")]


class Maker:
    """Makes contents at random: containers in containers, some of them in several places or in themselves."""

    def __init__(self, seed):
        self.random, self.containers = random.Random(seed), []

    def key(self):
        words = self.random.choice([NAMES, WORDS, WORDS])
        return self.random.choice(
            [self.random.choice(words), f"{self.random.choice(WORDS)}.{self.random.choice(words)}"]
        )

    def value(self, depth):
        choice = self.random.random()
        if depth > 5 or choice < 0.25:
            return self.random.choice(PLAIN)
        if choice < 0.5:
            return torch.zeros([self.random.randrange(4) for _ in range(self.random.randrange(5))])
        if choice < 0.55 and self.containers:
            return self.random.choice(self.containers)
        if choice < 0.62:
            return self.random.choice([tiny_state, multimodal_state])()
        return self.container(depth)

    def container(self, depth):
        kind = self.random.choice([dict, dict, dict, list, tuple, Stub])
        if kind is tuple:
            return tuple(self.value(depth + 1) for _ in range(self.random.randrange(4)))
        made = Stub(self.random.choice(CLASSES)) if kind is Stub else kind()
        self.containers.append(made)
        count = self.random.randrange(5)
        if kind is dict:
            made |= {self.random.choice([self.key(), self.key(), 1, None]): self.value(depth + 1) for _ in range(count)}
        elif kind is list:
            made += [self.value(depth + 1) for _ in range(count)]
        else:
            made.state, made.items = self.value(depth + 1), [self.value(depth + 1) for _ in range(count)]
            made.entries = {self.key(): self.value(depth + 1) for _ in range(count)}
            made.arguments = tuple(self.value(depth + 1) for _ in range(self.random.randrange(3)))
        return made


@pytest.mark.parametrize("seeds", [range(start, start + 40) for start in range(0, 160, 40)])
def test_any_content_is_taken_or_refused_in_one_line_and_can_be_inspected(seeds, monkeypatch):
    outcomes = set()
    for seed in seeds:
        maker = Maker(seed)
        checkpoint = Checkpoint(Path(__file__), "pickle", maker.container(0), ("a.B",), 1)
        monkeypatch.setattr(inspection, "open_checkpoint", lambda path, found=checkpoint: found)
        found = inspection.inspect_checkpoint(Path(__file__))
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode("utf-8")
        assert inspect._lines(found)[1] == "weights:", seed
        path = maker.random.choice([None, None, *(weights["path"] for weights in found["weights"])])
        wanted = WeightsWanted(path, tuple(maker.key() for _ in range(maker.random.randrange(2))))
        try:
            chosen = choose(checkpoint, FAMILIES, wanted)
            json.dumps(plain_metadata(chosen.metadata), allow_nan=False, ensure_ascii=False).encode("utf-8")
            source = (recognise_multimodal if is_multimodal(chosen) else recognise_depth)(chosen)
            assert len(dict(source.tensors)) >= 70, seed
            outcomes.add("taken")
        except LayoutError as error:
            assert str(error).isprintable() and str(error).startswith(str(Path(__file__))), seed
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}
