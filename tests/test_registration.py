"""Whoever imports first, transformers' auto classes and pipelines know the classes of this package."""

import subprocess
import sys

import pytest
import transformers
from transformers import AutoConfig, pipeline

import hf_encoders

# What a person may run, each in a process of its own; `depth` and `multimodal` are repos.
ORDERS = {
    "ours first": """
import hf_encoders
from transformers import AutoConfig, AutoModel
assert not [name for name in sys.modules if name.startswith("hf_encoders.models.modeling")]
assert AutoConfig.from_pretrained(depth).model_type == "depth_semantic_encoder"
assert AutoModel.from_pretrained(multimodal)._push.__module__ == "hf_encoders.registration"
assert transformers.MODEL_MAPPING[hf_encoders.MultimodalEncoderConfig] is hf_encoders.MultimodalEncoderModel
assert transformers.AutoProcessor.from_pretrained(multimodal).depth_image_processor
assert transformers.AutoModelForZeroShotImageClassification.from_pretrained(multimodal)
""",
    "theirs first": """
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
import hf_encoders
assert isinstance(AutoImageProcessor.from_pretrained(depth), hf_encoders.DepthImageProcessor)
assert AutoModelForImageClassification.from_pretrained(depth).encoder.encode
assert pipeline("depth-zero-shot-classification", model=multimodal).model
""",
    # Transformers imports its registries while both its own and our modules are half imported.
    "a processor first": """
import hf_encoders.models.processing_multimodal_encoder
assert transformers.AutoModel.from_pretrained(depth).encode
""",
    "a registry first": """
import hf_encoders
import transformers.models.auto.processing_auto
assert hf_encoders.MultimodalEncoderModel.from_pretrained(multimodal).processor
assert transformers.pipeline("depth-feature-extraction", model=depth).image_processor
""",
}
# Forks are quicker than processes that import torch anew; of transformers there is only the lazy shell.
RUN = """
import multiprocessing, sys, traceback
import torch
import transformers
def child(name, code, depth, multimodal):
    exec(code, {"sys": sys, "transformers": transformers, "depth": depth, "multimodal": multimodal})
for name, code in ORDERS.items():
    process = multiprocessing.get_context("fork").Process(target=child, args=(name, code, *sys.argv[1:]))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(name)
"""


def test_models_load_in_any_order_of_imports(tiny_encoder, tiny_multimodal, tmp_path):
    repos = [tmp_path / "depth", tmp_path / "multimodal"]
    for model, repo in zip((tiny_encoder, tiny_multimodal), repos, strict=True):
        model.save_pretrained(repo)
    code = f"ORDERS = {ORDERS!r}\n{RUN}"
    result = subprocess.run([sys.executable, "-c", code, *map(str, repos)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_all_is_registered():
    depth, multimodal = hf_encoders.DepthSemanticEncoderConfig, hf_encoders.MultimodalEncoderConfig
    assert isinstance(AutoConfig.for_model("depth_semantic_encoder"), depth)
    assert isinstance(AutoConfig.for_model("multimodal_encoder"), multimodal)
    image_processors = transformers.IMAGE_PROCESSOR_MAPPING[depth]
    for found, name in (
        (transformers.MODEL_MAPPING[depth], "DepthSemanticEncoderModel"),
        (transformers.MODEL_MAPPING[multimodal], "MultimodalEncoderModel"),
        (
            transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[depth],
            "DepthSemanticEncoderForImageClassification",
        ),
        (transformers.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING[multimodal], "MultimodalEncoderModel"),
        (transformers.PROCESSOR_MAPPING[multimodal], "MultimodalEncoderProcessor"),
        (image_processors["pil"], "DepthImageProcessor"),
        (image_processors["torchvision"], "DepthImageProcessor"),
    ):
        assert found is getattr(hf_encoders, name)  # no proxy, once the class is imported


@pytest.mark.parametrize("task", ["depth-feature-extraction", "depth-zero-shot-classification"])
def test_a_pipeline_without_a_model_says_so(task):
    with pytest.raises(ValueError, match=f"{task} has no default model"):
        pipeline(task)
