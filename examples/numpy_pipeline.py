"""Arrays in, arrays out: depth maps as NumPy arrays become embeddings in an .npz file, searched with NumPy alone.

    python examples/numpy_pipeline.py

The search: each scene was measured a second time by a noisy sensor. Which scene is it?
"""

import tempfile
from pathlib import Path
from typing import Any

import bundled
import numpy as np
from transformers import AutoModel

from hf_encoders import create_semantic_encoder

NOISE = 0.02  # metres, standard deviation a pixel

Array = np.ndarray[Any, Any]


def main() -> None:
    """Embed, save, load, search."""
    scenes = bundled.scenes("objects", "test")
    maps = np.stack([np.asarray(depth, np.float32) / 1000 for depth in scenes["depth"]])
    print(f"maps: {list(maps.shape)} {maps.dtype}, {maps.min():.1f} to {maps.max():.1f} m")

    model = AutoModel.from_pretrained(bundled.depth_encoder())
    embeddings = model.encode(maps, convert_to="numpy")
    legacy = create_semantic_encoder(pretrained_path=bundled.LEGACY_DEPTH)  # what older code calls
    difference = np.abs(legacy.encode_numpy(maps, batch_size=32) - embeddings).max() / np.abs(embeddings).max()
    print(
        f"embeddings: {list(embeddings.shape)} {embeddings.dtype}; SemanticEncoder.encode_numpy: {difference:.0e} off"
    )

    second = maps + np.random.default_rng(0).normal(0, NOISE, maps.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npz"
        np.savez(path, embeddings=embeddings, noun=scenes["noun"])
        with np.load(path) as known:  # strings and numbers: nothing to unpickle
            similarity = unit(model.encode(second, convert_to="numpy")) @ unit(known["embeddings"]).T
            nouns = known["noun"]

    nearest = np.argsort(-similarity, axis=1)[:, :3]
    truth = np.arange(len(maps))
    for query in (50, 100, 150):
        found = ", ".join(f"{i} ({nouns[i]}) {similarity[query, i]:.3f}" for i in nearest[query])
        print(f"a second look at scene {query} ({nouns[query]}) finds {found}")
    at = [(nearest[:, :k] == truth[:, None]).any(axis=1).mean() for k in (1, 3)]
    print(f"with {NOISE * 100:.0f} cm of noise the right scene of {len(maps)} is the nearest: {at[0]:.3f}", end="")
    print(f", among the nearest three: {at[1]:.3f} (chance: {1 / len(maps):.3f})")


def unit(rows: Array) -> Array:
    """Rows [N, D] of length 1, whose products are cosines."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
