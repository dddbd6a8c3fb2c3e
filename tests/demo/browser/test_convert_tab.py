"""The tab Convert, used as a person does."""

import json
import os
import shutil
import zipfile

import pytest
import torch
from transformers import AutoModel

from tests.conftest import SAMPLES, SMALL_CHECKPOINT
from tests.demo.browser.conftest import panel, shot

DINO = SAMPLES / "foreign" / "dino_vit_rooms.pth"


class Touch:
    """A pickle that would write a file, were it loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def tab(open_page):
    page = open_page()
    page.get_by_role("tab", name="Convert").click()
    return panel(page)


def send(tab, file):
    tab.locator("input[type=file]").set_input_files(file)
    return tab


def test_a_legacy_checkpoint_becomes_a_repo_that_loads(tab, server, tmp_path):
    send(tab, SMALL_CHECKPOINT).get_by_role("heading", name=f"What is in {SMALL_CHECKPOINT.name}").wait_for()
    assert "depth-autoencoder" in tab.locator(".hfe-table").inner_text()
    shot(tab.page, "convert_inspected")
    tab.get_by_role("button", name="Convert to a repo").click()
    link = tab.get_by_role("link", name="Download depth_autoencoder_small-hf.zip")
    link.wait_for()
    parity = tab.locator(".hfe-table").last.inner_text()
    assert "embeddings" in parity and "relative" in parity and "1e-04" in parity
    assert tab.get_by_role("heading", name="verified").count() == 1
    shot(tab.page, "convert_report")
    with tab.page.expect_download() as started:
        link.click()
    started.value.save_as(tmp_path / "repo.zip")
    zipfile.ZipFile(tmp_path / "repo.zip").extractall(tmp_path)
    repo = tmp_path / "depth_autoencoder_small-hf"
    AutoModel.from_pretrained(repo)
    tab.get_by_text("The whole report").click()
    shown = json.loads(tab.locator("details pre").inner_text())
    assert shown == json.loads((repo / "conversion_report.json").read_text())
    assert str(server.folder) not in tab.inner_text()


def test_one_of_several_weights_is_taken(tab):
    send(tab, DINO).get_by_label("Weights to take").click()
    tab.page.get_by_role("option", name="student.module.backbone", exact=True).click()
    tab.get_by_role("button", name="Convert to a repo").click()
    tab.get_by_role("link", name="Download").wait_for()
    assert "student" in tab.locator(".hfe-list").last.inner_text()
    shot(tab.page, "convert_several")


def test_an_unsafe_pickle_shows_its_classes_and_nothing_ran(tab, tmp_path):
    weights = {"fc.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}
    torch.save({"model": weights, "hook": Touch(tmp_path / "ran")}, tmp_path / "unsafe.pth")
    send(tab, tmp_path / "unsafe.pth").get_by_text("Nothing in the file was executed").wait_for()
    assert f"{os.system.__module__}.system" in tab.locator(".hfe-list").first.inner_text()
    shot(tab.page, "convert_unsafe")
    tab.get_by_role("button", name="Convert to a repo").click()
    tab.get_by_role("alert").filter(has_text="unsafe.pth").wait_for()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken", b"\x80\x04broken"])
def test_a_file_that_is_no_checkpoint_is_a_message_and_is_removed(content, tab, server):
    tab.locator("input[type=file]").set_input_files(
        {"name": "broken.pth", "mimeType": "application/octet-stream", "buffer": content}
    )
    alert = tab.get_by_role("alert").filter(has_text="broken.pth")
    alert.wait_for()
    assert str(server.folder) not in alert.inner_text()
    assert tab.get_by_role("button", name="Convert to a repo").is_disabled()
    assert not server.working("broken.pth")


def test_a_file_that_is_taken_back_is_removed(tab, server, tmp_path):
    shutil.copy(SMALL_CHECKPOINT, tmp_path / "mine.pth")
    send(tab, tmp_path / "mine.pth").get_by_role("heading", name="What is in mine.pth").wait_for()
    assert server.working("mine.pth")
    tab.get_by_label("Clear").first.click()
    tab.get_by_role("heading", name="What is in").wait_for(state="detached")
    assert not server.working("mine.pth")


def test_a_file_that_is_too_large_is_refused_before_it_is_kept(open_page, server):
    page = open_page(expected=("413", "maximum allowed size"))
    page.get_by_role("tab", name="Convert").click()
    tab = panel(page)
    tab.locator("input[type=file]").set_input_files(
        {"name": "large.pth", "mimeType": "application/octet-stream", "buffer": bytes(21_000_000)}
    )
    page.get_by_text("maximum").first.wait_for()
    shot(page, "convert_too_large")
    assert not [path for path in server.folder.rglob("*") if path.is_file() and path.stat().st_size > 20_000_000]
    send(tab, SMALL_CHECKPOINT).get_by_role("heading", name="What is in").wait_for()
