"""The tab Classify, used as a person does."""

import pytest

from tests.conftest import SAMPLES
from tests.demo.browser.conftest import has_kind, panel, shot

CHAIR, MAP = SAMPLES / "photos" / "blue_chair.jpg", SAMPLES / "maps" / "blue_chair.png"


@pytest.fixture
def tab(open_page):
    page = open_page()
    page.get_by_role("tab", name="Classify").click()
    return panel(page)


def labels_of(tab):
    return tab.locator(".hfe-scores th[scope=row]").all_inner_texts()


@pytest.mark.parametrize(("file", "kind"), [(CHAIR, "image"), (MAP, "depth map")])
def test_labels_get_probabilities(file, kind, tab, server):
    tab.get_by_label("Labels, with commas").fill("chair, lamp，guitar; table")
    tab.locator("input[type=file]").set_input_files(file)
    tab.locator(".hfe-scores").wait_for()
    assert sorted(labels_of(tab)) == ["chair", "guitar", "lamp", "table"]
    shares = [float(text.removesuffix(" %")) for text in tab.locator(".hfe-probability").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.3) and shares == sorted(shares, reverse=True)
    assert has_kind(tab.locator(".hfe-query p"), kind)
    assert not server.working(".jpg", ".png", ".npy", ".exr")
    shot(tab.page, f"classify_{kind.replace(' ', '_')}")


def test_other_labels_for_the_same_picture(tab):
    tab.get_by_role("button", name="Take a scene").click()
    tab.locator(".hfe-scores").wait_for()
    tab.get_by_label("Labels, with commas").fill("sofa, bed")
    tab.get_by_role("button", name="Classify").click()
    tab.locator(".hfe-scores th", has_text="sofa").wait_for()
    assert sorted(labels_of(tab)) == ["bed", "sofa"]


@pytest.mark.parametrize("file", [CHAIR, MAP])
def test_a_picture_that_is_none_of_the_labels(file, tab):
    tab.get_by_label("Labels, with commas").fill("guitar, toilet, lamp")
    tab.locator("input[type=file]").set_input_files(file)
    tab.get_by_role("status").filter(has_text="Probably none of these").wait_for()
    assert tab.locator(".hfe-scores tbody tr").count() == 3
    shot(tab.page, f"classify_none_{file.suffix[1:]}")
    tab.get_by_label("Labels, with commas").fill("guitar, toilet, lamp, chair")
    tab.get_by_role("button", name="Classify").click()
    tab.locator(".hfe-scores th", has_text="chair").wait_for()
    assert labels_of(tab)[0] == "chair" and "none of these" not in tab.inner_text()


def test_scenes_follow_each_other(tab):
    tab.get_by_role("button", name="Take a scene").click()
    tab.locator(".hfe-query p", has_text="image").wait_for()
    tab.get_by_role("button", name="Take a scene").click()
    tab.locator(".hfe-query p", has_text="depth map").wait_for()


@pytest.mark.parametrize(
    ("labels", "says"), [(" , ", "Type at least one label"), ("沙发, 椅子", "knows no token of the labels")]
)
def test_labels_that_are_none_are_said(labels, says, tab):
    tab.get_by_label("Labels, with commas").fill(labels)
    tab.get_by_role("button", name="Take a scene").click()
    tab.get_by_role("alert").filter(has_text=says).wait_for()


def test_a_label_is_text_and_no_markup(tab):
    tab.get_by_label("Labels, with commas").fill("<b>chair</b>, lamp")
    tab.get_by_role("button", name="Take a scene").click()
    tab.locator(".hfe-scores").wait_for()
    assert "<b>chair</b>" in labels_of(tab)


def test_a_bad_file_is_a_message(tab, server):
    tab.locator("input[type=file]").set_input_files(
        {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    )
    tab.get_by_role("alert").filter(has_text="notes.jpg").wait_for()
    assert not server.working(".jpg", ".png", ".npy", ".exr")
