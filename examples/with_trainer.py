"""transformers.Trainer: a classifier of depth maps, started from a pretrained depth encoder.

    python examples/with_trainer.py

The encoder is the depth tower of the sample model, and stays as it is.
"""

import tempfile
from typing import Any

import bundled
import numpy as np
import torch
from transformers import AutoModel, AutoModelForImageClassification, EvalPrediction, Trainer, TrainingArguments

import hf_encoders  # noqa: F401 - registers the models


def main() -> None:
    """Train the classifier, and measure it before and after."""
    train, test = (bundled.scenes("objects", split) for split in ("train", "test"))
    train = train.select(range(0, len(train), 3))  # 200 maps
    names = train.features["label"].names
    with tempfile.TemporaryDirectory() as folder:
        AutoModel.from_pretrained(bundled.MULTIMODAL, dtype="float32").depth_encoder.save_pretrained(folder)
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
        model = AutoModelForImageClassification.from_pretrained(folder, num_labels=len(names), **labels)
        processor = model.processor
    model.freeze(["encoder"])  # trains the classifier alone; leave it out to fine-tune everything

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        inputs = processor([row["depth"] for row in rows], return_tensors="pt")
        return {**inputs, "labels": torch.tensor([row["label"] for row in rows])}

    def accuracy(predicted: EvalPrediction) -> dict[str, float]:
        logits = np.asarray(predicted.predictions)
        return {"accuracy": float(np.mean(logits.argmax(-1) == predicted.label_ids))}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=5,
            learning_rate=2e-3,
            per_device_train_batch_size=25,
            per_device_eval_batch_size=50,
            remove_unused_columns=False,  # `collate` reads the columns
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(model, arguments, collate, train, test, compute_metrics=accuracy)
        before = trainer.evaluate()["eval_accuracy"]
        trainer.train()
        after = trainer.evaluate()["eval_accuracy"]
        trainer.save_model(folder)
        loaded = AutoModelForImageClassification.from_pretrained(folder)
    print(f"accuracy over {len(names)} labels: {before:.3f} before, {after:.3f} after")
    row = test[0]
    with torch.inference_mode():
        logits = loaded(**processor(row["depth"], return_tensors="pt")).logits
    print(f"a map of a {row['noun']}: {loaded.config.id2label[int(logits.argmax())]} (in truth {names[row['label']]})")


if __name__ == "__main__":
    main()
