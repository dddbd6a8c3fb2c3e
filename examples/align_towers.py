"""A DINO ViT and a RoBERTa, each from its own checkpoint, learn to find each other: LiT on the bundled rooms.

    python examples/align_towers.py
    python examples/align_towers.py --epochs 5    # any flag of `hf-encoders train`

Both are converted, joined by projections, and trained: the image tower stays as it is, the text tower learns to read it
(https://arxiv.org/abs/2111.07991). Recall is that of captions among the images of 200 rooms that were not trained on.
"""

import sys

import bundled
import foreign
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel

FLAGS = (
    "--epochs=20",
    "--batch_size=100",
    "--gradient_accumulation_steps=1",
    "--learning_rate=1e-3",
    "--warmup_steps=20",
)


def main() -> None:
    """Convert, join, train, measure."""
    rooms = bundled.scenes("rooms", "test")
    print(f"recall of {len(rooms)} captions among as many images (chance @1 {1 / len(rooms):.3f}):")
    print("  joined:  ", foreign.recalls(AutoModel.from_pretrained(foreign.joined_towers()), rooms, "image"))
    model = foreign.train(
        bundled.OUTPUT / "aligned", "lit", "--dataset", str(bundled.ROOT / "samples" / "rooms"), *FLAGS, *sys.argv[1:]
    )
    print("  aligned: ", foreign.recalls(model, rooms, "image"))


if __name__ == "__main__":
    main()
