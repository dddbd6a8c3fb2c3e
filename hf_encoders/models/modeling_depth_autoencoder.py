"""The depth autoencoder: the semantic encoder, a decoder that draws the map from its embedding, and their loss.

The loss is MSE + L1 + SSIM + Sobel edges, over valid pixels only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .modeling_depth_semantic_encoder import (
    DepthSemanticEncoderGate,
    DepthSemanticEncoderModel,
    DepthSemanticEncoderPreTrainedModel,
    conv_norm_relu,
)

_START = 2  # the decoder's linear layers fill a grid of this side


@dataclass
class DepthAutoencoderOutput(ModelOutput):
    """The output of the autoencoder.

    Args:
        loss: scalar, on request.
        reconstruction: [B, C, S, S] in [-1, 1] with S = `config.reconstruction_size`.
        pooler_output: [B, D], the embedding.
        last_hidden_state: [B, 2048, H/32, W/32] of the encoder.
        hidden_states: the encoder's feature maps, on request.
    """

    loss: Tensor | None = None
    reconstruction: Tensor | None = None
    pooler_output: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class DepthDecoderSqueezeExcitation(nn.Module):
    """Squeeze-and-excitation blended with the identity by the learned scalar `alpha`."""

    def __init__(self, config: DepthSemanticEncoderConfig, channels: int):
        super().__init__()
        inner = max(channels // config.decoder_se_reduction, 1)
        self.fc = nn.Sequential(nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels), nn.Sigmoid())
        self.alpha = nn.Parameter(torch.full((1,), float(config.decoder_se_init_value)))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        scale = self.fc(hidden_states.mean((2, 3)))[:, :, None, None]
        return hidden_states * (1 + self.alpha * (scale - 1))


class DepthDecoderBlock(nn.Module):
    """Doubles the side: transposed convolution, convolutions, a gate in the first blocks, squeeze-and-excitation."""

    def __init__(self, config: DepthSemanticEncoderConfig, in_channels: int, out_channels: int, gated: bool):
        super().__init__()
        self.upsample = nn.Sequential(
            *conv_norm_relu(nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2, bias=False), config)
        )
        self.conv_block = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), config),
            *conv_norm_relu(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), config),
            *conv_norm_relu(nn.Conv2d(out_channels, out_channels, 1, bias=False), config),
        )
        self.attention = DepthSemanticEncoderGate(config, out_channels) if gated else nn.Identity()
        self.se = DepthDecoderSqueezeExcitation(config, out_channels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, in, H, W] → [B, out, 2H, 2W]."""
        return self.se(self.attention(self.conv_block(self.upsample(hidden_states))))


