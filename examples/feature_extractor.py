"""Depth maps to embeddings of 768 numbers: one map, a data set, files, or your own processor and forward call.

    python examples/feature_extractor.py

The embeddings are the same however a map comes in, and beside whatever other maps.
"""

import tempfile
import time
from pathlib import Path

import bundled
import torch
from transformers import AutoImageProcessor, AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel

MAPS = 100


def main() -> None:
    """Embed the same maps in four ways."""
    model = AutoModel.from_pretrained(bundled.depth_encoder())
    depth = bundled.scenes("objects", "test").select(range(MAPS))["depth"]  # 16-bit PNG, in millimetres

    one = model.encode(depth[0])
    print(f"one map: {list(one.shape)}, length {one.norm():.1f}; with normalize=True it would be 1")

    start = time.perf_counter()
    embeddings = model.encode(depth, batch_size=32)
    seconds = time.perf_counter() - start
    print(f"a column of {MAPS} maps: {list(embeddings.shape)}, {MAPS / seconds:.0f} maps a second")

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(8)]
        for path, picture in zip(paths, depth, strict=False):
            picture.save(path)
        from_files = model.encode(paths)
    print(f"{len(paths)} files: {list(from_files.shape)}")

    processor = AutoImageProcessor.from_pretrained(bundled.depth_encoder())
    inputs = processor(depth[:8], return_tensors="pt")  # pixel_values [8, 1, 128, 128] in [-1, 1]
    with torch.inference_mode():
        outputs = model(**inputs)
    print(
        f"processor and model: {list(outputs.pooler_output.shape)}, and {list(outputs.last_hidden_state.shape)} before"
    )

    ways = {"alone": one, "from files": from_files, "by hand": outputs.pooler_output}
    for name, rows in ways.items():
        difference = (rows - embeddings[: len(rows)]).abs().max() / embeddings.abs().max()
        print(f"largest difference, {name} and in the column: {difference:.0e} of the largest number")


if __name__ == "__main__":
    main()
