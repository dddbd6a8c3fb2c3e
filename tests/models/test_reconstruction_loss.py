"""The reconstruction loss against loops over pixels and windows, and what the mask must keep out."""

import numpy as np
import pytest
import torch

from hf_encoders import DepthSemanticEncoderConfig
from hf_encoders.models.modeling_depth_autoencoder import reconstruction_loss, sobel_magnitude, structural_similarity
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

TERMS = ("mse_loss_weight", "l1_loss_weight", "ssim_loss_weight", "edge_loss_weight")


def configuration(mse, l1, ssim, edge, **settings):
    return DepthSemanticEncoderConfig(**TINY, **dict(zip(TERMS, (mse, l1, ssim, edge), strict=True)), **settings)


def smooth_pair(channels=1, size=20):
    """A target of waves, and a reconstruction that is near it."""
    steps = torch.linspace(0, 3, size)
    target = torch.stack([torch.sin(steps[:, None] * (n + 1) + steps * (2 - n)) for n in range(2 * channels)])
    target = 0.8 * target.reshape(2, channels, size, size)
    return target * 0.9 + 0.1 * torch.rand(target.shape) - 0.05, target


def block_mask(size=20):
    """A hole in the middle of the first map, and a column at the edge of the second."""
    mask = torch.ones(2, size, size, dtype=torch.bool)
    mask[0, 8:11, 9] = False
    mask[1, :, 0] = False
    return mask


def windows(plane, size):
    """Each pixel's zero-padded window, row by row."""
    padded = np.pad(plane, size // 2)
    return [padded[i : i + size, j : j + size] for i in range(plane.shape[0]) for j in range(plane.shape[1])]


def reference_ssim(a, b, size=11, sigma=1.5):
    axis = np.arange(size) - size // 2
    weights = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    values = []
    for x, y in zip(windows(a, size), windows(b, size), strict=True):
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + 0.02**2) / (mean_x**2 + mean_y**2 + 0.02**2)
        values.append(luminance * (2 * covariance + 0.06**2) / (var_x + var_y + 0.06**2))
    return np.array(values).reshape(a.shape)


def reference_sobel(plane):
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    values = [np.hypot((kernel * window).sum(), (kernel.T * window).sum()) for window in windows(plane, 3)]
    return np.array(values).reshape(plane.shape)


def whole(mask, size):
    """Where no pixel of the window is masked; what lies outside the map is not."""
    return np.array([not window.any() for window in windows(~mask, size)]).reshape(mask.shape)


def reference_loss(reconstruction, target, weights, mask=None, size=11, sigma=1.5):
    maps, channels = target.shape[:2]
    terms = [[], [], [], []]
    for n in range(maps):
        valid = np.ones(target.shape[2:], bool) if mask is None else mask[n].numpy()
        for c in range(channels):
            a, b = reconstruction[n, c].double().numpy(), target[n, c].double().numpy()
            terms[0].append(((a - b) ** 2)[valid])
            terms[1].append(np.abs(a - b)[valid])
            terms[2].append((1 - reference_ssim(a, b, size, sigma))[whole(valid, size)])
            terms[3].append(np.abs(reference_sobel(a) - reference_sobel(b))[whole(valid, 3)])
    return sum(weight * np.concatenate(term).mean() for weight, term in zip(weights, terms, strict=True))


@pytest.mark.parametrize("weights", [(2, 0, 0, 0), (0, 3, 0, 0), (0, 0, 0.5, 0), (0, 0, 0, 0.7), (1, 1, 0.3, 0.2)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_loss_equals_the_loops(weights, masked, channels):
    reconstruction, target = smooth_pair(channels)
    mask = block_mask() if masked else None
    loss = reconstruction_loss(reconstruction, target, configuration(*weights), mask)
    assert loss.item() == pytest.approx(reference_loss(reconstruction, target, weights, mask), rel=1e-4)


def test_window_comes_from_the_configuration():
    reconstruction, target = smooth_pair()
    config = configuration(0, 0, 1, 0, ssim_window_size=5, ssim_sigma=0.8)
    expected = reference_loss(reconstruction, target, (0, 0, 1, 0), block_mask(), size=5, sigma=0.8)
    assert reconstruction_loss(reconstruction, target, config, block_mask()).item() == pytest.approx(expected, rel=1e-4)


def test_ssim_and_sobel_maps_equal_the_loops():
    reconstruction, target = smooth_pair()
    similarity = structural_similarity(reconstruction, target, 11, 1.5)
    expected = reference_ssim(reconstruction[1, 0].double().numpy(), target[1, 0].double().numpy())
    np.testing.assert_allclose(similarity[1, 0], expected, atol=1e-4)
    np.testing.assert_allclose(sobel_magnitude(target)[1, 0], reference_sobel(target[1, 0].numpy()), atol=2e-4)


def test_default_weights_are_the_legacy_ones():
    config = DepthSemanticEncoderConfig()
    assert [getattr(config, term) for term in TERMS] == [1.0, 1.0, 0.3, 0.2]
    assert (config.ssim_window_size, config.ssim_sigma) == (11, 1.5)


@pytest.mark.parametrize("mask", [None, block_mask()])
def test_equal_maps_cost_nothing(mask, tiny_config):
    _, target = smooth_pair()
    assert reconstruction_loss(target.clone(), target, tiny_config, mask).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.7, 1e6, float("inf"), float("nan")])
