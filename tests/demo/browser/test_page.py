"""The page as a whole: languages, a phone, privacy, and its end."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.conftest import ROOT, SAMPLES
from tests.demo.browser.conftest import COMMAND, Server, shot

TABS = {"en": ["Search", "Classify", "Convert", "Explore"], "zh": ["搜索", "分类", "转换", "浏览"]}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("language", TABS)
def test_the_page_speaks_both_languages(language, open_page):
    page = open_page(f"/{language}/")
    assert page.get_by_role("tab").all_inner_texts() == TABS[language]
    assert page.evaluate("document.documentElement.lang") == language
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == ["English", "中文"]


@pytest.mark.parametrize(("locale", "language"), [("zh-CN", "zh"), ("en-GB", "en"), ("fr-FR", "en")])
def test_the_browser_chooses_the_language_and_a_link_the_other(locale, language, open_page):
    page = open_page("/", locale=locale)
    assert page.get_by_role("tab").first.inner_text() == TABS[language][0]
    page.get_by_role("link", name="中文" if language == "en" else "English").click()
    other = {"en": "zh", "zh": "en"}[language]
    page.get_by_role("tab", name=TABS[other][0]).wait_for()


def test_it_is_used_in_chinese(open_page):
    page = open_page("/zh/")
    page.get_by_label("您要找什么").fill("a red lamp")
    page.get_by_role("button", name="搜索").click()
    page.get_by_role("heading", name="的搜索结果").wait_for()
    page.get_by_role("region", name="深度图").first.wait_for()
    page.wait_for_function("document.querySelector('.hfe-cards img').naturalWidth > 0")
    shot(page, "chinese")


@pytest.mark.parametrize("language", TABS)
@pytest.mark.parametrize("number", range(4))
def test_nothing_is_wider_than_a_phone(number, language, open_page):
    page = open_page(f"/{language}/", **PHONE)
    if number:
        tab = page.get_by_role("tab", name=TABS[language][number])
        if not tab.is_visible():  # the last ones are in a menu
            page.locator(".overflow-menu button").first.click()
            tab = page.get_by_text(TABS[language][number], exact=True).last
        tab.click()
    else:
        page.get_by_role("textbox").first.fill("a red lamp")
        page.keyboard.press("Enter")
        page.locator(".hfe-cards img").first.wait_for()
    if number == 3:
        page.locator("circle[data-row]").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shot(page, f"phone_{language}_{number}")


def test_as_a_space_it_shows_what_lies_beside_it_and_says_that_files_leave(tmp_path):
    shutil.copytree(ROOT / "space", tmp_path / "space")
    (tmp_path / "space" / "samples").symlink_to(SAMPLES)
    (tmp_path / "temporary").mkdir()
    app = (str(tmp_path / "space" / "app.py"),)
    server = Server(
        tmp_path / "temporary", command=app, SPACE_ID="org/name", GRADIO_SERVER_PORT="0", DATA="samples/photos"
    )
    page = urllib.request.urlopen(server.address.replace("0.0.0.0", "127.0.0.1") + "/en/").read().decode()
    server.stop()
    assert "Hugging Face Space" in page and "stay on this machine" not in page


def test_a_port_that_is_taken_is_said_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [*COMMAND[:-1], str(taken.getsockname()[1])]
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot be listened on (Address already in use); --port 0 takes any that is free" in done.stderr


def test_what_was_sent_is_removed_after_a_while(tmp_path):
    quickly = "import hf_encoders.demo.page as page; page._LOOK = page._KEEP = 1"
    code = f"import sys; {quickly}; from hf_encoders.commands.main import main; main()"
    server = Server(tmp_path, "--data", "samples/photos", command=("-c", code, *COMMAND[2:]))
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="mine.txt"\r\n\r\nmine\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    urllib.request.urlopen(urllib.request.Request(f"{server.address}/en/gradio_api/upload", body, kind))
    while list(tmp_path.glob("*/sent/*/mine.txt")):  # what never ends is ended by the test's timeout
        time.sleep(0.1)
    server.stop()


def test_it_says_where_files_go(open_page):
    assert open_page().get_by_text("Your files stay on this machine").count() == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_its_end_is_one_line_and_leaves_nothing(how, tmp_path):
    server = Server(tmp_path, "--data", "samples/photos")
    assert urllib.request.urlopen(server.address + "/en/").status == 200
    assert server.address.startswith("http://127.0.0.1:")
    said, status = server.stop(how)
    assert status == (130 if how == signal.SIGINT else 143)
    assert "the page is closed, and what was sent to it is removed" in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())
