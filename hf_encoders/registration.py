"""Registers the classes of this package with transformers, in whichever order the two are imported.

Transformers' auto classes take seconds to import, and so do models. `import hf_encoders` waits for neither: a registry
of transformers gets proxies as soon as it has been imported, and a proxy imports our class when it is first used. The
class cannot be imported earlier: transformers imports its registries while others of its modules are half imported.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Unpack

from wrapt import lazy_import, register_post_import_hook

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from .arrays import AnyArray
    from .models.backend import Backend
    from .models.saved_processor import PushOptions
    from .models.tower import Tower

_AUTO = "transformers.models.auto"
_DEPTH, _MULTIMODAL = "DepthSemanticEncoderConfig", "MultimodalEncoderConfig"
# Each entry: a registry, its mapping of configurations to classes, our configuration, our class.
_ENTRIES = [
    ("modeling_auto", "MODEL_MAPPING", _DEPTH, "DepthSemanticEncoderModel"),
    ("modeling_auto", "MODEL_MAPPING", _MULTIMODAL, "MultimodalEncoderModel"),
    *[
        ("modeling_auto", f"MODEL_FOR_{task}_MAPPING", config, model)
        for task, config, model in (
            ("IMAGE_CLASSIFICATION", _DEPTH, "DepthSemanticEncoderForImageClassification"),
            ("ZERO_SHOT_IMAGE_CLASSIFICATION", _MULTIMODAL, "MultimodalEncoderModel"),
        )
    ],
    ("image_processing_auto", "IMAGE_PROCESSOR_MAPPING", _DEPTH, "DepthImageProcessor"),
    ("processing_auto", "PROCESSOR_MAPPING", _MULTIMODAL, "MultimodalEncoderProcessor"),
]
_PIPELINES = {
    "depth-feature-extraction": "DepthFeatureExtractionPipeline",
    "depth-zero-shot-classification": "DepthZeroShotClassificationPipeline",
}

# What models/ reads by data/depth_formats.py; ".tif" stands for the TIFF files that Pillow does not read.
_DEPTH_FORMATS = (".pfm", ".exr", ".h5", ".hdf5", ".mat", ".tif")


def register_when_imported(modules: Mapping[str, str]) -> None:
    """Register each class once its registry and our module are imported; at once where they are already.

    Args:
        modules: public name → its module in this package.
    """

    def when_ours(name: str, hook: Callable[[ModuleType], None]) -> None:
        register_post_import_hook(hook, f"{__package__}.{modules[name]}")

    def bring(name: str, registry: str) -> None:  # the module registers itself once it is complete
        register_post_import_hook(lambda _: import_module(f"{__package__}.{modules[name]}"), registry)

    for config in (_DEPTH, _MULTIMODAL):
        bring(config, f"{_AUTO}.configuration_auto")
        when_ours(config, partial(_register_config, config))
    for entry in _ENTRIES:
        name = entry[-1]
        register_post_import_hook(partial(_register_proxy, entry), f"{_AUTO}.{entry[0]}")
        when_ours(name, partial(_register_class, entry))
    for task, name in _PIPELINES.items():
        bring(name, "transformers.pipelines")
        when_ours(name, partial(_register_pipeline, task, name))
    register_post_import_hook(_push_whole_repos, f"{__package__}.models.saved_processor")
    register_post_import_hook(_register_backends, f"{__package__}.models.backend")
    register_post_import_hook(_register_depth_formats, f"{__package__}.models.depth_map_files")


def _register_config(name: str, ours: ModuleType) -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    config = getattr(ours, name)
    AutoConfig.register(config.model_type, config)


def _register_proxy(entry: tuple[str, str, str, str], registry: ModuleType) -> None:
    _register(entry, lazy_import(__package__, entry[-1], interface=type))


def _register_class(entry: tuple[str, str, str, str], ours: ModuleType) -> None:
    _register(entry, getattr(ours, entry[-1]))


def _register(entry: tuple[str, str, str, str], value: object) -> None:
    registry, mapping, config, _ = entry
    if registry == "image_processing_auto":
        # One class serves both backends: transformers asks for "torchvision" where it is installed, else for "pil".
        value = {"pil": value, "torchvision": value}
    key = getattr(import_module(__package__), config)
    # `register` of the auto classes calls this too, after checks that would import the class.
    getattr(import_module(f"{_AUTO}.{registry}"), mapping).register(key, value)


def _register_pipeline(task: str, name: str, ours: ModuleType) -> None:
    from transformers.models.auto.modeling_auto import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    # This default, no model, reaches the pipeline, which says so; without it transformers ends in a KeyError.
    PIPELINE_REGISTRY.register_pipeline(
        task, getattr(ours, name), pt_model=AutoModel, default={"model": (None, None)}, type="multimodal"
    )


def _push_whole_repos(ours: ModuleType) -> None:
    ours.SavedProcessorMixin.push_with(_push_saved)


def _push_saved(
    save: Callable[[], object], folder: Path, repo_id: str, /, *, tags: Sequence[str], **options: "Unpack[PushOptions]"
) -> "CommitInfo":
    from .hub.push_to_hub import push_saved  # here: importing a model does not import cards and templates

    return push_saved(save, folder, repo_id, tags=tags, **options)


def _register_backends(ours: ModuleType) -> None:
    for name in ("onnx", "openvino"):
        ours.register_compiler(name, _compiled_backend)


def _compiled_backend(tower: "Tower", backend: str, dtype: str | None) -> "Backend":
    from .backends.compiled import compiled_backend

    return compiled_backend(tower, backend, dtype)


def _register_depth_formats(ours: ModuleType) -> None:
    ours.register_readers({suffix: partial(_read_depth, suffix) for suffix in _DEPTH_FORMATS})


def _read_depth(suffix: str, path: "Path") -> "AnyArray":
    from .data.depth_formats import READERS  # here: importing a model does not import `datasets`

    return READERS[suffix](path)
