"""Embeddings that cost less: 16, 8 or 1 bit a dimension instead of 32, and fewer dimensions.

    python examples/small_embeddings.py

Overlap is how many of the ten images that a caption finds are those that float32 finds.
"""

import tempfile
from pathlib import Path
from typing import Any

import bundled
import numpy as np
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.search import EmbeddingIndex
from hf_encoders.search.quantizer import Quantizer

KINDS: list[dict[str, Any]] = [
    {"precision": "float32"},
    {"precision": "float16"},
    {"precision": "int8"},
    {"precision": "binary"},
    {"precision": "int8", "truncate_dim": 128},
    {"precision": "binary", "truncate_dim": 128},
]


def main() -> None:
    """Search indexes of several sizes; keep quantized embeddings in a file."""
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    rooms = bundled.scenes("rooms", "test").select(range(120))
    texts = model.encode_text(rooms["caption"], convert_to="numpy")
    images = model.encode_image(rooms["image"], convert_to="numpy")

    print(f"{len(rooms)} captions search as many images:")
    exact = np.argsort(-texts @ images.T, axis=1)[:, :10]
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            built = EmbeddingIndex(images, model=model, **kind)
            built.save(f"{folder}/index", overwrite=True)
            index = EmbeddingIndex.load(f"{folder}/index", model)  # mapped: it takes no memory of its own
            found = index.search(texts, k=10, modality="embedding")
            right = np.mean([hits[0].index == number for number, hits in enumerate(found)])
            overlap = np.mean(
                [np.isin(ten, [hit.index for hit in hits]) for ten, hits in zip(exact, found, strict=True)]
            )
            options = ", ".join(f"{name}={value}" for name, value in kind.items())
            size = built.nbytes // len(built)
            print(f"  {options:<35} {size:>4} bytes each, first right {right:.2f}, overlap {overlap:.3f}")

        # Without an index: the ranges are fixed by the first embeddings and stay with the numbers.
        first, later = images[:100], images[100:]
        quantizer = Quantizer.calibrate(first, "int8")
        file = Path(folder) / "images.safetensors"
        quantizer.save(quantizer.quantize(first), file)
        quantizer, codes = Quantizer.load(file)
        codes = np.concatenate([codes, quantizer.quantize(later)])
        off = np.abs(quantizer.dequantize(codes) - images).max()
        print(f"\nint8 in a file: {len(codes)} x {codes.shape[1]} {codes.dtype}, at most {off:.4f} off")
        print(f"of the later values {100 * quantizer.clipped_share(later):.2f}% lay outside the ranges")


if __name__ == "__main__":
    main()
