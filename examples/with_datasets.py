"""Embeddings as a column of a data set: computed once, cached, searched, streamed.

    python examples/with_datasets.py

`with_embeddings` is `Dataset.map` with a quick and reliable cache; `map` itself works too.
"""

import time
from typing import Any

import bundled
import faiss
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.embed import with_embeddings
from hf_encoders.search import EmbeddingIndex

QUERY = "a chair"


def main() -> None:
    """Embed the objects of the test set in several ways."""
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    objects = bundled.scenes("objects", "test")

    for attempt in ("first", "again"):
        start = time.perf_counter()
        embedded = with_embeddings(objects, model, "image")
        print(f"{len(embedded)} images embedded ({attempt}): {time.perf_counter() - start:.2f} s")
    embeddings = embedded.with_format("numpy")["embedding"][:]
    print(f"a column of {embeddings.dtype} {list(embeddings.shape)}\n")

    # FAISS through `datasets`.
    embedded.add_faiss_index("embedding", metric_type=faiss.METRIC_INNER_PRODUCT)
    query = model.encode_text(QUERY, convert_to="numpy")[0]
    scores, nearest = embedded.get_nearest_examples("embedding", query, k=5)
    found = ", ".join(f"{noun} {score:.2f}" for noun, score in zip(nearest["noun"], scores, strict=True))
    print(f"{QUERY!r} by FAISS: {found}")

    # The same column in our own index.
    embedded.drop_index("embedding")
    index = EmbeddingIndex(embeddings, embedded, model)
    found = ", ".join(f"{hit.row['noun']} {hit.score:.2f}" for hit in index.search(QUERY, k=5))
    print(f"{QUERY!r} by EmbeddingIndex: {found}\n")

    # A stream is embedded as it is read: here 32 maps for the two that are taken.
    stream = with_embeddings(objects.to_iterable_dataset(), model, "depth")
    for row in stream.take(2):
        print(f"a streamed depth map of {row['caption']}: {len(row['embedding'])} numbers")

    # Plain `map`, for what is not an embedding: here the distance of each image from its depth map.
    def distance(batch: dict[str, Any]) -> dict[str, Any]:
        images, maps = model.encode_image(batch["image"]), model.encode_depth(batch["depth"])
        return {"distance": 1 - (images * maps).sum(dim=1)}

    distances = objects.map(distance, batched=True, batch_size=64, remove_columns=objects.column_names)["distance"]
    print(f"mean cosine distance of an image and its depth map: {sum(distances) / len(distances):.2f}")


if __name__ == "__main__":
    main()
