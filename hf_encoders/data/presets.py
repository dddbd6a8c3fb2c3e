"""Names of the units of depth maps, for options: `models.depth_units`, which knows what they mean, imports torch."""

PRESETS = (
    "nyu", "nyu-png", "scannet", "sunrgbd", "kitti", "tum", "icl-nuim", "habitat", "habitat-normalized", "ros-32fc1",
    "ros-16uc1",
)  # fmt: skip
_OTHERWISE = {"sun-rgb-d": "sunrgbd", "sun-rgbd": "sunrgbd"}


def preset_name(text: str) -> str:
    """The name of a preset, written in any case and with `_` for `-`.

    Raises:
        ValueError: for another name; the message lists all.
    """
    name = text.lower().replace("_", "-")
    name = _OTHERWISE.get(name, name)
    if name not in PRESETS:
        raise ValueError(f"is one of {', '.join(PRESETS)}, got {text!r}")
    return name
