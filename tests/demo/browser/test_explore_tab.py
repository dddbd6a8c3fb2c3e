"""The tab Explore, used as a person does."""

import re

import pytest

from tests.demo.browser.conftest import panel, shot


@pytest.fixture
def tab(open_page):
    page = open_page()
    page.get_by_role("tab", name="Explore").click()
    tab = panel(page)
    tab.locator("circle[data-row]").first.wait_for()
    return tab


def test_every_scene_is_a_point_coloured_by_its_label(tab):
    points = tab.locator("circle[data-row]")
    assert points.count() == 200
    legend = dict(zip(*[[one for one in tab.locator(f".hfe-legend {part}").evaluate_all(how)] for part, how in [
        ("li", "(all) => all.map((one) => one.innerText.trim())"),
        ("li span:first-child", "(all) => all.map((one) => one.style.background)"),
    ]], strict=True))  # fmt: skip
    assert len(set(legend.values())) == len(legend) > 1
    names = points.evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
    assert {name.rpartition(" · ")[2] for name in names} == set(legend)
    shot(tab.page, "explore")


def test_pointing_shows_the_scene_and_a_click_searches_by_it(tab):
    point = tab.locator("circle[data-row]").nth(7)
    name = point.get_attribute("aria-label")
    point.hover(force=True)
    tip = tab.locator(".hfe-tip")
    tip.wait_for()
    point = tab.locator(f'circle[aria-label="{tip.inner_text().strip()}"]').first  # another may lie above it
    tab.page.wait_for_function("document.querySelector('.hfe-tip img').naturalWidth > 0")
    shot(tab.page, "explore_hover")
    point.click(force=True)
    tab.get_by_role("heading", name=re.compile("Most like")).wait_for()
    assert tab.locator(".hfe-cards li").count() == 8
    assert name
    shot(tab.page, "explore_click")


def test_by_keyboard(tab):
    tab.locator('circle[tabindex="0"]').focus()
    focused = "document.activeElement.getAttribute('data-row')"
    before = tab.page.evaluate(focused)
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        tab.page.keyboard.press(key)
        if tab.page.evaluate(focused) != before:
            break
    assert tab.page.evaluate(focused) not in (before, None)
    assert tab.locator('circle[tabindex="0"]').count() == 1
    tab.locator(".hfe-tip").wait_for()
    tab.page.keyboard.press("Enter")
    tab.get_by_role("heading", name=re.compile("Most like")).wait_for()


def test_the_map_of_depth_maps_is_another_one(tab):
    tab.get_by_role("radio", name="depth maps").check()
    tab.locator('svg[data-modality="depth"]').wait_for()
    assert tab.locator("circle[data-row]").count() == 200


def test_a_found_card_leads_on(tab):
    tab.locator("circle[data-row]").first.click(force=True)
    tab.get_by_role("heading", name=re.compile("Most like")).wait_for()
    card = tab.locator(".hfe-cards button").first
    caption = card.locator(".hfe-caption").inner_text()
    card.click()
    tab.get_by_role("heading", name=f"Most like “{caption}”").wait_for()
