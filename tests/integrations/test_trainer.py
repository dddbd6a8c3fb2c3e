"""transformers.Trainer: a classifier of depth maps, and contrastive training of the multimodal encoder."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForImageClassification, Trainer, TrainingArguments

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from tests.conftest import TINY
from tests.helpers.multimodal_models import SIZE, tiny_model

pytestmark = pytest.mark.numeric

# The best model is that of the largest loss, which is not the last one.
KEEP_THE_WORST = {
    "save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss", "greater_is_better": True,
}  # fmt: skip
NAMES = ["low", "high", "slope"]
# The loss of a classifier with its backbone falls to a fifth of what it was. In fewer and larger steps rounding alone
# decides whether it falls at all.
LEARNS = {"num_train_epochs": 20, "learning_rate": 3e-3}


def arguments(folder, **options):
    defaults = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 5, "use_cpu": True,
        "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(folder), **defaults | options)


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class TestClassifier:
    @pytest.fixture
    def repo(self, tmp_path):
        model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY | {"image_size": 32}))
        model.save_pretrained(tmp_path / "encoder")
        return tmp_path / "encoder"

    @pytest.fixture
    def model(self, repo):
        labels = dict(enumerate(NAMES))
        return AutoModelForImageClassification.from_pretrained(repo, num_labels=len(NAMES), id2label=labels)

    @pytest.fixture
    def maps(self, model):
        """Twenty-four maps of three kinds, processed: what a `datasets` column would hold."""
        ramp = np.linspace(0, 1, 32, dtype=np.float32)
        plain = [np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32)), np.abs(ramp + ramp[:, None] - 1)]
        noise = np.random.default_rng(0).normal(0, 0.05, (24, 32, 32)).astype(np.float32)
        values = [plain[index % 3] + one for index, one in enumerate(noise)]
        pixels = model.processor(values, return_tensors="pt")["pixel_values"]
        return [{"pixel_values": one, "labels": index % 3} for index, one in enumerate(pixels)]

    def trainer(self, model, maps, folder, **options):
        return Trainer(
            model, arguments(folder, **options), train_dataset=maps, eval_dataset=maps, compute_metrics=accuracy
        )

    def test_fine_tuning(self, model, maps, tmp_path):
        trainer = self.trainer(model, maps, tmp_path, **LEARNS)
        before = trainer.evaluate()
        trainer.train()
        after = trainer.evaluate()
        assert after["eval_loss"] < 0.7 * before["eval_loss"] and after["eval_accuracy"] > 0.8
        trainer.save_model(tmp_path / "saved")
        loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
        assert loaded.config.id2label == dict(enumerate(NAMES))
        pixel_values = torch.stack([one["pixel_values"] for one in maps])
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(loaded(pixel_values).logits, model.eval()(pixel_values).logits, rtol=0, atol=1e-4)

    def test_a_push_is_one_commit_of_weights_processor_and_card(self, model, maps, tmp_path, hub_client):
        options = {"hub_model_id": "tester/classifier", "max_steps": 1}
        trainer = self.trainer(model, maps, tmp_path / "run", **options)
        trainer.train()
        trainer.push_to_hub(commit_message="Trained")
        titles = [entry.title for entry in hub_client.list_repo_commits("tester/classifier")]
        assert titles == ["Trained", "initial commit"]
        files = set(hub_client.list_repo_files("tester/classifier"))
        assert {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"} <= files
        loaded = AutoModelForImageClassification.from_pretrained("tester/classifier")
        assert loaded.processor.to_dict() == model.processor.to_dict()
        pixel_values = torch.stack([one["pixel_values"] for one in maps])
        assert torch.equal(loaded(pixel_values).logits, model.eval()(pixel_values).logits)

    def test_frozen_backbone(self, model, maps, tmp_path):
        model.freeze(["encoder"])
        before = copy.deepcopy(model.state_dict())
        trainer = self.trainer(model, maps, tmp_path, learning_rate=0.1, num_train_epochs=4)
        trainer.train()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"classifier.weight", "classifier.bias"}  # so no BatchNorm statistics
        assert min(logged(trainer, "loss")) < 0.9 * logged(trainer, "loss")[0]

    def test_training_changes_the_statistics_of_an_unfrozen_backbone(self, model, maps, tmp_path):
        before = copy.deepcopy(model.state_dict())
        self.trainer(model, maps, tmp_path, max_steps=1).train()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert {"encoder.stem.1.running_mean", "encoder.stem.0.weight"} <= changed

    def test_resuming_gives_the_same_model(self, model, maps, tmp_path):
        start = copy.deepcopy(model)
        self.trainer(model, maps, tmp_path, save_strategy="epoch").train()
        again = self.trainer(start, maps, tmp_path, save_strategy="no")
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
        torch.testing.assert_close(start.state_dict(), model.state_dict())

    def test_best_model_is_loaded(self, model, maps, tmp_path):
        trainer = self.trainer(model, maps, tmp_path, **KEEP_THE_WORST, **LEARNS)
        trainer.train()
        losses = logged(trainer, "eval_loss")
        assert max(losses) > losses[-1] + 0.01
        assert trainer.evaluate()["eval_loss"] == pytest.approx(max(losses), rel=1e-5)

    @pytest.mark.parametrize("kind", ["one label", "many labels", "regression"])
    def test_accumulated_batches_give_the_gradient_of_the_whole(self, kind, model, maps, tmp_path):
        if kind == "many labels":
            maps = [one | {"labels": nn.functional.one_hot(torch.tensor(one["labels"]), 3).float()} for one in maps]
        elif kind == "regression":
            model = type(model)(DepthSemanticEncoderConfig(**TINY, num_labels=1))
            maps = [one | {"labels": float(one["labels"])} for one in maps]
        model.freeze(["encoder"])  # statistics depend on the batch
        norms = []
        for size, steps in ((8, 1), (2, 4)):
            options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
            trainer = self.trainer(without_dropout(copy.deepcopy(model)), maps, tmp_path, **options)
            trainer.train()
            norms.append(logged(trainer, "grad_norm")[0])
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)

    def test_gradient_checkpointing_is_refused(self, model, maps, tmp_path):
        # It would update the statistics of BatchNorm twice.
        with pytest.raises(ValueError, match="does not support .* checkpointing"):
            self.trainer(model, maps, tmp_path, gradient_checkpointing=True).train()

    def test_bfloat16(self, model, maps, tmp_path):
        trainer = self.trainer(model, maps, tmp_path, bf16=True, **LEARNS)
        trainer.train()
        assert min(logged(trainer, "loss")[-3:]) < 0.9 * logged(trainer, "loss")[0]
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def accuracy(predicted):
    return {"accuracy": (predicted.predictions.argmax(-1) == predicted.label_ids).mean()}


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


class TestContrastive:
    """As with CLIP: the batch says return_loss, and Trainer keeps the columns that the collate function reads."""

    @pytest.fixture
    def rows(self):
        words = ["chair", "table", "lamp"]
        pixels = np.random.default_rng(0).random((12, 3, SIZE, SIZE), dtype=np.float32)
        return [
            {"caption": f"a {'red green blue left'.split()[index // 3]} {words[index % 3]}", "image": one}
            for index, one in enumerate(pixels)
        ]

    def collate(self, model, depth):
        def batch(rows):
            captions, images = [row["caption"] for row in rows], [row["image"] for row in rows]
            maps = {"depth": [image[0] for image in images]} if depth else {}
            values = model.processor(text=captions, images=images, **maps, padding=True, return_tensors="pt")
            return {**values, "return_loss": True}

        return batch

    def trainer(self, model, rows, folder, depth=False, compute_metrics=None, **options):
        defaults = {"remove_unused_columns": False, "per_device_train_batch_size": 6, "learning_rate": 2e-3}
        return Trainer(
            model, arguments(folder, **defaults | options), self.collate(model, depth), rows, rows,
            compute_metrics=compute_metrics,
        )  # fmt: skip

    @pytest.mark.parametrize("depth", [False, True])
    @pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"bf16": True}], ids=str)
    def test_loss_falls(self, options, depth, rows, tmp_path):
        model = tiny_model(depth)
        trainer = self.trainer(model, rows, tmp_path, depth, num_train_epochs=5, **options)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        assert trainer.evaluate()["eval_loss"] < 0.9 * before
        assert min(logged(trainer, "loss")) < logged(trainer, "loss")[0]

    @pytest.mark.parametrize("depth", [False, True])
    def test_metrics_get_the_embeddings_of_all_rows(self, depth, rows, tmp_path):
        got = []

        def metrics(predicted):
            got.extend(predicted.predictions)
            return {"modalities": len(got)}

        model = tiny_model(depth)
        scores = self.trainer(model, rows, tmp_path, depth, compute_metrics=metrics).evaluate()
        assert scores["eval_modalities"] == len(got) == 2 + depth and scores["eval_loss"] > 0
        expected = [model.encode_text([row["caption"] for row in rows]), model.encode_image([r["image"] for r in rows])]
        for embeds, wanted in zip(got, expected, strict=False):
            assert embeds.shape == (12, 8)  # though the last batch was smaller
            np.testing.assert_allclose(embeds, wanted.numpy(), atol=1e-5)

    def test_a_batch_without_return_loss_is_an_error(self, rows, tmp_path):
        model = tiny_model(depth=False)
        trainer = self.trainer(model, rows, tmp_path)
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: {key: v for key, v in collate(rows).items() if key != "return_loss"}
        with pytest.raises(ValueError, match="did not return a loss"):
            trainer.train()

    def test_resuming_gives_the_same_model(self, rows, tmp_path):
        model, start = tiny_model(), tiny_model()
        self.trainer(model, rows, tmp_path, depth=True, save_strategy="epoch").train()
        # Another start: what the checkpoint does not bring would stay different.
        with torch.no_grad():
            for parameter in start.parameters():
                parameter.add_(0.1)
        again = self.trainer(start, rows, tmp_path, depth=True)
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        torch.testing.assert_close(start.state_dict(), model.state_dict())

    def test_best_model_is_loaded(self, rows, tmp_path):
        model = tiny_model(depth=False)
        trainer = self.trainer(model, rows, tmp_path, **KEEP_THE_WORST)
        trainer.train()
        losses = logged(trainer, "eval_loss")
        assert max(losses) > losses[-1] + 0.01
        assert trainer.evaluate()["eval_loss"] == pytest.approx(max(losses), rel=1e-4)
        best = AutoModel.from_pretrained(trainer.state.best_model_checkpoint)
        torch.testing.assert_close(best.encode_image(rows[0]["image"]), model.encode_image(rows[0]["image"]))

    def test_frozen_towers(self, rows, tmp_path):
        model = tiny_model()
        model.freeze(["text_encoder", "visual_encoder", "depth_encoder"])
        before = copy.deepcopy(model.state_dict())
        self.trainer(model, rows, tmp_path, depth=True, max_steps=2).train()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {
            f"{name}_projection.{part}" for name in ("text", "visual", "depth") for part in ("weight", "bias")
        } | {"temperature"}
