"""The depth semantic encoder: a ResNet-50 with gates that turns a depth or height map into one embedding.

Sub-modules keep the names of the legacy network, so that a legacy state dict differs from ours by a prefix at most.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import can_return_tuple

from .configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .depth_units import DepthEncodeOptions, encode_depth_method
from .encoding import BackendName, DtypeName, Encoded, Pictures
from .freezing import FreezingMixin
from .image_processing_depth import DepthImageProcessor
from .pixel_towers import DepthTower
from .saved_processor import SavedProcessorMixin
from .tower import Modality, check_tower, prepare_towers


def conv_norm_relu(conv: nn.Conv2d | nn.ConvTranspose2d, config: DepthSemanticEncoderConfig) -> list[nn.Module]:
    """A convolution, BatchNorm over its output channels and ReLU, to be spread into a Sequential."""
    return [conv, nn.BatchNorm2d(conv.out_channels, eps=config.batch_norm_eps), nn.ReLU(inplace=True)]


class DepthSemanticEncoderBottleneck(nn.Module):
    """A ResNet bottleneck: 1x1, 3x3 (with the stride) and 1x1 convolutions around a shortcut."""

    def __init__(
        self, config: DepthSemanticEncoderConfig, in_channels: int, out_channels: int, stride: int, first: bool
    ):
        super().__init__()
        inner = max(out_channels // config.bottleneck_expansion, 1)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner, eps=config.batch_norm_eps)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner, eps=config.batch_norm_eps)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps)
        self.relu1, self.relu2, self.relu = (nn.ReLU(inplace=True) for _ in range(3))
        self.downsample = None
        if first:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps),
            )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, in, H, W] → [B, out, H/stride, W/stride]."""
        shortcut = hidden_states if self.downsample is None else self.downsample(hidden_states)
        hidden_states = self.relu1(self.bn1(self.conv1(hidden_states)))
        hidden_states = self.relu2(self.bn2(self.conv2(hidden_states)))
        hidden_states = self.bn3(self.conv3(hidden_states))
        hidden_states += shortcut
        return self.relu(hidden_states)


# It is called a gate, because transformers expects a switchable implementation of every "Attention".
class DepthSemanticEncoderGate(nn.Module):
    """A spatial gate times a channel gate, blended with the identity by the learned scalar `gamma`."""

    def __init__(self, config: DepthSemanticEncoderConfig, channels: int):
        super().__init__()
        inner = max(channels // config.gate_reduction, 1)
        self.spatial_conv = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(channels, 1, 1), config), nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid()
        )
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Sigmoid(),
        )
        self.gamma = nn.Parameter(torch.full((1,), float(config.gate_init_value)))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        gated = hidden_states * (self.spatial_conv(hidden_states) * self.channel_attention(hidden_states))
        blended = self.gamma * gated
        blended += (1 - self.gamma) * hidden_states
        return blended


