"""Saving and loading an encoder that you changed: as a repo with its processor, and as a legacy .pth file.

    python examples/save_and_load.py

The last layers of the encoder are trained for a few steps, and its processor learns that maps are in millimetres.
"""

import tempfile
from pathlib import Path

import bundled
import torch
from transformers import AutoImageProcessor, AutoModel

import hf_encoders

STEPS = 10


def main() -> None:
    """Change an encoder, save it in both ways, and compare what comes back."""
    scenes = bundled.scenes("objects", "test").select(range(60))
    model = AutoModel.from_pretrained(bundled.depth_encoder())
    model.processor = hf_encoders.DepthImageProcessor(unit_scale=0.001, normalization="range", value_range=(0, 8))
    inputs = model.processor(scenes["depth"], return_tensors="pt")
    with torch.inference_mode():
        before = model(**inputs).pooler_output
    train(model, inputs["pixel_values"], scenes["noun"])
    embeddings = model.encode(scenes["depth"])
    print(f"trained: embeddings moved by {(embeddings - before).norm() / before.norm():.2f} of their length")

    with tempfile.TemporaryDirectory() as folder:
        repo, legacy_file = Path(folder) / "my-encoder", Path(folder) / "my_encoder.pth"

        model.save_pretrained(repo)
        loaded = AutoModel.from_pretrained(repo)
        processor = AutoImageProcessor.from_pretrained(repo)
        print(f"my-encoder: {', '.join(sorted(path.name for path in repo.iterdir()))}")
        print(f"  processor: {processor.normalization} {processor.value_range} m, unit {processor.unit_scale} m")
        print(f"  embeddings differ by at most {difference(loaded.encode(scenes['depth']), embeddings)}")

        hf_encoders.create_semantic_encoder(pretrained_path=repo).save_encoder_weights(legacy_file)
        legacy = hf_encoders.create_semantic_encoder(pretrained_path=legacy_file)
        with torch.inference_mode():
            again = legacy.encode(inputs["pixel_values"])  # such a file has no processor: bring processed maps
        print(f"my_encoder.pth: {legacy_file.stat().st_size / 1e6:.1f} MB, {legacy.count_parameters():,} parameters")
        print(f"  embeddings differ by at most {difference(again, embeddings)}")


def train(model: hf_encoders.DepthSemanticEncoderModel, pixel_values: torch.Tensor, nouns: list[str]) -> None:
    """Pull maps of the same noun together and others apart."""
    target = torch.tensor([[float(one == other) for other in nouns] for one in nouns])
    model.freeze()
    model.unfreeze(["fc"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for step in range(STEPS):
        rows = torch.nn.functional.normalize(model(pixel_values).pooler_output, dim=-1)
        loss = torch.nn.functional.mse_loss(rows @ rows.T, target)
        if step in (0, STEPS - 1):
            print(f"step {step + 1}: loss {loss.item():.3f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """The largest one, relative to the largest number."""
    return f"{(one - other).abs().max() / other.abs().max():.1g} of the largest number"


if __name__ == "__main__":
    main()
