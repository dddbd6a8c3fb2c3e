"""Each page of docs/ does what it prints: commands, code and what comes out. `printed_pages.py` says what is run."""

import re

import pytest
import yaml

from hf_encoders.commands.convert import _LAYOUTS
from hf_encoders.commands.main import COMMANDS
from hf_encoders.models.depth_units import PRESETS
from tests.conftest import ROOT
from tests.helpers.printed_pages import blocks, link_clone, run_page

DOCS = ROOT / "docs"
FILES = sorted([*DOCS.glob("*.md"), *DOCS.glob("api/*.md")])
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
RUN = {name for name, page in PAGES.items() if any(block.language in ("sh", "python") for block in blocks(page))}
# They train, calibrate, compile, or start processes.
SLOW = {"encoders.md", "evaluation.md", "exports.md", "faster.md", "recipe.md", "scale.md", "zero_shot.md"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(RUN)]
)
def test_a_page_runs_as_printed(name, tmp_path, monkeypatch, hub, hub_client, first_run):
    link_clone(tmp_path)
    monkeypatch.chdir(tmp_path)
    run_page(PAGES[name], tmp_path)


def cells(page, heading):
    """The first cells of a table, by the heading of its first column."""
    rows = PAGES[page].partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1] for row in rows]


def test_every_layout_has_a_row():
    table = PAGES["convert.md"].partition("| your file |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)` \|$", table, re.MULTILINE)) - {"--layout"}
    assert named == set(_LAYOUTS) - {"auto"}


def test_every_preset_has_a_row_with_its_unit_and_range():
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d/]+) \| ([\d.]+) to ([\d.]+) \|", PAGES["depth_maps.md"], re.MULTILINE)
    shown = {name: (unit, float(low), float(high)) for name, unit, low, high in rows}
    assert shown.keys() == PRESETS.keys()
    for name, (unit, low, high) in shown.items():
        above, _, below = unit.partition("/")
        assert PRESETS[name]["unit_scale"] == int(above) / int(below or 1)
        assert PRESETS[name]["value_range"] == [low, high]


def test_every_recipe_has_a_row():
    named = {name for cell in cells("recipe.md", "recipe") for name in re.findall(r"`(\w+)`", cell)}
    assert named == {path.stem for path in (ROOT / "hf_encoders/training/recipes").glob("*.yaml")}


def test_every_line_of_the_recipe_is_explained():
    (recipe,) = [yaml.safe_load(block.text) for block in blocks(PAGES["recipe.md"]) if block.language == "yaml"]
    explained = {name for cell in cells("recipe.md", "line") for name in re.findall(r"`(\w+)`", cell)}
    assert set(recipe) == explained


def test_every_page_is_in_the_navigation_of_the_site():
    listed = set()
    for index in ("index.md", "api/index.md"):
        folder = index.rpartition("/")[0]
        for tree in re.findall(r"^```{toctree}\n(.*?)^```$", PAGES[index], re.MULTILINE | re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {f"{folder}/{name}" if folder else name for name in names}
    pages = {path.removesuffix(".md") for path in PAGES}
    notebooks = {f"notebooks/{path.stem}" for path in (DOCS / "notebooks").glob("*.ipynb")}
    assert listed | {"index"} == pages | notebooks


def test_every_link_leads_to_a_file():
    for name, page in PAGES.items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", page):
            if "://" not in target:
                assert (DOCS / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_every_command_is_on_some_page():
    named = set(re.findall(r"hf-encoders ([\w-]+)", "".join(PAGES.values())))
    assert set(COMMANDS) - {"completion"} <= named
