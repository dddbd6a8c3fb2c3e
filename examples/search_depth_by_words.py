"""Words find depth maps through an image tower that never saw one: a DINO ViT, trained on the bundled rooms.

    python examples/search_depth_by_words.py found.png
    python examples/search_depth_by_words.py found.png --epochs 5    # any flag of `hf-encoders train`

Maps become gray pictures (near is bright, eight metres are black), and the converted ViT and a converted RoBERTa learn
to find each other by captions. Drawn are the best five maps of each query, of scenes that were not trained on.
"""

import sys
from pathlib import Path

import bundled
import foreign
import numpy as np
from datasets import Dataset
from PIL import Image

from hf_encoders.commands.figures.contact_sheet import Section, Tile, draw
from hf_encoders.search import EmbeddingIndex

FAR = 8000  # millimetres
QUERIES = ["a lamp", "an armchair", "a table left of a plant"]
FLAGS = ("--epochs=24", "--batch_size=100", "--learning_rate=1e-3", "--warmup_steps=20")
RESULTS = 5


def as_picture(row: dict[str, Image.Image]) -> dict[str, Image.Image]:
    """The depth map of a row, in millimetres, as a gray picture."""
    near = 1 - np.asarray(row["depth"], dtype=np.float32).clip(0, FAR) / FAR
    return {"picture": Image.fromarray((near * 255).astype(np.uint8))}


def pictures(name: str, split: str) -> Path:
    """The file of a split of the bundled scenes, with the depth maps as pictures; made the first time."""
    file = bundled.OUTPUT / "depth-pictures" / f"{name}-{split}.parquet"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        scenes = bundled.scenes(name, split).select_columns(["depth", "caption"])
        scenes.map(as_picture).to_parquet(file)
    return file


def main() -> None:
    """Make pictures, train, search, draw."""
    training = [str(pictures(name, "train")) for name in ("rooms", "objects")]
    words = ("--dataset", *training, "--image_column", "picture", *FLAGS, *sys.argv[2:])
    model = foreign.train(bundled.OUTPUT / "depth-by-words", *words)

    rooms = Dataset.from_parquet(str(pictures("rooms", "test")))
    print(f"recall of {len(rooms)} captions among as many depth maps (chance @1 {1 / len(rooms):.3f}):")
    print("  ", foreign.recalls(model, rooms, "picture"))
    index = EmbeddingIndex.from_dataset(model, rooms, "picture", "image")
    sections = []
    for query, hits in zip(QUERIES, index.search(QUERIES, k=RESULTS, modality="text"), strict=True):
        tiles = [Tile(hit.row["depth"], "depth", f"{hit.score:.2f}", [hit.row["caption"]]) for hit in hits]
        sections.append(Section(query, tiles))
    output = Path(sys.argv[1])
    draw(sections, columns=RESULTS).save(output)
    print(f"drawn: {output}")


if __name__ == "__main__":
    main()
