"""The reconstruction loss of the depth autoencoder: MSE + L1 + SSIM + Sobel edges, over valid pixels only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .configuration_depth_semantic_encoder import DepthSemanticEncoderConfig


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
