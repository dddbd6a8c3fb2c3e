"""What the sample model finds by words: rooms in images, and objects in depth maps, which have no colours.

    python examples/search_rooms.py found.png

Draws the best five of each query, with their cosine similarities and captions.
"""

import sys
from pathlib import Path

from datasets import Dataset
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.commands.figures.contact_sheet import TILE_LINES, Section, Tile, draw, wrap
from hf_encoders.depth_colours import DepthColours
from hf_encoders.modalities import Modality
from hf_encoders.search import EmbeddingIndex

SAMPLES = Path(__file__).parent.parent / "samples"
SEARCHES: list[tuple[str, Modality, list[str]]] = [
    ("rooms", "image", ["a red chair", "a yellow crate left of a green bag"]),
    ("objects", "depth", ["an armchair", "a lamp"]),
]
FOUND = {"image": "images", "depth": "depth maps"}
RESULTS = 5


def main() -> None:
    """Search, and draw what is found."""
    model = AutoModel.from_pretrained(SAMPLES / "multimodal-rooms")
    sections = []
    for name, modality, queries in SEARCHES:
        scenes = Dataset.from_parquet(str(SAMPLES / name / "test.parquet"))
        index = EmbeddingIndex.from_dataset(model, scenes, modality, modality)
        for query, hits in zip(queries, index.search(queries, k=RESULTS), strict=True):
            tiles = [
                Tile(hit.row[modality], modality, f"{hit.score:.2f}", wrap(hit.row["caption"], TILE_LINES))
                for hit in hits
            ]
            sections.append(Section(f"{query} → {FOUND[modality]}", tiles))
    draw(sections, columns=RESULTS, depth=DepthColours.of(model)).save(sys.argv[1])


if __name__ == "__main__":
    main()
