"""The pictures of an evaluation that a repo holds, as `hf-encoders evaluate --figures REPO/figures` draws them."""

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from ..models.input_errors import InputError, reason
from .card_metrics import split_place

FIGURES_FOLDER = "figures"
# By what pictures are sorted.
_Place: TypeAlias = tuple[str, str, tuple[int, str], str]
# How the names of their data begin, by what they show.
FIGURE_KINDS = ("confusion", "recall", "retrieval", "similarity")


@dataclass(frozen=True)
class Figure:
    """A picture, as a card shows it.

    Args:
        file: in the repo, with "/".
        title: in words, with the data that it is of.
        fingerprint: of the model that was measured.
        path: its data, a file beside it.
    """

    file: str
    title: str
    fingerprint: str
    path: Path

    @property
    def source(self) -> str:
        """What a message calls it."""
        return str(self.path)


def read_figures(repo: Path) -> list[Figure]:
    """The pictures in a repo that have their data beside them, data set by data set; others are left alone.

    Raises:
        InputError: if the data cannot be read.
    """
    figures: list[tuple[_Place, Figure]] = []
    for path in (path for kind in FIGURE_KINDS for path in (repo / FIGURES_FOLDER).glob(f"{kind}-*.json")):
        picture = path.with_suffix(".png")
        if not picture.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            title, fingerprint = str(content["title"]), str(content["fingerprint"])
            place = path.name.partition("-")[0], str(content["dataset"]), split_place(str(content["split"])), path.name
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "draw it with hf-encoders evaluate --figures"
            raise InputError(path=path, reason=f"no data of a picture ({reason(error)})", hint=hint) from None
        figures.append((place, Figure(f"{FIGURES_FOLDER}/{picture.name}", title, fingerprint, path)))
    return [figure for _, figure in sorted(figures, key=itemgetter(0))]
