"""The models in sentence-transformers: texts, images and depth maps by `SentenceTransformer(repo)`.

    python examples/with_sentence_transformers.py

A repo needs two small files for it, which conversion, training and pushes write.
"""

import tempfile
from pathlib import Path

import bundled
import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models with AutoModel
from hf_encoders import MultimodalEncoderModel
from hf_encoders.hub.sentence_transformers import write_sentence_transformers_files

ROOMS = 100


def main() -> None:
    """Find rooms by their captions: images, then depth maps."""
    rooms = bundled.scenes("rooms", "test").select(range(ROOMS))
    captions, images, maps = rooms["caption"][:], rooms["image"][:], rooms["depth"][:]
    model = AutoModel.from_pretrained(bundled.MULTIMODAL)
    encoder = SentenceTransformer(str(bundled.MULTIMODAL))
    texts, pictures = encoder.encode(captions), encoder.encode(images)
    print(f"{encoder.get_embedding_dimension()} dimensions for {' and '.join(map(str, encoder.modalities))}")
    difference = np.abs(pictures - model.encode_image(images, convert_to="numpy")).max()
    print(f"largest difference from encode_image: {difference:.0e}\n")

    found = encoder.similarity(texts, pictures)
    for number in (0, 1):
        print(f"{captions[number]!r} finds {captions[int(found[number].argmax())]!r}")
    print(f"recall@1 of images by captions among {ROOMS}: {recall(found):.2f} (chance {1 / ROOMS:.2f})")

    depth_maps = depth_side(model).encode(maps)
    print(f"recall@1 of depth maps by captions:        {recall(encoder.similarity(texts, depth_maps)):.2f}")


def recall(similarity: torch.Tensor) -> float:
    """How often the best of a row stands in the diagonal."""
    return (similarity.argmax(dim=1) == torch.arange(len(similarity), device=similarity.device)).double().mean().item()


def depth_side(model: MultimodalEncoderModel) -> SentenceTransformer:
    """The depth tower as a model of its own, for sentence-transformers knows no depth maps beside images."""
    with tempfile.TemporaryDirectory() as folder:
        model.depth_encoder.save_pretrained(folder)
        write_sentence_transformers_files(Path(folder))
        tower = SentenceTransformer(folder)
    projection = model.depth_projection
    dense = Dense(projection.in_features, projection.out_features, activation_function=torch.nn.Identity())
    dense.linear.load_state_dict(projection.state_dict())
    return tower.append(dense).append(Normalize()).to(tower.device)


if __name__ == "__main__":
    main()
