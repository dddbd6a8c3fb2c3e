"""Classification by words, without training: labels are written down, and images or depth maps get the nearest.

    python examples/zero_shot.py

The same labels classify colour images and depth maps, which have no colours.
"""

from collections import Counter

import bundled
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.zero_shot import ZeroShotClassifier

# Phrased as the captions of the training were: each thing there has a colour.
TEMPLATES = ["a red {}", "a blue {}", "a green {}", "a gray {}", "a {}"]


def main() -> None:
    """Classify the test objects by image and by depth map."""
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    objects = bundled.scenes("objects", "test")
    labels = sorted(set(objects["noun"]))
    classifier = ZeroShotClassifier(model, labels, TEMPLATES)
    print(f"{len(labels)} labels: {', '.join(labels[:8])}, ...\n")

    for number in (0, 10):
        thing = objects[number]
        for modality in ("image", "depth"):
            best = classifier.classify(thing[modality], modality, top_k=3)[0]
            answers = ", ".join(f"{answer['label']} {answer['score']:.2f}" for answer in best)
            print(f"the {modality} of {thing['caption']}: {answers}")

    print(f"\nright on {len(objects)} objects   first   among five")
    for modality in ("image", "depth"):
        results = classifier.classify(objects[modality], modality, top_k=5)
        ranked = [[answer["label"] for answer in best] for best in results]
        first, five = (
            sum(noun in best[:k] for noun, best in zip(objects["noun"], ranked, strict=True)) / len(objects)
            for k in (1, 5)
        )
        print(f"by {modality:<19}{first:>6.3f}{five:>13.3f}")
    frequent = [count for _, count in Counter(objects["noun"]).most_common(5)]
    print(f"{'the most frequent':<22}{frequent[0] / len(objects):>6.3f}{sum(frequent) / len(objects):>13.3f}")


if __name__ == "__main__":
    main()
