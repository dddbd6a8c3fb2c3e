"""The picture in docs/design.md: every folder of the map, each row above those that it imports."""

import re
from importlib.util import module_from_spec, spec_from_file_location

from tests.conftest import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
spec = spec_from_file_location("draw_house", ROOT / "docs" / "draw_house.py")
draw_house = module_from_spec(spec)
spec.loader.exec_module(draw_house)


def test_the_picture_is_that_of_the_map():
    assert draw_house.PICTURE.read_text(encoding="utf-8") == draw_house.draw(GUIDE), "make house"


def test_every_folder_has_a_box_with_its_words():
    picture = draw_house.draw(GUIDE)
    rows, described = draw_house.read_map(GUIDE)
    boxes = re.findall(r">(\w+)/</text>", picture)
    assert boxes == [name for row in rows for name in row] and set(boxes) == set(described)
    assert all(described.values())


def test_rows_go_downwards_from_commands_to_models():
    heights = {
        name: float(top) for top, name in re.findall(r'y="([\d.]+)" font-size="14".*>(\w+)/<', draw_house.draw(GUIDE))
    }
    assert heights["commands"] < heights["conversion"] < heights["checkpoints"] < heights["models"]
