"""Encoders that were trained in a research script, first-class on the Hugging Face Hub.

Importing the package registers its models with transformers: `AutoModel.from_pretrained` then loads them by name. It
imports neither transformers nor torch: names are imported when they are first asked for (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__ as __version__
from .models.minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - ends here where one is older
from .registration import register_when_imported

if TYPE_CHECKING:
    from .any_encoder import AnyEncoder, load_encoder
    from .legacy.semantic_encoder import SemanticEncoder, create_semantic_encoder
    from .models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
    from .models.configuration_multimodal_encoder import MultimodalEncoderConfig
    from .models.depth_map_files import DepthMapError
    from .models.depth_pipelines import DepthFeatureExtractionPipeline, DepthZeroShotClassificationPipeline
    from .models.depth_units import DepthRangeWarning
    from .models.image_files import ImageError
    from .models.image_processing_depth import DepthImageProcessor
    from .models.modeling_depth_autoencoder import DepthAutoencoderModel, DepthAutoencoderOutput
    from .models.modeling_depth_semantic_encoder import (
        DepthSemanticEncoderForImageClassification,
        DepthSemanticEncoderModel,
        DepthSemanticEncoderPreTrainedModel,
    )
    from .models.modeling_multimodal_encoder import MultimodalEncoderModel, MultimodalEncoderOutput
    from .models.processing_multimodal_encoder import MultimodalEncoderProcessor

__all__ = [
    "AnyEncoder",
    "DepthAutoencoderModel",
    "DepthAutoencoderOutput",
    "DepthFeatureExtractionPipeline",
    "DepthImageProcessor",
    "DepthMapError",
    "DepthRangeWarning",
    "DepthSemanticEncoderConfig",
    "DepthSemanticEncoderForImageClassification",
    "DepthSemanticEncoderModel",
    "DepthSemanticEncoderPreTrainedModel",
    "DepthZeroShotClassificationPipeline",
    "ImageError",
    "MultimodalEncoderConfig",
    "MultimodalEncoderModel",
    "MultimodalEncoderOutput",
    "MultimodalEncoderProcessor",
    "SemanticEncoder",
    "create_semantic_encoder",
    "load_encoder",
]

# Where the names are: as above, for what runs.
_NAMES = {
    "any_encoder": ("AnyEncoder", "load_encoder"),
    "models.configuration_depth_semantic_encoder": ("DepthSemanticEncoderConfig",),
    "models.configuration_multimodal_encoder": ("MultimodalEncoderConfig",),
    "models.depth_map_files": ("DepthMapError",),
    "models.depth_pipelines": ("DepthFeatureExtractionPipeline", "DepthZeroShotClassificationPipeline"),
    "models.depth_units": ("DepthRangeWarning",),
    "models.image_files": ("ImageError",),
    "models.image_processing_depth": ("DepthImageProcessor",),
    "models.modeling_depth_autoencoder": ("DepthAutoencoderModel", "DepthAutoencoderOutput"),
    "models.modeling_depth_semantic_encoder": (
        "DepthSemanticEncoderForImageClassification",
        "DepthSemanticEncoderModel",
        "DepthSemanticEncoderPreTrainedModel",
    ),
    "models.modeling_multimodal_encoder": ("MultimodalEncoderModel", "MultimodalEncoderOutput"),
    "models.processing_multimodal_encoder": ("MultimodalEncoderProcessor",),
    "legacy.semantic_encoder": ("SemanticEncoder", "create_semantic_encoder"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_when_imported(_MODULES)
