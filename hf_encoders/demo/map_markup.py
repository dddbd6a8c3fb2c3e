"""The map of a collection as SVG: a point for each scene, coloured by its label."""

from importlib.resources import files

from .markup import element, text
from .opening import Part
from .words import Words

# Points and what they do; it needs no other file.
MAP_JS = files(__package__).joinpath("assets", "map.js").read_text(encoding="utf-8")
_SIDE, _MARGIN, _RADIUS = 1000, 20, 8
_CAPTION = 120  # letters


def map_markup(part: Part, words: Words, pictures: str) -> str:
    """The map, its legend, and the picture that is shown for a point.

    Args:
        part: the rows.
        words: the language.
        pictures: the folder of addresses of their pictures.
    """
    numbers, places = part.places()
    labels = sorted({part.labels[number] for number in numbers})
    colours = {label: _colour(index, len(labels)) for index, label in enumerate(labels)}
    modality = words.modalities[part.modality]
    points = [
        _point(part, number, float(x), float(y), colours[part.labels[number]], first=index == 0)
        for index, (number, (x, y)) in enumerate(zip(numbers, places, strict=True))
    ]
    name = words.map_name.format(count=len(numbers), modality=modality)
    drawing = element(
        "svg",
        "".join(points),
        viewBox=f"0 0 {_SIDE} {_SIDE}",
        role="group",
        aria_label=name,
        data_modality=part.modality,
        data_pictures=pictures if part.modality != "text" else None,
    )
    tip = element("div", '<img alt="" hidden><span></span>', class_="hfe-tip", hidden=True, aria_hidden="true")
    some = len(part.embeddings) > len(numbers)
    shown = text("p", words.some_points.format(shown=len(numbers), all=len(part.embeddings))) if some else ""
    return (
        text("p", words.map_hint, class_="hfe-note")
        + shown
        + element("div", drawing + tip, class_="hfe-map")
        + _legend(colours)
    )


def _legend(colours: dict[str, str]) -> str:
    if list(colours) == [""]:
        return ""
    entries = (
        element("li", element("span", style=f"background: {colour}") + text("span", label or "–"))
        for label, colour in colours.items()
    )
    return element("ul", "".join(entries), class_="hfe-legend")


def _point(part: Part, number: int, x: float, y: float, colour: str, first: bool) -> str:
    caption, label = part.caption(number)[:_CAPTION], part.labels[number]
    return element(
        "circle",
        cx=f"{_MARGIN + x * (_SIDE - 2 * _MARGIN):.0f}",
        cy=f"{_MARGIN + (1 - y) * (_SIDE - 2 * _MARGIN):.0f}",
        r=_RADIUS,
        fill=colour,
        role="button",
        tabindex=0 if first else -1,  # Tab enters the map once, arrows walk in it
        data_row=number,
        aria_label=f"{caption} · {label}" if label else caption,
    )


def _colour(index: int, count: int) -> str:
    """One of so many colours: around the circle of hues, and in turn dark and light."""
    return f"hsl({360 * index // max(count, 1)} 70% {(38, 55)[index % 2]}%)"
