"""Encoders of other people's code, converted and joined: a ViT that DINO trained, and a RoBERTa that fairseq trained.

The two checkpoints are small and lie in samples/foreign; put yours in their place.
"""

from pathlib import Path

import bundled
from datasets import Dataset

from hf_encoders import MultimodalEncoderModel
from hf_encoders.commands import convert
from hf_encoders.evaluation import retrieval_metrics
from hf_encoders.outputs import new_folder
from hf_encoders.training import pretrain

FOREIGN = bundled.ROOT / "samples" / "foreign"
RECALLS = (1, 5, 10)


def joined_towers() -> Path:
    """The repo of both towers, converted, with new projections that fit nothing yet."""
    image, text, joined = (bundled.OUTPUT / name for name in ("dino-vit", "roberta", "joined"))
    if not image.exists():
        untold = ["--attention-heads", "2", "--layer-norm-eps", "1e-6"]  # no file of a ViT tells them
        convert.command([f"{FOREIGN}/dino_vit_rooms.pth", *untold, "--output", str(image)])
    if not text.exists():
        tokenizer = ["--tokenizer", f"{FOREIGN}/roberta-tokenizer"]
        convert.command([f"{FOREIGN}/roberta_captions.pt", *tokenizer, "--output", str(text)])
    if not joined.exists():
        model = MultimodalEncoderModel.from_towers(text=text, vision=image, projection_dim=128, text_pooling="mean")
        with new_folder(joined) as partial:
            model.save_pretrained(partial)
    return joined


def train(output: Path, *words: str) -> MultimodalEncoderModel:
    """Train the joined towers on captions; what was trained before is not trained again.

    Args:
        output: a folder.
        words: of `hf-encoders train`: a recipe, or none, and flags.
    """
    if not output.exists():
        pretrain.command([*words, "--init_from", str(joined_towers()), "--output_dir", str(output)])
    return MultimodalEncoderModel.from_pretrained(output)


def recalls(model: MultimodalEncoderModel, rows: Dataset, column: str) -> str:
    """How often a caption finds its picture among those of all rows, as a line."""
    texts, images = model.encode_text(rows["caption"]), model.encode_image(rows[column])
    found = retrieval_metrics(texts, images, captions=list(rows["caption"]), ks=RECALLS)
    return ", ".join(f"@{k} {found[f'text_to_image_recall@{k}']:.2f}" for k in RECALLS)
