"""Registers the classes of this package with transformers, in whichever order the two are imported.

Transformers' auto classes take seconds to import, and so do models. `import hf_encoders` waits for neither: a registry
of transformers gets proxies as soon as it has been imported, and a proxy imports our class when it is first used. The
class cannot be imported earlier: transformers imports its registries while others of its modules are half imported.

Wrapt, whose hooks these are, takes longer to import than a command's help. It is imported with the first module that a
hook is for.
"""

import sys
from _thread import allocate_lock  # `threading` takes longer to import
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from pathlib import Path

    from huggingface_hub import CommitInfo
    from transformers.modeling_utils import PreTrainedModel

    from .arrays import AnyArray
    from .models.backend import Backend, Compute
    from .models.encoding import BackendName
    from .models.multimodal_towers import Towers
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
    hooks = [*_hooks(modules)]
    names = {name for name, _ in hooks}
    if names & sys.modules.keys():
        _hang(hooks)
    else:
        sys.meta_path.insert(0, _FirstImport(names, partial(_hang, hooks)))


class _FirstImport:
    """A finder of modules that does something just before the first of some modules is imported."""

    def __init__(self, names: set[str], act: Callable[[], None]):
        self._names, self._act, self._lock = names, act, allocate_lock()

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Act if it is the time; other finders find the module."""
        if name not in self._names:
            return None
        with self._lock:  # threads import too
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._act()
        return find_spec(name)  # asks the finders that there are now


def _hang(hooks: Sequence[tuple[str, Callable[[ModuleType], None]]]) -> None:
    from wrapt import register_post_import_hook

    for name, hook in hooks:
        register_post_import_hook(hook, name)


def _hooks(modules: Mapping[str, str]) -> Iterator[tuple[str, Callable[[ModuleType], None]]]:
    """The name of a module, and what is done once it is imported."""

    def ours(name: str) -> str:
        return f"{__package__}.{modules[name]}"

    def bring(name: str) -> Callable[[ModuleType], None]:  # the module registers itself once it is complete
        def imports(_: ModuleType) -> None:
            import_module(ours(name))

        return imports

    for config in (_DEPTH, _MULTIMODAL):
        yield f"{_AUTO}.configuration_auto", bring(config)
        yield ours(config), partial(_register_config, config)
    for entry in _ENTRIES:
        yield f"{_AUTO}.{entry[0]}", partial(_register_proxy, entry)
        yield ours(entry[-1]), partial(_register_class, entry)
    for task, name in _PIPELINES.items():
        yield "transformers.pipelines", bring(name)
        yield ours(name), partial(_register_pipeline, task, name)
    yield f"{__package__}.models.repo_pipelines", _forget_pipelines_of_repos
    yield f"{__package__}.models.saved_processor", _push_whole_repos
    yield f"{__package__}.models.multimodal_towers", _register_join
    yield f"{__package__}.models.backend", _register_backends
    yield f"{__package__}.models.depth_map_files", _register_depth_formats


def _register_config(name: str, ours: ModuleType) -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    config = getattr(ours, name)
    AutoConfig.register(config.model_type, config)


def _register_proxy(entry: tuple[str, str, str, str], registry: ModuleType) -> None:
    from wrapt import lazy_import

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


def _forget_pipelines_of_repos(ours: ModuleType) -> None:
    ours.RepoPipelinesMixin.forget()


def _push_whole_repos(ours: ModuleType) -> None:
    ours.SavedProcessorMixin.push_with(_push_saved)


def _push_saved(
    save: Callable[[], object],
    folder: "Path",
    repo_id: str,
    /,
    *,
    tags: Sequence[str],
    **options: "Unpack[PushOptions]",
) -> "CommitInfo":
    from .hub.push_to_hub import push_saved  # here: importing a model does not import cards and templates

    return push_saved(save, folder, repo_id, tags=tags, **options)


def _register_join(ours: ModuleType) -> None:
    ours.register_join(_join)


def _join(towers: "Towers") -> "tuple[type[PreTrainedModel], Towers]":
    from .adopt.joining import join_with_code  # here: importing a model does not import what adopts

    return join_with_code(towers)


def _register_backends(ours: ModuleType) -> None:
    for name in ("onnx", "openvino"):
        ours.register_compiler(name, _compiled_backend)
    ours.register_choice(_choose_backend)
    ours.register_fold(_folded_backend)
    ours.register_spread(_spread)


def _compiled_backend(tower: "Tower", backend: str, dtype: str | None) -> "Backend":
    from .backends.compiled import compiled_backend

    return compiled_backend(tower, backend, dtype)


def _choose_backend(tower: "Tower", inputs: int | None) -> "BackendName":
    from .backends.choosing import choose_backend

    return choose_backend(tower, inputs).backend


def _folded_backend(tower: "Tower") -> "Backend | None":
    from .backends.compiled import folded_backend

    return folded_backend(tower)


def _spread(tower: "Tower", devices: "list[str]") -> "Compute":
    from .backends.device_pool import spread

    return spread(tower, devices)


def _register_depth_formats(ours: ModuleType) -> None:
    ours.register_readers({suffix: partial(_read_depth, suffix) for suffix in _DEPTH_FORMATS})


def _read_depth(suffix: str, path: "Path") -> "AnyArray":
    from .data.depth_formats import READERS  # here: importing a model does not import `datasets`

    return READERS[suffix](path)
