"""The bundled models and scenes that the other examples use in the place of yours."""

from pathlib import Path

from datasets import Dataset

from hf_encoders import create_semantic_encoder
from hf_encoders.outputs import new_folder

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "demo-output"
LEGACY_DEPTH = ROOT / "samples" / "legacy" / "depth_autoencoder_small.pth"
MULTIMODAL = ROOT / "samples" / "multimodal-rooms"


def depth_encoder() -> Path:
    """Folder of a small depth semantic encoder, made from its legacy file the first time."""
    repo = OUTPUT / "depth-encoder"
    if not repo.exists():
        with new_folder(repo) as partial:
            create_semantic_encoder(pretrained_path=LEGACY_DEPTH).encoder.save_pretrained(partial)
    return repo


def scenes(name: str, split: str) -> Dataset:
    """Scenes of "objects" (one object each: noun, label) or "rooms" (up to three: caption); see samples/README.md."""
    return Dataset.from_parquet(str(ROOT / "samples" / name / f"{split}.parquet"))
