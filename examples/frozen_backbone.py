"""A classifier on a frozen depth encoder: only a small head is trained, on embeddings that are computed once.

    python examples/frozen_backbone.py

The encoder is the depth tower of the sample model, which learned from captions of scenes like these. The task is the
category of an object ("bathroom", "kitchen", ... 9 in all) by its depth map.
"""

from collections import Counter

import bundled
import torch
from torch import Tensor, nn
from transformers import AutoModel

from hf_encoders import DepthSemanticEncoderModel

EPOCHS, BATCH = 40, 60


class FrozenClassifier(nn.Module):
    """A head on the embeddings of an encoder that is not trained."""

    def __init__(self, encoder: DepthSemanticEncoderModel, classes: int):
        super().__init__()
        self.encoder = encoder
        self.encoder.freeze()  # the statistics of its BatchNorm layers too, in train mode as well
        size = encoder.config.hidden_size
        self.head = nn.Sequential(
            nn.LayerNorm(size), nn.Dropout(0.5), nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, classes)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[B, 1, H, W] → [B, classes]."""
        return self.head(self.encoder(pixel_values).pooler_output)


def main() -> None:
    """Train the head and test the whole."""
    torch.manual_seed(0)
    train, test = (bundled.scenes("objects", split) for split in ("train", "test"))
    train_labels, test_labels = (torch.tensor(part["label"]) for part in (train, test))
    classes = train.features["label"].num_classes
    model = FrozenClassifier(AutoModel.from_pretrained(bundled.MULTIMODAL).depth_encoder, classes)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trained, total = (sum(p.numel() for p in group) for group in (parameters, model.parameters()))
    print(f"{trained:,} of {total:,} parameters are trained")

    # The encoder stays as it is, so it sees each map once. To crop maps anew in each epoch, call the whole model.
    embeddings = model.encoder.encode(train["depth"])
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(BATCH):
            loss = nn.functional.cross_entropy(model.head(embeddings[rows]), train_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model.eval()
    with torch.inference_mode():
        guesses = model(**model.encoder.processor(test["depth"], return_tensors="pt")).argmax(dim=1)
    most_frequent = Counter(train["label"]).most_common(1)[0][0]
    print(f"right on {len(test)} test maps after {EPOCHS} epochs: {(guesses == test_labels).float().mean():.3f}")
    print(f"always the most frequent: {(test_labels == most_frequent).float().mean():.3f}, chance: {1 / classes:.3f}")


if __name__ == "__main__":
    main()
