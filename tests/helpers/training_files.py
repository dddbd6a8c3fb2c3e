"""Small training data of every kind."""

import io
import json

import numpy as np
from PIL import Image

PICTURE = np.random.RandomState(0).randint(0, 256, (40, 60, 3), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def image_folder(folder):
    """Three images to train on, two to validate with, with metadata."""
    for split, count in (("train", 3), ("validation", 2)):
        (folder / split).mkdir()
        lines = []
        for index in range(count):
            Image.fromarray(PICTURE).save(folder / split / f"{index}.png")
            lines.append(json.dumps({"file_name": f"{index}.png", "caption": f"{split} {index}"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))
    return folder
