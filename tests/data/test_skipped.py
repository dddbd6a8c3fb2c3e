"""The reasons of inputs that were left out, without their names and positions."""

import pytest

from hf_encoders.data.skipped import reason_of, skipped_inputs
from hf_encoders.models.input_errors import InputError


def refusing(item, **options):
    raise InputError(path=item[0], reason="is empty", index=0)


def test_the_reason_does_not_repeat_the_name():
    names = ["a.png", "b.png"]
    found = skipped_inputs(refusing, [1], lambda index: [names[index]], lambda index: names[index])
    assert found == [{"index": 1, "name": "b.png", "reason": "is empty"}]


def test_an_input_that_can_be_read_the_second_time():
    found = skipped_inputs(lambda item, **options: item, [0], lambda index: "x", lambda index: "x")
    assert found[0]["reason"] == "cannot be read"


@pytest.mark.parametrize(
    ("error", "said"),
    [(InputError(index=3, reason="is empty", hint="fill it"), "is empty; fill it"), (ValueError("a\nb"), "a b")],
)
def test_reasons_are_one_line(error, said):
    assert reason_of(error) == said
