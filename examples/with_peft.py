"""PEFT: LoRA adapters teach the multimodal encoder words that it does not know.

    python examples/with_peft.py

The words are German, for what depth maps show. The weights themselves stay as they are until the adapters are merged.
"""

import tempfile
from typing import Any

import bundled
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models

# bathroom, bedroom, characters, exterior, kitchen, lights, living room, miscellaneous, office: labels 0 to 8
WORDS = ["bad", "schlafzimmer", "figuren", "garten", "küche", "lampen", "wohnzimmer", "sonstiges", "büro"]
# BERT's names, ViT's, and the last layer of the depth tower.
TARGETS = ["query", "value", "q_proj", "v_proj", "depth_encoder.fc.6"]
STEPS, BATCH = 30, 32


def main() -> None:
    """Train adapters, save them, load them over the base model again, and merge them."""
    train, test = (bundled.scenes("objects", split) for split in ("train", "test"))
    labels, truth = (torch.tensor(scenes["label"]) for scenes in (train, test))
    base = AutoModel.from_pretrained(bundled.MULTIMODAL, dtype="float32")
    prompts = base.text_tokenizer(WORDS, padding=True, return_tensors="pt")
    maps = base.depth_processor(train["depth"], return_tensors="pt")["pixel_values"]

    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=8, target_modules=TARGETS))
    trained, total = model.get_nb_trainable_parameters()
    print(f"trains {trained:,} of {total:,} parameters")

    def accuracy() -> float:
        similarities = model.similarity(model.encode_depth(test["depth"]), model.encode_text(WORDS))
        return (similarities.argmax(1) == truth).float().mean().item()

    before = accuracy()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(STEPS):
        rows = torch.randperm(len(train))[:BATCH]
        optimizer.zero_grad()
        cross_entropy(model(**prompts, depth_values=maps[rows]).logits_per_depth, labels[rows]).backward()
        optimizer.step()
    print(f"right category by zero-shot: {before:.3f} before, {accuracy():.3f} after {STEPS} steps")

    embeddings = model.encode_text(WORDS)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(bundled.MULTIMODAL, dtype="float32"), folder)
    difference = (loaded.encode_text(WORDS) - embeddings).abs().max().item()
    print(f"adapter saved and loaded: embeddings differ by {difference:.1e}")
    merged: Any = model.merge_and_unload()  # an ordinary MultimodalEncoderModel again
    difference = (merged.encode_text(WORDS) - embeddings).abs().max().item()
    print(f"merged into a {type(merged).__name__}: embeddings differ by {difference:.1e}")


if __name__ == "__main__":
    main()
