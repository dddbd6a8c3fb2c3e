"""Words in any script: a font that has the letters, or their code points; boxes are never drawn in silence."""

import pytest
from PIL import Image, ImageDraw

from hf_encoders.commands.figures import fonts
from hf_encoders.commands.figures.fonts import drawable

CHAIR, LETTERS = "椅子", "ehcair "


@pytest.fixture
def chinese(tmp_path, monkeypatch):
    """A system whose only font has two Chinese letters and a few Latin ones, each a black square."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    def square(side):
        pen = TTGlyphPen(None)
        for number, corner in enumerate([(0, 0), (0, side), (side, side), (side, 0)]):
            (pen.lineTo if number else pen.moveTo)(corner)
        pen.closePath()
        return pen.glyph()

    names = {letter: f"u{ord(letter):04X}" for letter in CHAIR + LETTERS}
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(letter): name for letter, name in names.items()})
    builder.setupGlyf({".notdef": square(300)} | {name: square(700) for name in names.values()})
    builder.setupHorizontalMetrics({name: (800, 0) for name in [".notdef", *names.values()]})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Chairs", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "chairs.ttf"
    builder.save(path)
    monkeypatch.setattr(fonts, "_font_files", lambda: [str(tmp_path / "none.ttf"), str(path)])
    return path


def test_latin_letters_are_pillows_and_lose_their_accents():
    assert drawable("a  wörd\n", 14)[0::2] == ("a word", frozenset())


def test_a_font_of_the_system_draws_what_pillows_lacks(chinese):
    words = drawable(f"{CHAIR} chair", 14)
    assert words.text == f"{CHAIR} chair" and not words.missing and words.font.path == str(chinese)
    sheet = Image.new("L", (99, 30), 255)
    ImageDraw.Draw(sheet).text((0, 0), words.text, 0, words.font)
    assert sheet.getextrema()[0] == 0


def test_what_that_font_lacks_is_a_code_point(chinese):
    words = drawable(f"{CHAIR} 😀", 14)
    assert words.text == f"{CHAIR} [U+1F600]" and words.missing == {"😀"}


def test_a_font_without_the_latin_letters_of_the_text_is_not_taken(chinese):
    words = drawable(f"{CHAIR} lamp", 14)
    assert words.text == "[U+6905][U+5B50] lamp" and words.missing == set(CHAIR)


@pytest.mark.parametrize(("text", "said"), [("가", "[U+AC00]"), ("が", "[U+304C]"), ("😀\ufe0f x", "[U+1F600] x")])
def test_without_a_font_letters_are_code_points(text, said, monkeypatch):
    monkeypatch.setattr(fonts, "_font_files", lambda: [])
    assert drawable(text, 14).text == said


def test_fonts_of_boxes_and_formulas_are_never_taken():
    pytest.importorskip("matplotlib")
    assert not [file for file in fonts._font_files() if "LastResort" in file or "cmsy10" in file]


def test_matplotlib_gets_its_own_font_first_and_others_for_what_that_lacks(monkeypatch):
    from matplotlib.font_manager import fontManager

    own, other = (next(font.fname for font in fontManager.ttflist if font.name == name) for name in
                  ("DejaVu Sans", "STIXGeneral"))  # fmt: skip
    known = {own: set("abc"), other: set("cd")}
    monkeypatch.setattr(fonts, "_font_files", lambda: [other, own])
    monkeypatch.setattr(fonts, "_letters_of", lambda path: known[path].__contains__)
    assert fonts.families("a bc") == (["DejaVu Sans"], frozenset())
    assert fonts.families("abcd?") == (["DejaVu Sans", "STIXGeneral"], {"?"})
