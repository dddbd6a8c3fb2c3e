"""Curves of a training run as a picture, and as its TensorBoard logs have them. Needs matplotlib, and tensorboard."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..outputs import new_file

Curves = Mapping[str, Sequence[tuple[int, float]]]
_COLUMNS = 3


def draw_curves(path: Path, curves: Curves) -> bool:
    """Draw each curve into a panel of its own, and write a PNG.

    Args:
        path: the picture; one that is there is replaced.
        curves: name → pairs of step and value.

    Returns:
        Whether there is a picture: there is none without matplotlib or without values.
    """
    curves = {name: pairs for name, pairs in curves.items() if len(pairs)}
    if not curves:
        return False
    try:
        from matplotlib.figure import Figure  # not pyplot, which would touch the settings of whoever calls
    except ImportError:
        return False

    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for place, (name, pairs) in enumerate(curves.items(), start=1):
        panel = figure.add_subplot(rows, columns, place)
        panel.plot(*zip(*pairs, strict=True), linewidth=1.2, marker="." if len(pairs) < 50 else "")
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    with new_file(path, overwrite=True) as partial:
        figure.savefig(partial, dpi=100, format="png")
    return True


def read_curves(logs: Path, names: Sequence[str]) -> Curves:
    """Curves from the TensorBoard logs below a folder, in the order of the steps.

    A run that was resumed has several logs, and some steps twice: what was written last counts.

    Args:
        logs: the folder.
        names: of the scalars; those that were not logged are left out.

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
        found += [(one.wall_time, name, one) for name in names if name in logged for one in events.Scalars(name)]
    curves: dict[str, dict[int, float]] = {name: {} for name in names}
    for _, name, one in sorted(found, key=lambda entry: entry[0]):
        curves[name][one.step] = one.value
    return {name: sorted(curve.items()) for name, curve in curves.items() if curve}