class DepthSemanticEncoderSqueezeExcitation(nn.Module):
    """Squeeze-and-excitation without biases (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, inner, bias=False), nn.ReLU(), nn.Linear(inner, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        return hidden_states * self.fc(hidden_states.mean((2, 3)))[:, :, None, None]


class DepthSemanticEncoderPreTrainedModel(FreezingMixin, SavedProcessorMixin[DepthImageProcessor], PreTrainedModel):
    """The base of the depth models: loading, initialisation, freezing and the processor."""

    config: DepthSemanticEncoderConfig
    processor_class = DepthImageProcessor
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    # These modules add or multiply an input and its own transform: both must be on one device.
    _no_split_modules = [
        "DepthSemanticEncoderBottleneck",
        "DepthSemanticEncoderGate",
        "DepthSemanticEncoderSqueezeExcitation",
    ]

    @classmethod
    def _default_processor(cls, config: DepthSemanticEncoderConfig) -> DepthImageProcessor:
        return DepthImageProcessor(size=config.image_size, num_channels=config.num_channels)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The legacy initialisation: Kaiming normal over the fan-out, zero biases, BatchNorm at the identity.
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            super()._init_weights(module)
        elif isinstance(module, DepthSemanticEncoderGate):
            init.constant_(module.gamma, float(self.config.gate_init_value))


class DepthSemanticEncoderModel(DepthSemanticEncoderPreTrainedModel):
    """Depth or height maps → embeddings: `encode` takes raw maps, `forward` what the processor returns."""

    towers: tuple[Modality, ...] = ("depth",)

    # The encoder also reads the repo of an autoencoder or a classifier.
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^classifier\."]

    def __init__(self, config: DepthSemanticEncoderConfig):
        super().__init__(config)
        first, second = config.stem_sizes
        self.stem = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(config.num_channels, first, 3, padding=1, bias=False), config),
            *conv_norm_relu(nn.Conv2d(first, second, 7, stride=2, padding=3, bias=False), config),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        c1, c2, c3, c4 = config.hidden_sizes
        self.layer1 = self._make_layer(0, second, c1, stride=1)
        self.layer2 = self._make_layer(1, c1, c2, stride=2)
        self.layer3 = self._make_layer(2, c2, c3, stride=2)
        self.layer4 = self._make_layer(3, c3, c4, stride=2)
        self.attention1 = DepthSemanticEncoderGate(config, c1)
        self.attention2 = DepthSemanticEncoderGate(config, c2)
        self.attention3 = DepthSemanticEncoderGate(config, c3)
        self.se_block = DepthSemanticEncoderSqueezeExcitation(c4, max(c4 // config.se_reduction, 1))
        self.depth_enhance = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(c4, config.enhance_size, 3, padding=1), config),
            *conv_norm_relu(nn.Conv2d(config.enhance_size, config.enhance_size, 3, padding=1), config),
        )
        self.multiscale_fusion = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(config.enhance_size, config.fusion_size, 1), config)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.grid_pool = nn.AdaptiveAvgPool2d(config.pool_grid)
        features = c4 + (c4 + config.fusion_size) * config.pool_grid**2
        wide, narrow = config.fc_sizes
        self.fc = nn.Sequential(
            nn.Linear(features, wide),
            nn.ReLU(),
            nn.Dropout(config.hidden_dropout_prob),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Dropout(config.hidden_dropout_prob),
            nn.Linear(narrow, config.hidden_size),
        )
        self.post_init()

    def _make_layer(self, index: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        first = DepthSemanticEncoderBottleneck(self.config, in_channels, out_channels, stride, first=True)
        others = [
            DepthSemanticEncoderBottleneck(self.config, out_channels, out_channels, 1, first=False)
            for _ in range(self.config.depths[index] - 1)
        ]
        return nn.Sequential(first, *others)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs: object
    ) -> BaseModelOutputWithPooling:
        """Encode processed maps.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1], H and W at least 32.
            output_hidden_states: also return the feature maps after the stem and after each of the four layers
                (strides 4, 4, 8, 16, 32), gates included.

        Returns:
            `last_hidden_state` [B, 2048, H/32, W/32], `pooler_output` [B, D] (the embedding, not normalised) and
            `hidden_states` where asked for.

        Raises:
            ValueError: if `pixel_values` has another rank or number of channels, or is under 32 pixels.
        """
        self._check_pixel_values(pixel_values)
        stem = self.stem(pixel_values.to(self.dtype))
        hidden1 = self.attention1(self.layer1(stem))
        hidden2 = self.attention2(self.layer2(hidden1))
        hidden3 = self.attention3(self.layer3(hidden2))
        hidden4 = self.se_block(self.layer4(hidden3))
        fused = self.multiscale_fusion(self.depth_enhance(hidden4))
        features = [self.pool(hidden4), self.grid_pool(hidden4), self.grid_pool(fused)]
        # A device map may part the layers before and after `hidden4`.
        embedding = self.fc(torch.cat([feature.flatten(1).to(fused.device) for feature in features], dim=1))

        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = (stem, hidden1, hidden2, hidden3, hidden4) if output_hidden_states else None
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden4, pooler_output=embedding, hidden_states=hidden_states
        )

    def _check_pixel_values(self, pixel_values: Tensor) -> None:
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != self.config.num_channels or min(shape[2:]) < 32:
            raise ValueError(
                f"pixel_values must be [batch, {self.config.num_channels}, height, width] with sides from 32 pixels,"
                f" got {list(shape)}"
            )

    def tower(self, name: str = "depth") -> DepthTower:
        """The tower of depth maps; ValueError for another name, since the model embeds nothing else."""
        check_tower(name, self.towers)
        return DepthTower(self, self, self.saved_processor, self.config.hidden_size)

    @encode_depth_method
    def encode(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded:
        """Embed anything the processor reads, in evaluation and inference mode, in the order given.

        ```python
        embeddings = model.encode(["room.png", "chair.npy"])        # [2, D]
        embeddings = model.encode(maps, normalize=True, convert_to="numpy")
        ```

        Args:
            inputs: raw inputs go through `processor`: paths, PIL images, arrays ([H, W], [N, H, W], [N, C, H, W]),
                lists of them, a `datasets` column, any iterable. The processor's output, and 4-dimensional
                floating-point *tensors* (`pixel_values`), go straight to the model.
            batch_size: how many inputs the model sees at a time. It does not change the result.
            options: see `EncodeOptions`, and `DepthUnits` for what the raw values mean.

        Returns:
            [N, D] float32, one row per input (one row for a single map too); [0, D] for no input.

        Raises:
            ValueError: for an option out of range, or an input that cannot be used (its path or index is named).
        """
        return self.tower("depth").encode(inputs, batch_size, **options)

    def prepare(
        self,
        modalities: Modality | Sequence[Modality] | None = None,
        *,
        backend: BackendName = "openvino",
        dtype: DtypeName | torch.dtype | None = None,
    ) -> None:
        """Load the processor and compile the encoder now, so that the first request does not wait for it.

        Threads of a server share what is compiled. A process that is forked afterwards compiles anew.

        Args:
            modalities: "depth", the only one, which is the default.
            backend: "openvino" or "onnx"; with "torch" there is nothing to compile.
            dtype: as in `encode`.

        Raises:
            ValueError: if the model has no such tower, or the backend no such precision.
            ImportError: if the backend is not installed.
        """
        prepare_towers(self, modalities, backend, dtype)


class DepthSemanticEncoderForImageClassification(DepthSemanticEncoderPreTrainedModel):
    """The encoder with a linear classifier on the embedding."""

    # The loss is a mean whatever the number of items; without this, Trainer adds up the means of accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: DepthSemanticEncoderConfig):
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.encoder = DepthSemanticEncoderModel(config)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.classifier:
            # Embeddings are not normalised: logits start near zero only if the classifier does.
            init.normal_(module.weight, std=0.01 / self.config.hidden_size**0.5)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: object,
    ) -> ImageClassifierOutput:
        """Classify processed maps.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1].
            labels: [B] class indices (cross-entropy), [B, num_labels] zeros and ones (binary cross-entropy), or
                numbers (mean squared error), as `config.problem_type` says or as their type implies.
            output_hidden_states: also return the encoder's feature maps.

        Returns:
            `logits` [B, num_labels], and `loss` where there are labels.
        """
        outputs = self.encoder(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.classifier(outputs.pooler_output)
        loss = self.loss_function(labels, logits, self.config, **kwargs) if labels is not None else None
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


__all__ = [
    "DepthSemanticEncoderForImageClassification",
    "DepthSemanticEncoderModel",
    "DepthSemanticEncoderPreTrainedModel",
]
