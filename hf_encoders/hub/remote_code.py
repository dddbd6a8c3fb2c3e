"""Writes the code that travels with the weights, for people who load them without this package.

They read the files of the repo, then load it with `trust_remote_code=True`. Where this package is imported,
transformers uses the package's classes instead.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.image_processing_depth import DepthImageProcessor
from ..models.modeling_depth_semantic_encoder import (
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
)
from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..models.processing_multimodal_encoder import MultimodalEncoderProcessor
from .kind import DEPTH, MULTIMODAL, repo_kind

_PROCESSOR = "preprocessor_config.json"
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


def write_remote_code(repo: Path) -> list[Path]:
    """Copy the model files of this package into a repo, and name their classes in its `auto_map`s.

    Args:
        repo: folder of a model that this package saved.

    Returns:
        The files of code.

    Raises:
        InputError: if this is not a repo of this project.
    """
    return _write(repo, _AUTO_CLASSES.get(repo_kind(repo), {}))


def write_depth_processor_code(repo: Path) -> list[Path]:
    """Copy the code of the processor of depth maps alone, for a network whose own code is in the repo.

    Args:
        repo: folder with the settings of a `DepthImageProcessor`.

    Returns:
        The files of code.
    """
    return _write(repo, {_PROCESSOR: _AUTO_CLASSES[DEPTH][_PROCESSOR]})


def depth_processor_modules() -> tuple[str, ...]:
    """The names of the modules that `write_depth_processor_code` writes."""
    module = str(sys.modules[DepthImageProcessor.__module__].__file__)
    return tuple(sorted({Path(file).stem for file in (module, *get_relative_import_files(module))}))


def _write(repo: Path, files: Mapping[str, Mapping[str, type]]) -> list[Path]:
    sources = set()
    for name, classes in files.items():
        if (repo / name).is_file():  # a repo may lack a processor
            _name_classes(repo / name, classes)
            for cls in classes.values():
                module = str(sys.modules[cls.__module__].__file__)
                sources |= {module, *get_relative_import_files(module)}
    return [shutil.copyfile(source, repo / Path(source).name) for source in map(Path, sorted(sources))]


def _name_classes(settings: Path, classes: Mapping[str, type]) -> None:
    """Write the `auto_map` of a file of settings, in the form that transformers gives such a file."""
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["auto_map"] = {auto: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for auto, cls in classes.items()}
    settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
