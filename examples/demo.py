"""What this package is for, in a minute: checkpoints become repos, and words find what a depth camera saw.

    make demo        (or: python examples/demo.py --output FOLDER)

Converts a legacy checkpoint and one of other people's code, proves both, and searches 500 scenes that the bundled model
was not trained on. The picture shows what it finds.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundled
import numpy as np
from datasets import Dataset
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.commands.figures.contact_sheet import TILE_LINES, Section, Tile, draw, wrap
from hf_encoders.depth_colours import DepthColours
from hf_encoders.evaluation import retrieval_metrics
from hf_encoders.modalities import Modality
from hf_encoders.progress import hide_library_bars

FOREIGN = bundled.ROOT / "samples" / "foreign"
COLUMNS: dict[Modality, str] = {"text": "caption", "image": "image", "depth": "depth"}
SEARCHES: list[tuple[Modality, Modality, str]] = [
    ("text", "image", "words → images"),
    ("text", "depth", "words → depth maps"),
    ("depth", "image", "a depth map → its image"),
]
PICTURES: tuple[Modality, ...] = ("image", "depth")
# Of the picture: captions with so many images and depth maps each, and depth maps with images.
CAPTIONS, MAPS, HITS = 5, 3, 3


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=bundled.OUTPUT, help="folder for the models and the picture")
    output = parser.parse_args().output
    hide_library_bars()

    print("1. A legacy checkpoint becomes a repo", flush=True)
    convert(bundled.LEGACY_DEPTH, output / "depth-semantic-encoder")
    print("\n2. So does one of other people's code: a RoBERTa that fairseq wrote", flush=True)
    said = "--tokenizer", FOREIGN / "roberta-tokenizer", "--pooling", "mean", "--license", "cc0-1.0"  # as no file does
    convert(FOREIGN / "roberta_captions.pt", output / "roberta", *said)

    print("\n3. Words, images and depth maps find each other", flush=True)
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    scenes = bundled.scenes("rooms", "test")
    embeddings = {modality: encode(model, scenes, modality) for modality in COLUMNS}
    print(f"among {len(scenes)} scenes       right at first   in the first five")
    for query, found, name in SEARCHES:
        recalls = recall(embeddings[query], embeddings[found])
        print(f"{name:<26}{recalls[0]:>12.0%}{recalls[1]:>20.0%}")
    print(f"{'by chance':<26}{1 / len(scenes):>12.1%}{5 / len(scenes):>20.1%}")
    picture = output / "found.png"
    draw(sheet(scenes, embeddings), depth=DepthColours.of(model)).save(picture)
    print(f"what is found: {picture}")

    print("\n4. Go on with something of yours")
    print("hf-encoders inspect YOUR.pth    # what is in it; nothing of it is executed")
    print("hf-encoders convert YOUR.pth --output your-encoder")
    print('hf-encoders search samples/multimodal-rooms samples/rooms/test.parquet "a red chair" --output chairs.png')


def convert(checkpoint: Path, repo: Path, *options: str | Path) -> None:
    """Convert a checkpoint as a person does, in a process of its own."""
    script = bundled.ROOT / "conversion" / "convert_ckpt.py"
    subprocess.run([sys.executable, script, checkpoint, "--output", repo, "--overwrite", *options], check=True)


def encode(model: Any, scenes: Dataset, modality: Modality) -> np.ndarray[Any, Any]:
    """The embeddings [N, D] of a column, of length 1."""
    embed: Callable[..., np.ndarray[Any, Any]] = getattr(model, f"encode_{modality}")
    return embed(scenes[COLUMNS[modality]], normalize=True, convert_to="numpy")


def recall(queries: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> tuple[float, float]:
    """How often the right scene is the first, and among the first five."""
    metrics = retrieval_metrics(queries, found, names=("a", "b"))
    return metrics["a_to_b_recall@1"], metrics["a_to_b_recall@5"]


def sheet(scenes: Dataset, embeddings: dict[Modality, np.ndarray[Any, Any]]) -> list[Section]:
    """Captions with the images and depth maps that they find, and depth maps with images; the right ones are green."""
    rows = chosen(scenes, CAPTIONS + MAPS)
    sections = []
    for row in rows[:CAPTIONS]:
        tiles = [tile for found in PICTURES for tile in hits(scenes, embeddings, row, "text", found, HITS)]
        sections.append(Section(scenes[row]["caption"], tiles))
    for row in rows[CAPTIONS:]:
        query = Tile(scenes[row]["depth"], "depth", "a depth map finds", is_query=True)
        found = hits(scenes, embeddings, row, "depth", "image", 2 * HITS - 1)
        sections.append(Section("", [query, *found]))
    return sections


def chosen(scenes: Dataset, count: int) -> list[int]:
    """Rows from all over the split, by their numbers alone."""
    step = len(scenes) // count
    return list(range(step // 2, len(scenes), step))[:count]


def hits(
    scenes: Dataset,
    embeddings: dict[Modality, np.ndarray[Any, Any]],
    row: int,
    query: Modality,
    found: Modality,
    count: int,
) -> list[Tile]:
    """The nearest pictures of a row's text or depth map."""
    similarities = embeddings[found] @ embeddings[query][row]
    tiles = []
    for rank, place in enumerate(np.argsort(-similarities)[:count].tolist(), 1):
        is_right, scene = place == row, scenes[place]
        heading = f"{rank} · {similarities[place]:.2f}{' · right' if is_right else ''}"
        lines = () if is_right else wrap(scene["caption"], TILE_LINES)
        tiles.append(Tile(scene[COLUMNS[found]], found, heading, lines, is_right=is_right))
    return tiles


if __name__ == "__main__":
    main()
