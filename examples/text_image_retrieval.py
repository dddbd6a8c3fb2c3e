"""Search across texts, images and depth maps: words find pictures, pictures find captions.

    python examples/text_image_retrieval.py

Every direction is one `EmbeddingIndex`, searched with the other side. Recall@1 is how often the first hit is right.
"""

import bundled
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.modalities import Modality
from hf_encoders.search import EmbeddingIndex

ROOMS = 100


def main() -> None:
    """Search in five directions."""
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    rooms = bundled.scenes("rooms", "test").select(range(ROOMS))
    columns: dict[Modality, str] = {"text": "caption", "image": "image", "depth": "depth"}
    indexes = {
        modality: EmbeddingIndex.from_dataset(model, rooms, column, modality) for modality, column in columns.items()
    }

    query = "a gray chair"
    print(f"images of {query!r} among {ROOMS} rooms, by their captions:")
    for hit in indexes["image"].search(query, k=3):
        print(f"  {hit.score:.2f}  {hit.row['caption']}")

    print(f"\ncaptions for the image of {rooms[0]['caption']!r}:")
    for hit in indexes["text"].search(rooms[0]["image"], k=3):
        print(f"  {hit.score:.2f}  {hit.row['caption']}")

    print(f"\nrecall@1 among {ROOMS} rooms (chance {1 / ROOMS:.2f}):")
    directions: list[tuple[Modality, Modality]] = [
        ("text", "image"),
        ("image", "text"),
        ("text", "depth"),
        ("depth", "text"),
        ("image", "depth"),
    ]
    for source, target in directions:
        found = indexes[target].search(rooms[columns[source]], k=1, modality=source)
        right = sum(hits[0].index == number for number, hits in enumerate(found))
        print(f"  {source:>5} → {target:<5} {right / ROOMS:.2f}")


if __name__ == "__main__":
    main()
