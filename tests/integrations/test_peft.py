"""PEFT: LoRA on the towers and on the depth encoder; adapters are saved, loaded and merged."""

import itertools

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModel, ResNetConfig

from hf_encoders import (
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
    MultimodalEncoderModel,
)
from tests.conftest import TINY
from tests.helpers.multimodal_models import SIZE, tiny_model, tiny_model_config, tiny_processor

pytestmark = pytest.mark.numeric

TOWERS = ["query", "value", "q_proj", "v_proj"]  # BERT's names, then ViT's
TEXTS = ["a red chair", "the lamp"]
IMAGES = list(np.random.default_rng(0).random((2, 3, SIZE, SIZE), dtype=np.float32))
MAPS = np.random.default_rng(1).random((2, SIZE, SIZE), dtype=np.float32)


def embeddings(model):
    return {"text": model.encode_text(TEXTS), "image": model.encode_image(IMAGES), "depth": model.encode_depth(MAPS)}


def train(lora, inputs, loss):
    """A few steps on what wants a gradient, and the names of what changed."""
    before = {name: value.clone() for name, value in lora.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in lora.parameters() if p.requires_grad], lr=1e-2)
    lora.train()
    for _ in range(3):
        optimizer.zero_grad()
        loss(lora(**inputs)).backward()
        optimizer.step()
    lora.eval()
    return {name for name, value in lora.state_dict().items() if not torch.equal(value, before[name])}


def processed(model):
    values = model.processor(text=TEXTS, images=IMAGES, depth=list(MAPS), padding=True, return_tensors="pt")
    return {**values, "return_loss": True}


class TestMultimodal:
    @pytest.fixture
    def repo(self, tmp_path):
        tiny_model().save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    @pytest.mark.parametrize("task", [None, TaskType.FEATURE_EXTRACTION])
    @pytest.mark.parametrize("saved", [None, ["text_projection", "visual_projection", "depth_projection"]])
    def test_train_save_load_and_merge(self, task, saved, repo, tmp_path):
        base = AutoModel.from_pretrained(repo)
        before = embeddings(base)
        # fc.6: the last layer of the depth tower.
        targets = [*TOWERS, "fc.6"]
        lora = get_peft_model(base, LoraConfig(task_type=task, r=2, target_modules=targets, modules_to_save=saved))
        torch.testing.assert_close(embeddings(lora), before)  # an adapter starts at zero
        changed = train(lora, processed(base), lambda outputs: outputs.loss)
        adapted = {name for name in changed if "lora_" in name}
        others = {name.split(".")[-4] for name in changed - adapted}  # ….text_projection.modules_to_save.default.weight
        # A and B of query and value in two layers of two towers, and of the last layer of the depth tower.
        assert len(adapted) == 2 * 2 * 4 + 2 and others == set(saved or [])
        after = embeddings(lora)
        for name in before:
            assert not torch.allclose(after[name], before[name], atol=1e-4), name

        lora.save_pretrained(tmp_path / "adapter")
        loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(repo), tmp_path / "adapter").eval()
        torch.testing.assert_close(embeddings(loaded), after)
        with loaded.disable_adapter():
            torch.testing.assert_close(embeddings(loaded), before)

        merged = lora.merge_and_unload()
        assert type(merged) is MultimodalEncoderModel
        torch.testing.assert_close(embeddings(merged), after, atol=1e-5, rtol=1e-5)
        merged.save_pretrained(tmp_path / "merged")
        torch.testing.assert_close(embeddings(AutoModel.from_pretrained(tmp_path / "merged")), embeddings(merged))

    def test_the_adapters_of_the_hub_mixin(self, repo, tmp_path):
        model = AutoModel.from_pretrained(repo)
        model.add_adapter(LoraConfig(r=2, target_modules=TOWERS, init_lora_weights=False))
        model.eval()
        after = embeddings(model)
        model.save_pretrained(tmp_path / "adapter")
        again = AutoModel.from_pretrained(repo)
        again.load_adapter(str(tmp_path / "adapter"))
        torch.testing.assert_close(embeddings(again), after)

    def test_a_convolutional_image_tower(self):
        config = tiny_model_config()
        config.vision_config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        model = MultimodalEncoderModel(config)
        model.processor = tiny_processor()
        options = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=2, target_modules=["query", "convolution"])
        lora = get_peft_model(model, options)
        changed = train(lora, processed(model), lambda outputs: outputs.loss)
        assert any("visual_encoder" in name for name in changed) and all("lora_" in name for name in changed)


class TestDepth:
    @pytest.mark.parametrize("task", [None, TaskType.FEATURE_EXTRACTION])
    # A pattern, since the list ["fc.0"] would mean `se_block.fc.0` too.
    @pytest.mark.parametrize("targets", [r"fc\.[036]", ["conv1", "conv2"]], ids=str)
    def test_train_save_load_and_merge(self, targets, task, tmp_path):
        base = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).eval()
        base.save_pretrained(tmp_path / "base")
        before = base.encode(MAPS)
        lora = get_peft_model(base, LoraConfig(task_type=task, r=2, target_modules=targets))
        pixel_values = base.processor(list(MAPS), return_tensors="pt")["pixel_values"]
        changed = train(lora, {"pixel_values": pixel_values}, lambda outputs: outputs.pooler_output.square().sum())
        # Adapters only: no BatchNorm statistics, though the model was in training mode.
        assert changed and all("lora_" in name for name in changed)
        after = lora.encode(MAPS)
        assert not torch.allclose(after, before, rtol=1e-3)

        lora.save_pretrained(tmp_path / "adapter")
        again = AutoModel.from_pretrained(tmp_path / "base")
        torch.testing.assert_close(PeftModel.from_pretrained(again, tmp_path / "adapter").encode(MAPS), after)
        merged = lora.merge_and_unload()
        assert type(merged) is DepthSemanticEncoderModel
        torch.testing.assert_close(merged.encode(MAPS), after, atol=1e-4, rtol=1e-4)

    def test_classifier_with_its_head(self):
        model = DepthSemanticEncoderForImageClassification(DepthSemanticEncoderConfig(**TINY, num_labels=3))
        lora = get_peft_model(model, LoraConfig(r=2, target_modules=["conv2"], modules_to_save=["classifier"]))
        inputs = {"pixel_values": torch.rand(2, 1, 64, 64), "labels": torch.tensor([0, 2])}
        changed = train(lora, inputs, lambda outputs: outputs.loss)
        heads = {name for name in changed if "lora_" not in name}
        assert heads == {f"base_model.model.classifier.modules_to_save.default.{part}" for part in ("weight", "bias")}


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_compiled_backends_follow_the_adapters(backend, tiny_multimodal):
    pytest.importorskip("openvino" if backend == "openvino" else "onnxruntime")
    model, texts = tiny_multimodal, ["a red chair", "a table"]
    own = model.encode_text(texts, backend=backend)
    for name in ("first", "second"):
        model.add_adapter(LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False), name)
    model.eval()
    seen = [own]

    def check():
        found = model.encode_text(texts, backend=backend)
        torch.testing.assert_close(found, model.encode_text(texts), atol=1e-5, rtol=0)
        seen.append(found)

    model.set_adapter("first")
    check()
    model.set_adapter("second")
    check()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(3.0)
    check()
    model.disable_adapters()
    check()
    torch.testing.assert_close(seen[-1], own, atol=1e-5, rtol=0)
    model.enable_adapters()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.merge()
    check()
    assert all((one - other).abs().max() > 1e-4 for one, other in itertools.pairwise(seen[:5]))
