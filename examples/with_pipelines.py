"""transformers' pipelines: features and zero-shot labels of images and of depth maps, which stay at 16 bits.

    python examples/with_pipelines.py

"image-feature-extraction" and "zero-shot-image-classification" are transformers' own; `import hf_encoders` adds
"depth-feature-extraction" and "depth-zero-shot-classification", which make no 8-bit RGB of depth files.
"""

import tempfile
from pathlib import Path

import torch
from bundled import MULTIMODAL, depth_encoder, scenes
from transformers import pipeline

import hf_encoders  # noqa: F401 - registers the models and the pipelines


def main() -> None:
    """Run the four pipelines on test scenes of one object each."""
    objects = scenes("objects", "test").select(range(0, 200, 4))
    images, labels = list(objects["image"]), sorted(set(objects["noun"]))

    extractor = pipeline("image-feature-extraction", model=str(MULTIMODAL), batch_size=8)
    features = torch.cat(extractor(images, pool=True, return_tensors=True))
    print(f"{len(images)} images → features {list(features.shape)}")

    classifier = pipeline("zero-shot-image-classification", model=str(MULTIMODAL), batch_size=8)
    answers = classifier(images, candidate_labels=labels, hypothesis_template="a {}.")
    print(f"right of {len(labels)} labels, by images: {accuracy(answers, objects['noun']):.2f}")

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{index}.png") for index in range(len(objects))]
        for path, depth_map in zip(paths, objects["depth"], strict=True):
            depth_map.save(path)  # 16 bits, millimetres

        # `import hf_encoders` registers these tasks, which mypy cannot see.
        depth_extractor = pipeline("depth-feature-extraction", model=depth_encoder(), batch_size=8)  # type: ignore[call-overload]
        features = torch.cat(depth_extractor(paths, pool=True, return_tensors=True))
        print(f"{len(paths)} depth maps → features {list(features.shape)}")

        depth_classifier = pipeline("depth-zero-shot-classification", model=MULTIMODAL, batch_size=8)  # type: ignore[call-overload]
        answers = depth_classifier(paths, candidate_labels=labels, hypothesis_template="a {}.")
        print(f"right of {len(labels)} labels, by depth maps: {accuracy(answers, objects['noun']):.2f}")


def accuracy(answers: list[list[dict[str, str | float]]], nouns: list[str]) -> float:
    """How many of the best labels are the nouns."""
    return sum(best["label"] == noun for (best, *_), noun in zip(answers, nouns, strict=True)) / len(answers)


if __name__ == "__main__":
    main()
