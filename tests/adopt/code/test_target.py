from pathlib import Path

import pytest

from hf_encoders.adopt.code.attributes import part_of
from hf_encoders.adopt.code.source_tree import SourceTree
from hf_encoders.adopt.code.target import Target, parse_target
from hf_encoders.adopt.embedding import beginnings, check_expression
from hf_encoders.adopt.errors import AdoptError

LIT = """
import lightning as L
from parts import Encoder, Head
import parts

class Lit(L.LightningModule):
    def __init__(self, dim, depth=3, config=None, **kwargs):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = {made}
        self.head = L.Head(dim)
        self.one, self.two = Encoder(1), Encoder(dim)
"""
PARTS = """
class Encoder:
    def __init__(self, dim, depth=1, *, rate=0.0):
        pass


class Head:
    pass
"""


def lit(folder: Path, made: str) -> SourceTree:
    (folder / "lit.py").write_text(LIT.format(made=made))
    (folder / "parts.py").write_text(PARTS)
    return SourceTree(folder / "lit.py")


def follow(folder: Path, made: str, arguments: dict[str, object], *attributes: str):
    tree = lit(folder, made)
    return part_of(tree, Target(folder / "lit.py", "Lit", attributes or ("encoder",)), arguments)


def test_a_target_is_a_file_a_class_and_attributes(tmp_path):
    file = tmp_path / "net.py"
    file.touch()
    assert parse_target(f"{file}:Lit.model.encoder") == Target(file, "Lit", ("model", "encoder"))


@pytest.mark.parametrize("text", ["net.py", "net:Encoder", "net.py:", "net.py:a b", "net.py:A..b"])
def test_a_target_of_another_form_is_refused(text):
    with pytest.raises(AdoptError, match="expected FILE.py:Class"):
        parse_target(text)


def test_a_missing_file_is_said():
    with pytest.raises(AdoptError, match=r"nowhere\.py: no such file"):
        parse_target("nowhere.py:Encoder")


@pytest.mark.parametrize(
    ("made", "arguments", "expected"),
    [
        ("Encoder(dim, depth=depth)", {"dim": 8}, {"dim": 8, "depth": 3}),
        ("Encoder(dim * 2, rate=-0.5)", {"dim": 8, "lr": 1}, {"dim": 16, "rate": -0.5}),
        ("parts.Encoder(self.hparams.dim)", {"dim": 8}, {"dim": 8}),
        ("Encoder(config.a.dim, config['n'])", {"config": {"a": {"dim": 4}, "n": 2}}, {"dim": 4, "depth": 2}),
        ("Encoder(**config)", {"config": {"dim": 4, "rate": 0.5}}, {"dim": 4, "rate": 0.5}),
        ("Encoder(make())", {"dim": 8, "rate": 0.5}, {"dim": 8, "rate": 0.5}),
    ],
)  # fmt: skip
def test_the_arguments_of_an_attribute_are_read_in_the_source(tmp_path, made, arguments, expected):
    part = follow(tmp_path, made, arguments)
    assert (part.source.path.name, part.name, part.arguments) == ("parts.py", "Encoder", expected)


def test_attributes_that_are_assigned_together_are_told_apart(tmp_path):
    assert follow(tmp_path, "Encoder(3)", {"dim": 8}, "one").arguments == {"dim": 1}
    assert follow(tmp_path, "Encoder(3)", {"dim": 8, "lr": 1}, "two").arguments == {"dim": 8}


@pytest.mark.parametrize(
    ("made", "attribute", "message"),
    [
        ("Encoder(dim)", "missing", "the constructor of Lit assigns nothing to self.missing"),
        ("Encoder(dim)", "head", "head is made by L.Head, no class of this project; name the class of head itself"),
        ("Encoder(make())", "encoder", "lit.py:10: nothing tells the argument 'make()'; give it in --kwargs"),
        ("make_encoder(dim)", "encoder", "encoder is made by make_encoder, no class of this project"),
    ],
)
def test_an_attribute_that_cannot_be_followed_is_said_with_its_line(tmp_path, made, attribute, message):
    with pytest.raises(AdoptError) as error:
        follow(tmp_path, made, {"dim": 8, "lr": 1}, attribute)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["output", "output[0].mean(1)", "output['cls'][:, 0]", "output.tokens.mean(dim=(1, 2))", "output[-1][..., 0]"],
)
def test_items_attributes_and_methods_of_the_output_are_taken(text):
    check_expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output[", "a syntax error"),
        ("open('x')", "is not allowed"),
        ("output.__class__", "the attribute __class__ is not allowed"),
        ("[x for x in output]", "a ListComp is not allowed"),
        ("output.map(lambda x: x)", "a Lambda is not allowed"),
        ("other[0]", "the name other is not allowed"),
        ("1", "does not name `output`"),
        ("output(1)", "a call of what is no method is not allowed"),
    ],
)
def test_other_expressions_are_refused(text, message):
    with pytest.raises(AdoptError) as error:
        check_expression(text)
    assert message in str(error.value)


def test_the_beginnings_of_an_expression_lead_to_the_state():
    assert beginnings("output['x'][0].mean(1)") == ["output", "output['x']", "output['x'][0]", "output['x'][0].mean(1)"]
