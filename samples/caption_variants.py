"""Gives each scene several true captions, of which training takes one an epoch.

    python samples/caption_variants.py SCENES OUTPUT      # SCENES: a folder with train.parquet and validation.parquet

A scene with several objects also gets its caption told from the second object ("a red bed left of a lamp" → "a lamp
right of a red bed"). A scene with one object also gets its noun and its category alone, which is how zero-shot
classification asks. Column `captions` is new; in validation it holds the one caption.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

_INVERSES = {"left of": "right of", "right of": "left of", "behind": "in front of", "in front of": "behind"}


def captions(scene: Mapping[str, Any]) -> list[str]:
    """True captions of a scene; one that comes twice is taken twice as often."""
    caption, objects = scene["caption"], scene["objects"]
    if len(objects) == 1:
        noun, category = objects[0]["name"].split()[-1], objects[0]["category"]
        return [*[caption] * 3, *[_with_article(noun)] * 2, category]
    first, second = (_with_article(f"{item['color']} {item['name']}") for item in objects[:2])
    for relation, inverse in _INVERSES.items():
        told = f"{first} {relation} {second}"
        if caption.startswith(told):
            return [caption, f"{second} {inverse} {first}{caption.removeprefix(told)}"]
    return [caption]


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", type=Path, help="folder with train.parquet and validation.parquet")
    parser.add_argument("output", type=Path, help="folder for the same files with a column more")
    args = parser.parse_args()
    for split in ("train", "validation"):
        scenes = Dataset.from_parquet(str(args.scenes / f"{split}.parquet"))
        told = captions if split == "train" else lambda scene: [scene["caption"]]
        found = [told(scene) for scene in scenes.remove_columns(["image", "depth"])]
        scenes.add_column("captions", found).to_parquet(args.output / f"{split}.parquet")


if __name__ == "__main__":
    main()
