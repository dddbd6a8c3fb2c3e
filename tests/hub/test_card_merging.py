"""What a person wrote into a card stays, whatever is generated around it."""

import pytest

from hf_encoders.hub.card_merging import inline, merge, split


def section(name, text):
    return f"<!-- generated: {name} -->\n{text}\n<!-- end: {name} -->"


def card(*pieces):
    return "\n\n".join(pieces) + "\n"


TITLE, USE, LIMITS = section("title", "# name"), section("use", "## Use\n\nold"), section("limits", "## Limits")
NEW_USE = section("use", "## Use\n\nnew")


def test_a_new_card_has_the_sections_in_their_order_without_empty_ones():
    assert merge("", card(TITLE, section("training", "\n"), USE, LIMITS)) == card(TITLE, USE, LIMITS)


def test_writing_again_changes_nothing():
    once = merge("", card(TITLE, USE, LIMITS))
    assert merge(once, card(TITLE, USE, LIMITS)) == once


def test_a_persons_text_stays_where_it_is():
    mine = "## Mine\n\n```sh\n# Use\n```\n\n  indented\n\n\nfar below"
    old = card("A word before.", TITLE, mine, USE, "The last word.")
    assert merge(old, card(TITLE, NEW_USE)) == card("A word before.", TITLE, mine, NEW_USE, "The last word.")


def test_sections_come_and_go():
    old = card(TITLE, "mine", LIMITS)
    assert merge(old, card(TITLE, USE, LIMITS)) == card(TITLE, USE, "mine", LIMITS)
    assert merge(card(USE), card(TITLE, USE)) == card(TITLE, USE)
    assert merge(card(TITLE, USE, LIMITS), card(TITLE, LIMITS)) == card(TITLE, LIMITS)


def test_a_section_without_its_marks_is_the_persons():
    old = card(TITLE, "## Use\n\nas I say", LIMITS)
    assert merge(old, card(TITLE, USE, LIMITS)) == old


def test_a_card_written_by_hand_is_kept_whole():
    old = "# My model\n\n## Limits\n\nmany"
    assert merge(old, card(TITLE, USE, LIMITS)) == merge(old + "\n", card(TITLE, USE, LIMITS)) == card(old, USE)


@pytest.mark.parametrize(
    ("old", "missing"),
    [
        ("<!-- generated: use -->\n## Use", "<!-- end: use --> is missing"),
        ("## Use\n<!-- end: use -->", "<!-- generated: use --> is missing"),
        (f"<!-- generated: title -->\n{USE}", "<!-- end: title --> is missing before <!-- generated: use -->"),
    ],
)
def test_a_missing_mark_is_named(old, missing):
    with pytest.raises(ValueError, match=missing):
        merge(old, card(TITLE, USE))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        (0.25, "0.25"),
        ("best_model-v1.0.pth", "best_model-v1.0.pth"),
        ("a | b\n\n# A title", "a &#124; b # A title"),
        ("<!-- end: title -->", "&#60;!-- end: title --&#62;"),
        ("`x` [y](z) *b* &lt; \\", "&#96;x&#96; &#91;y&#93;(z) &#42;b&#42; &#38;lt; &#92;"),
        ("\x1b[31m", "\\x1b&#91;31m".replace("\\", "&#92;")),
        ("x" * 500, "x" * 120 + "…"),
    ],
)
def test_what_a_file_says_is_a_part_of_a_line(value, shown):
    assert inline(value) == shown
    assert split(f"<!-- generated: a -->\n{inline(value)}\n<!-- end: a -->")[0].name == "a"
