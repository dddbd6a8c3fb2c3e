"""The tab Search, used as a person does."""

import re

import numpy as np
import pytest

from tests.conftest import SAMPLES
from tests.demo.browser.conftest import has_kind, panel, shot

LAMP, MAP = SAMPLES / "photos" / "red_lamp.jpg", SAMPLES / "maps" / "red_lamp.png"


def cards(page, name):
    return panel(page).get_by_role("region", name=name).locator("li")


def search(page, words="a red lamp"):
    page.get_by_label("What are you looking for?").fill(words)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=re.compile("Results for")).wait_for()


def has_loaded(page):
    page.wait_for_function("[...document.querySelectorAll('.hfe-cards img')].every((one) => one.loading === 'lazy')")
    page.locator(".hfe-cards img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.hfe-cards img').naturalWidth > 0")


def test_words_find_images_and_depth_maps_with_scores(open_page):
    page = open_page()
    search(page)
    assert cards(page, "images").count() == cards(page, "depth maps").count() == 8
    scores = [float(text) for text in cards(page, "images").locator(".hfe-score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and all(-1 <= score <= 1 for score in scores)
    metres = cards(page, "depth maps").locator(".hfe-metres").all_inner_texts()
    assert len(metres) == 8 and all(re.fullmatch(r"\d+\.\d to \d+\.\d m", text) for text in metres)
    assert cards(page, "images").locator(".hfe-metres").count() == 0
    has_loaded(page)
    shot(page, "search_words")


def test_a_label_filters_and_one_kind_is_enough(open_page):
    page = open_page()
    search(page)
    page.get_by_label("Only these labels").click()
    page.get_by_role("option", name="lights").click()
    page.keyboard.press("Escape")
    page.wait_for_function(
        "[...document.querySelectorAll('.hfe-cards .hfe-label')].every((one) => one.innerText === 'lights')"
    )
    page.get_by_label("depth maps").first.uncheck()
    cards(page, "depth maps").first.wait_for(state="detached")
    assert cards(page, "images").count() > 0
    shot(page, "search_label")


@pytest.mark.parametrize(("file", "kind"), [(LAMP, "image"), (MAP, "depth map")])
def test_a_file_is_searched_by_and_removed(file, kind, open_page, server):
    page = open_page()
    panel(page).locator("input[type=file]").set_input_files(file)
    page.get_by_role("heading", name=f"Most like “{file.name}”").wait_for()
    assert has_kind(page.locator(".hfe-query p"), kind)
    assert cards(page, "images").count() == 8
    assert not server.working(".jpg", ".png", ".npy", ".exr")
    shot(page, f"search_{kind.replace(' ', '_')}")


def test_a_file_is_read_as_a_person_says(open_page):
    page = open_page()
    panel(page).get_by_role("radio", name="image", exact=True).check()
    panel(page).locator("input[type=file]").set_input_files(MAP)
    page.locator(".hfe-query p").wait_for()
    assert has_kind(page.locator(".hfe-query p"), "image")


def test_a_card_finds_what_is_like_it(open_page):
    page = open_page()
    search(page)
    card = cards(page, "depth maps").nth(1)
    caption = card.locator(".hfe-caption").inner_text()
    card.get_by_role("button").click()
    page.get_by_role("heading", name=f"Most like “{caption}”").wait_for()
    assert float(cards(page, "depth maps").first.locator(".hfe-score").inner_text()) == pytest.approx(1, abs=2e-3)


def test_by_keyboard_alone(open_page):
    page = open_page()
    box = page.get_by_label("What are you looking for?")
    for _ in range(20):
        page.keyboard.press("Tab")
        if box.evaluate("(one) => one === document.activeElement"):
            break
    page.keyboard.type("a blue chair")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Results for “a blue chair”").wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('button[data-row]')"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=re.compile("Most like")).wait_for()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.png", b"no picture at all", "notes.png"),
        ("<img src=x onerror=alert(1)>.jpg", b"", "jpg"),
        ("depth.npy", b"\x93NUMPY broken", "depth.npy"),
        ("empty.exr", b"", "empty.exr"),
    ],
)
def test_a_bad_file_is_a_message_and_the_server_goes_on(name, content, says, open_page, server, tmp_path):
    page = open_page()
    files = panel(page).locator("input[type=file]")
    files.set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})
    alert = page.get_by_role("alert").filter(has_text="That did not work")
    alert.wait_for()
    assert says in alert.inner_text() and str(server.folder) not in alert.inner_text()
    assert not server.working(".jpg", ".png", ".npy", ".exr")
    search(page)
    assert cards(page, "images").count() == 8


def test_a_depth_map_of_numbers_is_read(open_page, tmp_path):
    np.save(tmp_path / "wall.npy", np.linspace(1, 4, 64 * 64, dtype=np.float32).reshape(64, 64) * 1000)
    page = open_page()
    panel(page).locator("input[type=file]").set_input_files(tmp_path / "wall.npy")
    page.locator(".hfe-query p").wait_for()
    assert has_kind(page.locator(".hfe-query p"), "depth map")


def test_words_that_the_model_does_not_know_are_named(open_page):
    page = open_page()
    search(page, "a 沙发")
    page.get_by_text(re.compile("knows none of the words")).wait_for()
    page.get_by_label("What are you looking for?").fill("   ")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="Type some words").wait_for()
