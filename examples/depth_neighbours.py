"""The neighbours of depth maps by the embeddings of a converted legacy encoder, beside those by raw pixels.

    python examples/depth_neighbours.py neighbours.png

Converts the legacy checkpoint of samples/, embeds real depth maps, and finds each test map's nearest neighbour among
the training maps.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bundled
import matplotlib
import numpy as np
from datasets import Dataset
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first

QUERIES, NEIGHBOURS = 8, 5


def main() -> None:
    """Embed, compare and draw."""
    model = AutoModel.from_pretrained(bundled.depth_encoder())
    train, test = (bundled.scenes("objects", split) for split in ("train", "test"))
    start = time.perf_counter()
    train_embeddings = model.encode(train["depth"], normalize=True, convert_to="numpy")
    test_embeddings = model.encode(test["depth"], normalize=True, convert_to="numpy")
    seconds = time.perf_counter() - start
    count = len(train) + len(test)
    print(
        f"{count} maps → {test_embeddings.shape[1]} dimensions in {seconds:.1f} s ({count / seconds:.0f} maps a second)"
    )

    print(f"\nNearest neighbour of each of {len(test)} test maps among {len(train)} training maps")
    neighbours = nearest(test_embeddings, train_embeddings, NEIGHBOURS)
    pixel_neighbours = nearest(pixels(model, test), pixels(model, train), 1)
    print(f"{'right by':<10}{'embedding':>12}{'raw pixels':>12}{'most frequent':>15}")
    for column in ("noun", "label"):
        truth, known = np.array(test[column]), np.array(train[column])
        most_frequent = Counter(known.tolist()).most_common(1)[0][0]
        scores = [(known[n[:, 0]] == truth).mean() for n in (neighbours, pixel_neighbours)]
        scores.append((truth == most_frequent).mean())
        print(f"{column:<10}{scores[0]:>12.3f}{scores[1]:>12.3f}{scores[2]:>15.3f}")
    print("The sample is a small autoencoder: its embeddings carry silhouettes more than meaning.")

    draw(Path(sys.argv[1]), train, test, neighbours)


def nearest(queries: np.ndarray[Any, Any], keys: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Indices [Q, count] of the keys of largest cosine, for rows of length 1."""
    return np.argsort(-queries @ keys.T, axis=1)[:, :count]


def pixels(model: Any, maps: Dataset) -> np.ndarray[Any, Any]:
    """What the model sees, as rows of length 1."""
    rows = model.processor(maps["depth"], return_tensors="np")["pixel_values"].reshape(len(maps), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def draw(path: Path, train: Dataset, test: Dataset, neighbours: np.ndarray[Any, Any]) -> None:
    """A contact sheet: a row a query, its neighbours beside it, green where the noun is the query's."""
    step = len(test) // QUERIES
    size = (1.3 * (NEIGHBOURS + 1), 1.5 * QUERIES + 0.4)
    figure, axes = plt.subplots(QUERIES, NEIGHBOURS + 1, figsize=size, layout="constrained")
    figure.suptitle("Left: the query. Right: its nearest neighbours (green: the same noun)", fontsize=10)
    for row, query in zip(axes, range(0, step * QUERIES, step), strict=True):
        items = [test[query], *(train[int(index)] for index in neighbours[query])]
        for number, (axis, item) in enumerate(zip(row, items, strict=True)):
            axis.imshow(np.asarray(item["depth"], dtype=np.float32), cmap="viridis_r")
            axis.set_xticks([])
            axis.set_yticks([])
            colour = "black" if number == 0 else "tab:green" if item["noun"] == items[0]["noun"] else "tab:red"
            axis.set_title(item["noun"], fontsize=9, color=colour)
            for spine in axis.spines.values():
                spine.set(color=colour, linewidth=2)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