class DepthDecoder(nn.Module):
    """An embedding → the map: two grids of 2x2 from linear layers, fused and upsampled to `reconstruction_size`."""

    def __init__(self, config: DepthSemanticEncoderConfig):
        super().__init__()
        self.global_fc = self._make_grid(config, config.decoder_global_size)
        self.spatial_fc = self._make_grid(config, config.decoder_spatial_size)
        width = config.decoder_fusion_size
        self.spatial_fusion = nn.Sequential(
            *conv_norm_relu(
                nn.Conv2d(config.decoder_global_size + config.decoder_spatial_size, width, 3, padding=1), config
            ),
            *conv_norm_relu(nn.Conv2d(width, width, 1), config),
            DepthSemanticEncoderGate(config, width),
        )
        self.spatial_upsample = nn.Sequential(*conv_norm_relu(nn.ConvTranspose2d(width, width, 2, stride=2), config))
        self.initial_conv = nn.Sequential(
            *conv_norm_relu(nn.Conv2d(width, width, 3, padding=1, bias=False), config),
            DepthSemanticEncoderGate(config, width),
        )
        sizes = [width, *config.decoder_hidden_sizes]
        self.decoder_blocks = nn.ModuleList(
            DepthDecoderBlock(config, sizes[index], sizes[index + 1], gated=index < config.decoder_gated_blocks)
            for index in range(len(config.decoder_hidden_sizes))
        )
        first, second, third = config.decoder_head_sizes
        self.final_conv = nn.Sequential(
            nn.Conv2d(sizes[-1], first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, first, 1),
            nn.ReLU(),
            DepthSemanticEncoderGate(config, first),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, config.num_channels, 1),
            nn.Tanh(),
        )

    @staticmethod
    def _make_grid(config: DepthSemanticEncoderConfig, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(config.hidden_size, channels),
            nn.ReLU(),
            nn.Dropout(config.hidden_dropout_prob),
            nn.Linear(channels, channels * _START**2),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, D] → [B, C, S, S] in [-1, 1]."""
        grids = [grid(embedding).unflatten(1, (-1, _START, _START)) for grid in (self.global_fc, self.spatial_fc)]
        hidden_states = self.spatial_fusion(torch.cat(grids, dim=1))
        hidden_states = self.initial_conv(self.spatial_upsample(hidden_states))
        for block in self.decoder_blocks:
            hidden_states = block(hidden_states)
        return self.final_conv(hidden_states)


class DepthAutoencoderModel(DepthSemanticEncoderPreTrainedModel):
    """The encoder and a decoder, with the reconstruction loss that trained the encoder."""

    def __init__(self, config: DepthSemanticEncoderConfig):
        super().__init__(config)
        self.encoder = DepthSemanticEncoderModel(config)
        self.decoder = DepthDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DepthDecoderSqueezeExcitation):
            init.constant_(module.alpha, float(self.config.decoder_se_init_value))

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        return_loss: bool = False,
        output_hidden_states: bool | None = None,
        **kwargs: object,
    ) -> DepthAutoencoderOutput:
        """Encode maps and draw them again.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1].
            pixel_mask: [B, H, W], true where a pixel was measured; the loss leaves the others out.
            return_loss: also compute the loss against `pixel_values`, whose side must then be
                `config.reconstruction_size` (128 by default).
            output_hidden_states: also return the encoder's feature maps.

        Raises:
            ValueError: if the loss is asked for at another size.
        """
        encoded = self.encoder(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        reconstruction = self.decoder(encoded.pooler_output)
        loss = None
        if return_loss:
            loss = reconstruction_loss(reconstruction, pixel_values, self.config, pixel_mask)
        return DepthAutoencoderOutput(
            loss=loss,
            reconstruction=reconstruction,
            pooler_output=encoded.pooler_output,
            last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
        )


def reconstruction_loss(
    reconstruction: Tensor, target: Tensor, config: DepthSemanticEncoderConfig, mask: Tensor | None = None
) -> Tensor:
    """Weighted sum of the four terms, with the weights of the configuration.

    The legacy files leave two choices open, which are made here: SSIM for values that span 2, and zero padding in SSIM
    and Sobel.

    Args:
        reconstruction: [B, C, H, W] in [-1, 1].
        target: [B, C, H, W] in [-1, 1].
        config: the weights of the terms and the window of SSIM.
        mask: [B, H, W] or [B, 1, H, W], true (or one) where the target was measured. Other pixels have no influence on
            the loss or its gradient: pixel terms leave them out, and the windowed terms (SSIM, Sobel) leave out every
            window that reaches one.

    Returns:
        A scalar, computed in float32 at least; zero where no pixel is valid.

    Raises:
        ValueError: if the shapes do not agree.
    """
    if reconstruction.shape != target.shape:
        raise ValueError(
            f"the loss compares maps of one shape: the reconstruction is {list(reconstruction.shape)},"
            f" the target {list(target.shape)}"
        )
    # Variances are small differences of squares: half precision would lose them, under autocast too.
    wide = torch.promote_types(torch.promote_types(reconstruction.dtype, target.dtype), torch.float32)
    with torch.autocast(target.device.type, enabled=False):
        return _reconstruction_loss(reconstruction.to(wide), target.to(wide), config, mask)


def _reconstruction_loss(
    reconstruction: Tensor, target: Tensor, config: DepthSemanticEncoderConfig, mask: Tensor | None
) -> Tensor:
    valid = torch.ones_like(target[:, :1]) if mask is None else _as_weights(mask, target)
    # A hole may hold anything, NaN too, so masked pixels become equal on both sides first.
    reconstruction = torch.where(valid > 0, reconstruction, 0)
    target = torch.where(valid > 0, target, 0)

    difference = reconstruction - target
    loss = config.mse_loss_weight * _masked_mean(difference.square(), valid)
    loss = loss + config.l1_loss_weight * _masked_mean(difference.abs(), valid)
    if config.ssim_loss_weight:
        similarity = structural_similarity(reconstruction, target, config.ssim_window_size, config.ssim_sigma)
        whole = _whole_windows(valid, config.ssim_window_size)
        loss = loss + config.ssim_loss_weight * _masked_mean(1 - similarity, whole)
    if config.edge_loss_weight:
        edges = (sobel_magnitude(reconstruction) - sobel_magnitude(target)).abs()
        loss = loss + config.edge_loss_weight * _masked_mean(edges, _whole_windows(valid, 3))
    return loss


def structural_similarity(a: Tensor, b: Tensor, window_size: int, sigma: float, value_range: float = 2.0) -> Tensor:
    """SSIM map with a Gaussian window (Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861), zero-padded.

    Args:
        a: [B, C, H, W].
        b: [B, C, H, W].
        window_size: side of the window in pixels, odd.
        sigma: its standard deviation in pixels.
        value_range: difference between the largest and the smallest possible value; 2 for maps in [-1, 1].

    Returns:
        [B, C, H, W], 1 where the maps agree.
    """
    offsets = torch.arange(window_size, dtype=a.dtype, device=a.device) - window_size // 2
    gaussian = torch.exp(-(offsets**2) / (2 * sigma**2))
    gaussian = gaussian / gaussian.sum()
    channels = a.shape[1]

    def blur(maps: Tensor) -> Tensor:
        # The window is separable: one row, then one column.
        row = gaussian.expand(channels, 1, 1, -1)
        maps = F.conv2d(maps, row, padding=(0, window_size // 2), groups=channels)
        return F.conv2d(maps, row.transpose(2, 3), padding=(window_size // 2, 0), groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)


def sobel_magnitude(maps: Tensor) -> Tensor:
    """Length of the Sobel gradient of each channel, zero-padded: [B, C, H, W] → the same shape."""
    kernel = maps.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    channels = maps.shape[1]
    x = F.conv2d(maps, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
    y = F.conv2d(maps, kernel.T.expand(channels, 1, 3, 3), padding=1, groups=channels)
    return torch.sqrt(x**2 + y**2 + 1e-8)  # the gradient of the root is infinite at zero


def _as_weights(mask: Tensor, target: Tensor) -> Tensor:
    """[B, H, W] or [B, 1, H, W] → [B, 1, H, W] of zeros and ones in the target's type."""
    mask = mask[:, None] if mask.ndim == 3 else mask
    if mask.shape != target[:, :1].shape:
        raise ValueError(f"the mask is {list(mask.shape)}, expected [B, H, W] of the maps {list(target.shape)}")
    return (mask > 0).to(target.dtype)


def _whole_windows(valid: Tensor, window_size: int) -> Tensor:
    """One where the whole window around a pixel is valid."""
    return 1 - F.max_pool2d(1 - valid, window_size, stride=1, padding=window_size // 2)


def _masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    weights = weights.expand_as(values)
    return (values * weights).sum() / weights.sum().clamp(min=1)


__all__ = ["DepthAutoencoderModel", "DepthAutoencoderOutput"]
