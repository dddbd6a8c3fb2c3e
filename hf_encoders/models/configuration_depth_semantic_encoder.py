"""Configuration of the depth semantic encoder and of the autoencoder around it."""

from .minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - first, for the imports below ask for them

# isort: split
from dataclasses import field
from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from .repo_pipelines import RepoPipelinesMixin

_LENGTHS = {"stem_sizes": 2, "hidden_sizes": 4, "depths": 4, "fc_sizes": 2, "decoder_head_sizes": 3}
_SIZES = (
    *("num_channels", "image_size", "hidden_size", "stem_sizes", "hidden_sizes", "depths", "bottleneck_expansion"),
    *("gate_reduction", "se_reduction", "enhance_size", "fusion_size", "pool_grid", "fc_sizes"),
    *("decoder_global_size", "decoder_spatial_size", "decoder_fusion_size", "decoder_hidden_sizes"),
    *("decoder_se_reduction", "decoder_head_sizes", "ssim_window_size"),
)


@strict
class DepthSemanticEncoderConfig(RepoPipelinesMixin, PreTrainedConfig):
    """Widths and depths of a depth semantic encoder; the defaults are the legacy network's (81,368,298 parameters).

    `input_channels` and `latent_dim`, the legacy names, are aliases of `num_channels` and `hidden_size`.

    Args:
        num_channels: channels C of a map, 1 for depth or height, 3 for encodings such as HHA.
        image_size: side in pixels of the square maps that the encoder was trained on; any side from 32 works.
        hidden_size: dimension D of the embedding (`pooler_output`).
        stem_sizes: output channels of the stem's two convolutions.
        hidden_sizes: output channels of `layer1` to `layer4`.
        depths: bottleneck blocks in `layer1` to `layer4`.
        bottleneck_expansion: output channels of a bottleneck divided by its inner channels.
        gate_reduction: channels of a gate divided by the inner channels of its channel attention (at least one).
        gate_init_value: initial `gamma` of a gate.
        se_reduction: channels divided by the inner channels of a squeeze-and-excitation (at least one).
        enhance_size: channels of `depth_enhance`.
        fusion_size: channels of `multiscale_fusion`.
        pool_grid: side of the grid that the spatial features are pooled to before `fc`.
        fc_sizes: widths of the two hidden layers of `fc`.
        hidden_dropout_prob: dropout in `fc` and in the decoder's linear layers.
        batch_norm_eps: epsilon of every BatchNorm.
        decoder_global_size: channels of the decoder's `global_fc` grid.
        decoder_spatial_size: channels of the decoder's `spatial_fc` grid.
        decoder_fusion_size: channels after `spatial_fusion`, `spatial_upsample` and `initial_conv`.
        decoder_hidden_sizes: channels of the decoder blocks; each block doubles the side, which starts at 4.
        decoder_gated_blocks: how many of the first decoder blocks have a gate (`attention`).
        decoder_se_reduction: as `se_reduction`, in the decoder blocks.
        decoder_se_init_value: initial `alpha` of the decoder's squeeze-and-excitations.
        decoder_head_sizes: channels inside `final_conv`.
        mse_loss_weight: weight of the mean squared error in the reconstruction loss.
        l1_loss_weight: weight of the mean absolute error.
        ssim_loss_weight: weight of 1 - SSIM.
        edge_loss_weight: weight of the absolute error between Sobel gradient magnitudes.
        ssim_window_size: side of the Gaussian window of the SSIM, in pixels.
        ssim_sigma: standard deviation of that window, in pixels.
    """

    model_type = "depth_semantic_encoder"
    attribute_map: ClassVar[dict[str, str]] = {"input_channels": "num_channels", "latent_dim": "hidden_size"}

    num_channels: int = 1
    image_size: int = 128
    hidden_size: int = 768
    stem_sizes: list[int] = field(default_factory=lambda: [32, 64])
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048])
    depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    bottleneck_expansion: int = 4
    gate_reduction: int = 8
    gate_init_value: float | int = 0.1
    se_reduction: int = 16
    enhance_size: int = 1024
    fusion_size: int = 512
    pool_grid: int = 2
    fc_sizes: list[int] = field(default_factory=lambda: [2048, 1024])
    hidden_dropout_prob: float | int = 0.1
    batch_norm_eps: float | int = 1e-5

    decoder_global_size: int = 1024
    decoder_spatial_size: int = 512
    decoder_fusion_size: int = 1024
    decoder_hidden_sizes: list[int] = field(default_factory=lambda: [512, 256, 128, 64, 32])
    decoder_gated_blocks: int = 2
    decoder_se_reduction: int = 16
    decoder_se_init_value: float | int = 0.5
    decoder_head_sizes: list[int] = field(default_factory=lambda: [32, 16, 8])

    mse_loss_weight: float | int = 1.0
    l1_loss_weight: float | int = 1.0
    ssim_loss_weight: float | int = 0.3
    edge_loss_weight: float | int = 0.2
    ssim_window_size: int = 11
    ssim_sigma: float | int = 1.5

    def __post_init__(self, **kwargs: object) -> None:
        """Accept the aliases as arguments, then check what the types alone cannot."""
        super().__post_init__(**kwargs)
        for name, length in _LENGTHS.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} takes {length} numbers, got {getattr(self, name)}")
        for name in _SIZES:
            value = getattr(self, name)
            if min(value if isinstance(value, list) else [value], default=1) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.decoder_gated_blocks < 0:
            raise ValueError(f"decoder_gated_blocks must be at least 0, got {self.decoder_gated_blocks}")
        if self.ssim_window_size % 2 == 0:
            raise ValueError(f"ssim_window_size must be odd, got {self.ssim_window_size}")

    @property
    def reconstruction_size(self) -> int:
        """Side in pixels of what the decoder draws: 4, doubled by every decoder block."""
        return 4 * 2 ** len(self.decoder_hidden_sizes)


__all__ = ["DepthSemanticEncoderConfig"]
