"""The autoencoder: the legacy numbers and names, the forward pass, the loss through it, and that it learns."""

import copy
from pathlib import Path

import pytest
import torch

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig
from hf_encoders.conversion.verify_depth import TOLERANCE
from hf_encoders.models.modeling_depth_autoencoder import reconstruction_loss

# Of a hundred roundings to 8 bits, one after the other, and a few times more: it is 0.9994 with one order of additions.
BFLOAT16_COSINE = 0.995
KEYS_FILE = Path(__file__).parent.parent / "data" / "depth_autoencoder_keys.tsv"


def difference(actual, expected):
    """The largest difference, relative to the largest magnitude."""
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def smooth_maps(count):
    steps = torch.linspace(-1, 1, 128)
    return torch.stack([torch.tanh(steps[:, None] * (n - 1.5) + steps * (2 - n)) for n in range(count)])[:, None]


@pytest.fixture(scope="module")
def full_size(golden_weights):
    """The network behind the goldens; tests leave it as it is."""
    with torch.device("meta"):
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig())
    model.load_state_dict(golden_weights, assign=True)
    return model.eval().requires_grad_(False)


def test_state_dict_is_the_legacy_one():
    with torch.device("meta"):
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig())
    rows = [line.split("\t") for line in KEYS_FILE.read_text().splitlines()[1:]]
    ours = [
        (name, "x".join(map(str, value.shape)) or "scalar", str(value.dtype).removeprefix("torch."))
        for name, value in model.state_dict().items()
    ]
    assert ours == [tuple(row) for row in rows]


@pytest.mark.numeric
def test_full_size_equals_the_legacy_network(full_size, golden):
    """In double precision, so that the rounding is the legacy network's alone, on every processor the same."""
    outputs = copy.deepcopy(full_size).double()(golden["pixel_values"].double())
    assert difference(outputs.pooler_output, golden["embeddings"]) <= 1e-5
    assert difference(outputs.reconstruction, golden["reconstruction"]) <= 1e-5
    assert outputs.last_hidden_state.shape == (4, 2048, 4, 4)


@pytest.mark.numeric
def test_full_size_in_single_precision_is_within_what_a_verification_allows(full_size, golden):
    outputs = full_size(golden["pixel_values"])
    assert difference(outputs.reconstruction, golden["reconstruction"]) <= TOLERANCE
    for embeddings in (outputs.pooler_output, full_size.encoder.encode(golden["pixel_values"], batch_size=3)):
        assert difference(embeddings, golden["embeddings"]) <= TOLERANCE


@pytest.mark.slow
def test_full_size_in_bfloat16(full_size, golden):
    model = copy.deepcopy(full_size).bfloat16()
    outputs = model(golden["pixel_values"])
    assert outputs.pooler_output.dtype == outputs.reconstruction.dtype == torch.bfloat16
    for actual, expected in [
        (outputs.pooler_output, golden["embeddings"]),
        (outputs.reconstruction, golden["reconstruction"]),
    ]:
        assert torch.cosine_similarity(actual.float().flatten(1), expected.flatten(1)).min() >= BFLOAT16_COSINE


@pytest.mark.slow
@pytest.mark.numeric
def test_full_size_autocast_in_encode(full_size, golden):
    embeddings = full_size.encoder.encode(golden["pixel_values"], dtype="bfloat16")
    assert embeddings.dtype == torch.float32
    assert torch.cosine_similarity(embeddings, golden["embeddings"]).min() >= BFLOAT16_COSINE


@pytest.mark.parametrize(("batch", "side"), [(0, 128), (1, 128), (3, 32), (2, 160)])
def test_reconstruction_has_its_own_size(tiny_autoencoder, batch, side):
    outputs = tiny_autoencoder(torch.rand(batch, 1, side, side))
    assert outputs.reconstruction.shape == (batch, 1, 128, 128)
    assert outputs.pooler_output.shape == (batch, 12)
    assert outputs.reconstruction.abs().le(1).all()
    assert outputs.loss is None and outputs.hidden_states is None


@pytest.mark.numeric
def test_encoder_inside_gives_the_outputs(tiny_autoencoder):
    pixel_values = smooth_maps(2)
    outputs = tiny_autoencoder(pixel_values, output_hidden_states=True)
    encoded = tiny_autoencoder.encoder(pixel_values, output_hidden_states=True)
    assert torch.equal(outputs.pooler_output, encoded.pooler_output)
    assert torch.equal(outputs.last_hidden_state, encoded.last_hidden_state)
    assert len(outputs.hidden_states) == 5
    assert torch.equal(outputs.reconstruction, tiny_autoencoder.decoder(encoded.pooler_output))
    as_tuple = tiny_autoencoder(pixel_values, return_loss=True, return_dict=False)
    assert [value.ndim for value in as_tuple] == [0, 4, 2, 4]  # loss, reconstruction, embedding, last hidden state


@pytest.mark.numeric
def test_loss_on_request_has_the_weights_and_the_mask(tiny_autoencoder):
    pixel_values = smooth_maps(2)
    mask = torch.ones(2, 128, 128, dtype=torch.bool)
    mask[0, 30:90, 10:50] = False
    plain = tiny_autoencoder(pixel_values, return_loss=True)
    masked = tiny_autoencoder(pixel_values, pixel_mask=mask, return_loss=True)
    config = tiny_autoencoder.config
    assert torch.equal(plain.loss, reconstruction_loss(plain.reconstruction, pixel_values, config))
    assert torch.equal(masked.loss, reconstruction_loss(plain.reconstruction, pixel_values, config, mask))
    assert plain.loss != masked.loss
    for term in ("mse", "l1", "ssim", "edge"):
        setattr(config, f"{term}_loss_weight", 0.0)
    assert tiny_autoencoder(pixel_values, return_loss=True).loss == 0


def test_masked_out_batch_trains_nothing(tiny_autoencoder):
    mask = torch.zeros(2, 128, 128, dtype=torch.bool)
    loss = tiny_autoencoder(smooth_maps(2), pixel_mask=mask, return_loss=True).loss
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in tiny_autoencoder.parameters())


def test_loss_at_another_size_is_an_error_that_names_both(tiny_autoencoder):
    with pytest.raises(ValueError, match=r"reconstruction is \[2, 1, 128, 128\], the target \[2, 1, 64, 64\]"):
        tiny_autoencoder(torch.zeros(2, 1, 64, 64), return_loss=True)


@pytest.mark.numeric
def test_loss_of_a_half_precision_model(tiny_autoencoder):
    pixel_values = smooth_maps(2)
    expected = tiny_autoencoder(pixel_values, return_loss=True).loss
    outputs = tiny_autoencoder.bfloat16()(pixel_values, return_loss=True)
    assert outputs.loss.dtype == torch.float32
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.numeric
def test_it_learns_a_few_maps(tiny_config):
    tiny_config.hidden_dropout_prob = 0.0
    model = DepthAutoencoderModel(tiny_config).train()
    pixel_values = 0.4 + 0.4 * smooth_maps(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(pixel_values, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses
