"""What is behind an error, and what to do about it."""

from hf_encoders.hub.errors import hub_advice


def test_an_error_that_is_its_own_cause_ends_the_walk():
    error = ValueError("broken")
    error.__cause__ = error
    assert hub_advice(error) == ""


def test_errors_that_cause_each_other_end_the_walk():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__context__ = other, one
    assert hub_advice(one) == ""
