"""Texts of files and people are texts on the page, whatever they hold."""

import pytest

from hf_encoders.demo.markup import bytes_in_words, element, folded, listing, message, note, table, text

EVIL = "<img src=x onerror=\"alert('1')\">&amp;"


@pytest.mark.parametrize(
    "made",
    [
        text("p", EVIL),
        text("a", "x", href=EVIL),
        message(EVIL, lead=EVIL),
        note(EVIL),
        table([EVIL], [[EVIL]]),
        listing([EVIL]),
        folded(EVIL, ""),
    ],
)
def test_every_text_is_escaped(made):
    assert "<img" not in made and "&lt;img" in made
    assert 'onerror="' not in made and "&amp;amp;" in made


def test_attributes_are_written_as_html_has_them():
    made = element("button", "x", class_="a", data_row=0, hidden=True, title=None, disabled=False)
    assert made == '<button class="a" data-row="0" hidden>x</button>'


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (9_476_465, "9.5 MB"), (10**16, "10000.0 TB"), (1000, "1.0 kB")]
)
def test_bytes_in_words(count, said):
    assert bytes_in_words(count) == said
