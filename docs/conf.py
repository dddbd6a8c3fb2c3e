"""Sphinx's settings: `make docs` builds the site from the pages here, which GitHub shows as they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from repository_links import REPOSITORY  # noqa: E402 - found by the line above

from hf_encoders import __version__  # noqa: E402

project, author, release = "hf_encoders", "the hf_encoders authors", __version__
copyright = author  # noqa: A001 - Sphinx reads this name

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_help",
    "markdown_docstrings",
    "repository_links",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # what a terminal shows is no program

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

# A notebook that fails ends the build. A slow machine is given its time.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = -1
nb_merge_streams = True

html_theme = "furo"
html_title = f"hf_encoders {release}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
