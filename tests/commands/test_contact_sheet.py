"""A contact sheet shows every tile whole, whatever the pictures and the words are."""

import numpy as np
import PIL.Image
import pytest
from PIL import ImageFont

from hf_encoders.commands.contact_sheet import MAX_TILES, Section, Tile, cut, draw, wrap
from hf_encoders.commands.figures import fonts


def tile(colour="red", size=(40, 30), **options):
    return Tile(PIL.Image.new("RGB", size, colour), "image", "1 · 0.5", ("a caption",), **options)


def has_colour(sheet, colour):
    return (np.asarray(sheet) == colour).all(-1).any()


def test_tiles_take_as_many_lines_as_they_need():
    one, two, long = (draw([Section("", [tile()] * count)]) for count in (1, 2, 7))
    assert one.mode == "RGB"
    assert one.width < two.width < long.width
    assert one.height == two.height < long.height
    assert draw([Section("a red lamp", [tile()])]).height > one.height
    assert draw([]).size[0] > 0


def test_pictures_are_drawn_under_their_sections():
    sheet = draw([Section("first", [tile("red")]), Section("second", [tile("blue", size=(1, 900))])])
    half = sheet.height // 2
    upper, lower = sheet.crop((0, 0, sheet.width, half)), sheet.crop((0, half, sheet.width, sheet.height))
    assert has_colour(upper, (255, 0, 0)) and not has_colour(upper, (0, 0, 255))
    assert has_colour(lower, (0, 0, 255)) and not has_colour(lower, (255, 0, 0))


def test_a_query_has_a_frame():
    accent = (9, 105, 218)
    assert has_colour(draw([Section("", [tile(is_query=True)])]), accent)
    assert not has_colour(draw([Section("", [tile()])]), accent)


def test_what_is_right_has_a_green_frame():
    green = (26, 127, 55)
    assert has_colour(draw([Section("", [tile(is_right=True)])]), green)
    assert not has_colour(draw([Section("", [tile()])]), green)


def test_lines_below_a_title_are_broken_and_not_cut():
    one, none = draw([Section("title", [tile()], ["short"])]), draw([Section("title", [tile()])])
    many = draw([Section("title", [tile()], ["many words " * 12])])
    assert none.height < one.height < many.height and none.width == many.width


def test_tiles_have_room_for_as_many_lines_as_asked():
    long = Tile(PIL.Image.new("RGB", (9, 9)), "image", "heading", ["line"] * 9)
    two, five = draw([Section("", [long])]), draw([Section("", [long])], tile_lines=5)
    assert five.height - two.height == 3 * 20


def test_files_are_read(tmp_path):
    np.save(tmp_path / "map.npy", np.linspace(1, 2, 64).reshape(8, 8))
    PIL.Image.new("RGB", (9, 9), "lime").save(tmp_path / "image.png")
    tiles = [Tile(str(tmp_path / "map.npy"), "depth", "map"), Tile(tmp_path / "image.png", "image", "image")]
    assert has_colour(draw([Section("", tiles)]), (0, 255, 0))


@pytest.mark.parametrize("text", ["", "wörd " * 99, "x" * 5000, "日本語\n\ttext", "b\udcffd.png"])
def test_any_words_can_be_drawn(text):
    draw([Section(text, [Tile(PIL.Image.new("L", (5, 5)), "image", text, wrap(text, 2))])])


def test_long_words_are_cut():
    font = ImageFont.load_default(14)
    assert cut("short", font, 100) == "short"
    text = cut("a very long caption that has no end", font, 100)
    assert text.startswith("a very") and text.endswith("…")
    assert font.getlength(text) <= 100
    first, second = wrap("a red outdoor lamp in front of a blue speaker", 2)
    assert f"{first} {second}" == "a red outdoor lamp in front of a blue speaker"
    assert font.getlength(first) <= 192


def test_letters_that_no_font_has_are_code_points_and_one_warning(monkeypatch, capsys):
    monkeypatch.setattr(fonts, "_font_files", lambda: [])
    pictures = [Tile(PIL.Image.new("L", (5, 5)), "image", name, ["椅"]) for name in ("椅子.png", "chair.png")]
    draw([Section("椅", pictures)])
    err = capsys.readouterr().err
    assert err.count("warning: ") == 1 and "no font here has 子 椅: drawn as code points such as [U+6905]" in err
    draw([Section("chair wörd", [tile()])])
    assert capsys.readouterr().err == ""


def test_a_sheet_too_large_is_refused():
    with pytest.raises(ValueError, match="501 pictures, a contact sheet holds 500 at most; write .jsonl"):
        draw([Section("", [tile()] * (MAX_TILES + 1))])
