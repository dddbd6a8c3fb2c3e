"""The site: built without a warning, and whole without a network."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from hf_encoders.commands.main import COMMANDS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
pytest.importorskip("sphinx", reason="pip install 'hf-encoders[docs]'")
pytest.importorskip("furo", reason="pip install 'hf-encoders[docs]'")


def extension(name):
    spec = spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, with the outputs that the notebooks keep."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-D", "nb_execution_mode=off", "-b", "html"]
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_no_asset_comes_from_outside(site):
    loaded = [
        f"{name}: {tag}"
        for name, page in site.items()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", page)
    ]
    assert not loaded


@pytest.mark.slow
def test_the_reference_has_every_command_and_the_public_classes(site):
    import hf_encoders

    assert all(f'id="{name}"' in site["api/commands.html"] for name in COMMANDS)
    reference = "".join(page for name, page in site.items() if name.startswith("api/"))
    assert [name for name in hf_encoders.__all__ if f'id="hf_encoders.{name}"' not in reference] == []


@pytest.mark.slow
def test_no_page_is_overwritten_by_one_of_sphinx(site):
    titles = {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].strip("# ") for path in DOCS.glob("*.md")}
    assert [name for name, title in titles.items() if f"<h1>{title}<" not in site[f"{name}.html"]] == []


@pytest.mark.slow
def test_links_out_of_the_pages_lead_to_the_repository(site):
    assert (
        'href="https://github.com/hf-encoders/hf-encoders/blob/main/samples/README.md"' in site["training_options.html"]
    )


def test_a_link_within_the_pages_stays():
    links = extension("repository_links")
    assert links.outside(DOCS / "convert.md", "checkpoints.md#files-and-folders") == "checkpoints.md#files-and-folders"
    assert links.outside(DOCS / "convert.md", "https://lance.org") == "https://lance.org"
    assert links.outside(DOCS / "api" / "index.md", "../../samples").endswith("/tree/main/samples")
    assert links.outside(DOCS / "convert.md", "../README.md#use").endswith("/blob/main/README.md#use")


def test_a_docstring_of_markdown_becomes_restructured_text():
    lines = [
        "Takes `a` and",
        "`b, which",
        "goes on`.",
        "",
        "| name | is |",
        "|---|---|",
        "| `x` | one |",
        "",
        "```python",
    ]
    converted = extension("markdown_docstrings").converted([*lines, "y = `z`", "```"])
    assert converted[:3] == ["Takes ``a`` and", "``b, which`` ", "``goes on``."]
    assert [line.strip() for line in converted[4:12]] == [
        "", ".. list-table::", ":header-rows: 1", "", "* - name", "- is", "* - ``x``", "- one",
    ]  # fmt: skip
    assert ".. code-block:: python" in converted and "    y = `z`" in converted
