"""Links such as `../README.md`, which GitHub follows, lead to GitHub from the site."""

import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent.parent
REPOSITORY = "https://github.com/hf-encoders/hf-encoders"
_TARGET = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def outside(page: Path, target: str) -> str:
    """The address on GitHub of a link that leaves docs/; any other link as it is."""
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve()
    if not path or "://" in path or DOCS in place.parents or not place.exists():
        return target  # Sphinx warns of what is not there
    kind = "tree" if place.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{place.relative_to(DOCS.parent)}" + (anchor and f"#{anchor}")


def _point(app: Sphinx, name: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    content[0] = _TARGET.sub(lambda found: outside(page, found[1]), content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _point)
    return {"parallel_read_safe": True}