@pytest.mark.parametrize("side", ["target", "reconstruction"])
def test_masked_pixels_have_no_influence(value, side, tiny_config):
    reconstruction, target = smooth_pair()
    mask = block_mask()

    def loss_and_gradient(reconstruction, target):
        leaf = reconstruction.clone().requires_grad_()
        loss = reconstruction_loss(leaf, target, tiny_config, mask)
        loss.backward()
        return loss.detach(), leaf.grad

    loss, gradient = loss_and_gradient(reconstruction, target)
    assert gradient[:, 0][~mask].abs().max() == 0 and gradient.abs().max() > 0
    (target if side == "target" else reconstruction)[:, 0][~mask] = value
    torch.testing.assert_close(loss_and_gradient(reconstruction, target), (loss, gradient), rtol=0, atol=0)


def test_valid_pixels_weigh_the_same_in_every_map():
    """The mean is over pixels, not over maps: a map with few of them has little weight."""
    reconstruction, target = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    reconstruction[0] = 1.0
    mask = torch.ones(2, 8, 8, dtype=torch.bool)
    mask[0, 1:] = False
    loss = reconstruction_loss(reconstruction, target, configuration(0, 1, 0, 0), mask)
    assert loss.item() == pytest.approx(8 / (8 + 64))


@pytest.mark.parametrize("cast", [lambda mask: mask[:, None], lambda mask: mask.float(), lambda mask: mask.long()])
def test_forms_of_the_mask(cast, tiny_config):
    pair = smooth_pair(channels=3)
    expected = reconstruction_loss(*pair, tiny_config, block_mask())
    assert torch.equal(reconstruction_loss(*pair, tiny_config, cast(block_mask())), expected)


@pytest.mark.parametrize("batch", [0, 2])
def test_no_valid_pixel_costs_nothing(batch, tiny_config):
    reconstruction = torch.rand(batch, 1, 16, 16, requires_grad=True)
    target = torch.full((batch, 1, 16, 16), float("nan"))
    loss = reconstruction_loss(reconstruction, target, tiny_config, torch.zeros(batch, 16, 16))
    loss.backward()
    assert loss.item() == 0 and (reconstruction.grad == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_gradient_is_finite_for_constant_maps(value, tiny_config):
    reconstruction = torch.full((1, 1, 16, 16), value, requires_grad=True)
    for target in (torch.full((1, 1, 16, 16), value), torch.full((1, 1, 16, 16), 1.0)):
        reconstruction_loss(reconstruction, target, tiny_config).backward()
    assert reconstruction.grad.isfinite().all()


def test_half_precision_does_not_coarsen_the_loss(tiny_config):
    reconstruction, target = (0.9 + 0.02 * maps for maps in smooth_pair())
    expected = reconstruction_loss(reconstruction, target, tiny_config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reconstruction_loss(reconstruction, target, tiny_config), expected)
    half = reconstruction.bfloat16()
    loss = reconstruction_loss(half, target, tiny_config)
    assert loss.dtype == torch.float32 and torch.equal(loss, reconstruction_loss(half.float(), target, tiny_config))


@pytest.mark.parametrize(
    ("reconstruction", "mask", "message"),
    [
        ((2, 1, 16, 8), None, r"\[2, 1, 16, 8\], the target \[2, 1, 16, 16\]"),
        ((2, 1, 16, 16), (2, 8, 8), r"the mask is \[2, 1, 8, 8\].*maps \[2, 1, 16, 16\]"),
        ((2, 1, 16, 16), (16, 16), r"the mask is \[16, 16\]"),
        ((2, 1, 16, 16), (1, 16, 16), r"the mask is \[1, 1, 16, 16\]"),
    ],
)
def test_shapes_that_do_not_agree_are_errors(reconstruction, mask, message, tiny_config):
    mask = None if mask is None else torch.ones(mask)
    with pytest.raises(ValueError, match=message):
        reconstruction_loss(torch.zeros(reconstruction), torch.zeros(2, 1, 16, 16), tiny_config, mask)
