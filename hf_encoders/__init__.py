"""Encoders that were trained in a research script, first-class on the Hugging Face Hub.

Importing the package registers its models with transformers: `AutoModel.from_pretrained` then loads them by name.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .models.configuration_multimodal_encoder import MultimodalEncoderConfig
from .models.depth_map_files import DepthMapError
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
from .pushed_cards import with_card
from .semantic_encoder import SemanticEncoder, create_semantic_encoder

__version__ = "0.1.0"
__all__ = [
    "DepthAutoencoderModel",
    "DepthAutoencoderOutput",
    "DepthImageProcessor",
    "DepthMapError",
    "DepthSemanticEncoderConfig",
    "DepthSemanticEncoderForImageClassification",
    "DepthSemanticEncoderModel",
    "DepthSemanticEncoderPreTrainedModel",
    "ImageError",
    "MultimodalEncoderConfig",
    "MultimodalEncoderModel",
    "MultimodalEncoderOutput",
    "MultimodalEncoderProcessor",
    "SemanticEncoder",
    "create_semantic_encoder",
]

AutoConfig.register(DepthSemanticEncoderConfig.model_type, DepthSemanticEncoderConfig)
AutoModel.register(DepthSemanticEncoderConfig, DepthSemanticEncoderModel)
AutoModelForImageClassification.register(DepthSemanticEncoderConfig, DepthSemanticEncoderForImageClassification)
AutoImageProcessor.register(
    DepthSemanticEncoderConfig,
    # One class serves both: without torchvision transformers asks for "pil", with it for "torchvision".
    image_processor_classes={"pil": DepthImageProcessor, "torchvision": DepthImageProcessor},
)

AutoConfig.register(MultimodalEncoderConfig.model_type, MultimodalEncoderConfig)
AutoModel.register(MultimodalEncoderConfig, MultimodalEncoderModel)
AutoModelForZeroShotImageClassification.register(MultimodalEncoderConfig, MultimodalEncoderModel)
AutoProcessor.register(MultimodalEncoderConfig, MultimodalEncoderProcessor)

for _model in (DepthSemanticEncoderPreTrainedModel, MultimodalEncoderModel):
    _model._upload_modified_files = with_card(_model._upload_modified_files)
