"""Reads the curves of a training run from TensorBoard logs, and draws them with matplotlib."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..outputs import new_file

Curves = Mapping[str, Sequence[tuple[int, float]]]
_COLUMNS = 3
# The names of scalars whose curves share a panel: losses, and recalls at one k.
_LOSS = re.compile(r"(?:(?P<split>[^/]+)/)?(?P<measured>validation_)?loss")
_RECALL = re.compile(r"(?:(?P<split>[^/]+)/)?retrieval/(?P<query>\w+?)_to_(?P<found>\w+?)_(?P<measure>recall@\d+)")


def draw_curves(path: Path, curves: Curves) -> bool:
    """Draw losses into a panel, recalls at each k into one, and each other curve into one of its own, and write a PNG.

    Args:
        path: the picture; an existing one is replaced.
        curves: name → pairs of step and value.

    Returns:
        Whether a picture was drawn: none is without matplotlib or without values.
    """
    curves = {name: pairs for name, pairs in curves.items() if len(pairs)}
    if not curves:
        return False
    try:
        from matplotlib.figure import Figure  # pyplot would touch the caller's settings
    except ImportError:
        return False

    shared = panels(curves)
    columns = 2 if len(shared) == 4 else min(_COLUMNS, len(shared))
    rows = -(-len(shared) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for place, (name, lines) in enumerate(shared.items(), start=1):
        panel = figure.add_subplot(rows, columns, place)
        for label, pairs in lines.items():
            marker = "." if len(pairs) < 50 else ""
            panel.plot(*zip(*pairs, strict=True), linewidth=1.2, marker=marker, label=label)
        if len(lines) > 1:
            panel.legend(fontsize=7)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    with new_file(path, overwrite=True) as partial:
        figure.savefig(partial, dpi=100, format="png")
    return True


def panels(curves: Curves) -> Mapping[str, Curves]:
    """Put the curves that are compared into one panel.

    Args:
        curves: name → pairs of step and value.

    Returns:
        Title of a panel → label of a line → its pairs.
    """
    shared: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for name, pairs in curves.items():
        if loss := _LOSS.fullmatch(name):
            title, label = "loss", "validation" if loss["measured"] else "training"
            split = loss["split"]
        elif recall := _RECALL.fullmatch(name):
            title, label = recall["measure"], f"{recall['query']} → {recall['found']}"
            split = recall["split"]
        else:
            title, label, split = name, name, None
        shared.setdefault(title, {})[f"{label}, {split}" if split else label] = pairs
    return shared


def read_curves(logs: Path, names: Sequence[str]) -> Curves:
    """Read curves from the TensorBoard logs below a folder, in the order of the steps.

    A resumed run has several logs, and some steps twice: the value that was written last counts.

    Args:
        logs: the folder.
        names: names of the scalars; a scalar that was not logged is left out.

    Returns:
        Name → pairs of step and value; nothing without tensorboard.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return {}

    found = []
    for file in logs.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        logged = set(events.Tags()["scalars"])
        for name in logged.intersection(names):
            found += [(event.wall_time, name, event) for event in events.Scalars(name)]
    curves: dict[str, dict[int, float]] = {name: {} for name in names}
    for _, name, event in sorted(found, key=lambda entry: entry[0]):
        curves[name][event.step] = event.value
    return {name: sorted(curve.items()) for name, curve in curves.items() if curve}
