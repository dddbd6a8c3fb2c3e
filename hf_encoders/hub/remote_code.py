"""Writes the code that travels with the weights, for people who load them without this package.

They read the files of the repo, then load it with `trust_remote_code=True`. Where this package is imported,
transformers uses the package's classes instead.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.depth_pipelines import DepthFeatureExtractionPipeline, DepthZeroShotClassificationPipeline
from ..models.image_processing_depth import DepthImageProcessor
from ..models.modeling_depth_semantic_encoder import (
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
)
from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..models.processing_multimodal_encoder import MultimodalEncoderProcessor
from ..models.repo_code import code_files
from .kind import DEPTH, MULTIMODAL, is_joined, repo_kind

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
# Kind of model → file of settings → auto class → our class, as the package registers them when it is imported.
_AUTO_CLASSES: dict[str, dict[str, dict[str, type]]] = {
    DEPTH: {
        "config.json": {
            "AutoConfig": DepthSemanticEncoderConfig,
            "AutoModel": DepthSemanticEncoderModel,
            "AutoModelForImageClassification": DepthSemanticEncoderForImageClassification,
        },
        _PROCESSOR: {"AutoImageProcessor": DepthImageProcessor},
    },
    MULTIMODAL: {
        "config.json": {
            "AutoConfig": MultimodalEncoderConfig,
            "AutoModel": MultimodalEncoderModel,
            "AutoModelForZeroShotImageClassification": MultimodalEncoderModel,
        },
        "processor_config.json": {"AutoProcessor": MultimodalEncoderProcessor},
    },
}
# Kind of model → task → the pipeline of depth maps, as the package registers it.
_PIPELINES: dict[str, dict[str, type]] = {
    DEPTH: {"depth-feature-extraction": DepthFeatureExtractionPipeline},
    MULTIMODAL: {
        "depth-feature-extraction": DepthFeatureExtractionPipeline,
        "depth-zero-shot-classification": DepthZeroShotClassificationPipeline,
    },
}


def write_remote_code(repo: Path) -> list[Path]:
    """Copy the model files of this package into a repo that lacks them, and name their classes in its settings.

    The settings name models and processors in `auto_map`, and in `custom_pipelines` the pipelines of a model that
    embeds depth maps.

    Args:
        repo: folder of a model that this package saved.

    Returns:
        The files of code.

    Raises:
        InputError: if this is not a repo of this project.
    """
    kind = repo_kind(repo)
    if is_joined(repo):  # it was saved with all of its code, whose classes are its own
        return [repo / name for name in code_files(str(repo), "main")]
    written: list[type] = []
    for name, classes in _AUTO_CLASSES.get(kind, {}).items():
        if (repo / name).is_file():  # a repo may lack a processor
            auto_map = {auto: _place(cls) for auto, cls in classes.items()}
            _add_settings(repo / name, {"auto_map": auto_map})
            written += classes.values()
    if pipelines := _PIPELINES.get(kind, {}) if _embeds_depth(repo) else {}:
        tasks = {task: {"impl": _place(cls), "pt": ["AutoModel"]} for task, cls in pipelines.items()}
        _add_settings(repo / _CONFIG, {"custom_pipelines": tasks})
        written += pipelines.values()
    return copy_code(repo, written)


def write_depth_processor_code(repo: Path) -> list[Path]:
    """Copy the code of the processor of depth maps alone, for a network whose own code is in the repo.

    Args:
        repo: folder with the settings of a `DepthImageProcessor`.

    Returns:
        The files of code.
    """
    _add_settings(repo / _PROCESSOR, {"auto_map": {"AutoImageProcessor": _place(DepthImageProcessor)}})
    return copy_code(repo, [DepthImageProcessor])


def depth_processor_modules() -> tuple[str, ...]:
    """The names of the modules that `write_depth_processor_code` writes."""
    return tuple(sorted(Path(file).stem for file in files_of([DepthImageProcessor])))


def copy_code(repo: Path, classes: Iterable[type]) -> list[Path]:
    """Copy the files of some classes of `models`, and those that they import from beside them, into a repo.

    Returns:
        The files.
    """
    return [shutil.copyfile(source, repo / Path(source).name) for source in map(Path, sorted(files_of(classes)))]


def files_of(classes: Iterable[type]) -> set[str]:
    """The files of classes, and those that they import from beside them."""
    files: set[str] = set()
    for cls in classes:
        module = str(sys.modules[cls.__module__].__file__)
        files |= {module, *get_relative_import_files(module)}
    return files


def _place(cls: type) -> str:
    """Where transformers finds a class in the repo: FILE.CLASS."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def _embeds_depth(repo: Path) -> bool:
    config = json.loads((repo / _CONFIG).read_text(encoding="utf-8"))
    return config["model_type"] == DEPTH or config.get("depth_config") is not None


def _add_settings(settings: Path, added: Mapping[str, object]) -> None:
    """Write into a file of settings, in the form that transformers gives such a file."""
    content = json.loads(settings.read_text(encoding="utf-8")) | added
    settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
