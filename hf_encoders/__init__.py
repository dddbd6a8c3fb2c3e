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
from transformers.pipelines import PIPELINE_REGISTRY

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
from .pipelines import DepthFeatureExtractionPipeline, DepthZeroShotClassificationPipeline
from .pushed_models import upload_whole_repo
from .semantic_encoder import SemanticEncoder, create_semantic_encoder

__version__ = "0.1.0"
__all__ = [
    "DepthAutoencoderModel",
    "DepthAutoencoderOutput",
    "DepthFeatureExtractionPipeline",
    "DepthImageProcessor",
    "DepthMapError",
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

for _task, _pipeline in {
    "depth-feature-extraction": DepthFeatureExtractionPipeline,
    "depth-zero-shot-classification": DepthZeroShotClassificationPipeline,
}.items():
    # A default of no model reaches the pipeline, which says so; without one transformers ends in a KeyError.
    PIPELINE_REGISTRY.register_pipeline(
        _task, _pipeline, pt_model=AutoModel, default={"model": (None, None)}, type="multimodal"
    )

for _model in (DepthSemanticEncoderPreTrainedModel, MultimodalEncoderModel):
    _model._upload_modified_files = upload_whole_repo
