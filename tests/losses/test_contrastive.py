"""Contrastive losses in one process: against PyTorch's and a naive reference, masks, errors, the legacy step."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hf_encoders import MultimodalEncoderConfig, MultimodalEncoderModel
from hf_encoders.conversion.families.legacy.multimodal_layouts import model_name, read_multimodal_checkpoint
from hf_encoders.conversion.training_state import legacy_training_state
from hf_encoders.losses.contrastive import InfoNCELoss, SigmoidLoss, stable_ids
from tests.conftest import DATA
from tests.helpers.legacy_step import LEGACY_ROUNDING, assert_legacy_update

pytestmark = pytest.mark.numeric

TEMPERATURE = 0.2


def units(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.fixture
def embeds():
    return {name: units(5, 4) for name in ("text", "image", "depth")}


def test_the_legacy_step():
    """The real fourth step of a legacy training: its loss, and every parameter after AdamW's update.

    In double precision: what differs is the legacy run's rounding alone, on every processor by the same.
    """
    path = DATA / "multimodal_resume_checkpoint.pt"
    expected = load_file(DATA / "multimodal_resume_expected.safetensors")
    source = read_multimodal_checkpoint(path)
    config = MultimodalEncoderConfig(
        text_config=source.text_config, vision_config=source.vision_config, projection_dim=source.projection_dim,
        learn_temperature=False,
    )  # fmt: skip
    model = MultimodalEncoderModel(config).eval()  # it was trained without dropout
    model.load_state_dict({model_name(name): tensor for name, tensor in source.tensors.items()})
    tensors, info = legacy_training_state(source)
    parameters = dict(model.double().named_parameters())
    assert (info["optimizer"]["lr"], info["optimizer"]["weight_decay"]) == (1e-4, 0.01)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, weight_decay=0.01)
    for name, parameter in parameters.items():
        moments = {key: tensors[f"{name}.{key}"].double() for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = moments | {"step": tensors[f"{name}.step"]}

    batch = {name.removeprefix("batch."): tensor for name, tensor in expected.items() if name.startswith("batch.")}
    batch = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}
    masked = model(pixel_values=batch.pop("masked_pixel_values")).image_embeds
    outputs = model(**batch)
    embeds = {"text": outputs.text_embeds, "image": outputs.image_embeds}
    loss = InfoNCELoss(symmetric=False)(embeds, 0.07, negatives={"image": masked}).loss
    assert loss.item() == pytest.approx(expected["loss"].item(), abs=LEGACY_ROUNDING)
    loss.backward()
    optimizer.step()
    after = {model_name(name.removeprefix("after.")): tensor for name, tensor in expected.items() if "after." in name}
    assert parameters.keys() <= after.keys()
    assert_legacy_update(parameters, after)


def test_infonce_is_the_cross_entropy_of_both_directions(embeds):
    logits = embeds["text"] @ embeds["depth"].T / TEMPERATURE
    labels = torch.arange(5)
    for smoothing in (0, 0.1):
        forth, back = (F.cross_entropy(side, labels, label_smoothing=smoothing) for side in (logits, logits.T))
        two = {"text": embeds["text"], "depth": embeds["depth"]}
        output = InfoNCELoss(label_smoothing=smoothing)(two, TEMPERATURE)
        assert output.parts.keys() == {"text-depth"}
        torch.testing.assert_close(output.loss, (forth + back) / 2)
        one_way = InfoNCELoss(symmetric=False, label_smoothing=smoothing)(two, TEMPERATURE)
        torch.testing.assert_close(one_way.loss, forth)


def test_the_model_and_the_loss_agree(tiny_multimodal):
    inputs = tiny_multimodal.processor(
        text=["a red chair", "the lamp", "a table"], images=list(torch.rand(3, 3, 32, 32)), return_tensors="pt",
        padding=True,
    )  # fmt: skip
    outputs = tiny_multimodal(**inputs, depth_values=torch.rand(3, 1, 32, 32) * 2 - 1, return_loss=True)
    embeds = {"image": outputs.image_embeds, "text": outputs.text_embeds, "depth": outputs.depth_embeds}
    output = InfoNCELoss()(embeds, tiny_multimodal.clamped_temperature)
    torch.testing.assert_close(output.loss, outputs.loss)
    assert list(output.parts) == ["text-image", "text-depth", "image-depth"]
    output.loss.backward()
    assert tiny_multimodal.temperature.grad != 0 and tiny_multimodal.depth_projection.weight.grad.any()


def test_pairs_have_weights(embeds):
    parts = InfoNCELoss()(embeds, TEMPERATURE).parts
    output = InfoNCELoss({"text-image": 1, "image-depth": 3, "text-depth": 0})(embeds, TEMPERATURE)
    assert output.parts.keys() == {"text-image", "image-depth"}
    torch.testing.assert_close(output.loss, (parts["text-image"] + 3 * parts["image-depth"]) / 4)
    del embeds["depth"]
    torch.testing.assert_close(
        InfoNCELoss({"text-image": 1, "image-depth": 3})(embeds, TEMPERATURE).loss, parts["text-image"]
    )


def naive_losses(embeds, ids, negatives, negative_ids, bias):
    """One pair of rows at a time: the mean over rows of InfoNCE text → image, image → text, and of SigLIP."""
    rows = len(embeds["text"])
    same = {name: lambda i, j, name=name: i != j and ids[name][i] == ids[name][j] for name in ("text", "image")}
    directions = []
    sigmoid = 0
    for one, other in (("text", "image"), ("image", "text")):
        total = 0
        for i in range(rows):
            kept = [embeds[other][j] for j in range(rows) if not (same["text"](i, j) or same["image"](i, j))]
            extra = []
            if other == "image":
                extra = [n for n, of in zip(negatives, negative_ids, strict=True) if of != ids["image"][i]]
            logits = torch.stack([candidate @ embeds[one][i] / TEMPERATURE for candidate in kept + extra])
            own = embeds[one][i] @ embeds[other][i] / TEMPERATURE
            total += logits.logsumexp(0) - own
            if other == "image":
                sigmoid += F.softplus(logits + bias).sum() - (own + bias)
        directions.append(total / rows)
    return directions[0], directions[1], sigmoid / rows


def test_equal_texts_and_images_are_no_negatives(embeds):
    ids = {"text": torch.tensor([0, 1, 0, 3, 4]), "image": torch.tensor([7, 8, 9, 8, 10])}
    negatives, negative_ids = units(3, 4), torch.tensor([7, 99, 8])
    expected = naive_losses(embeds, ids, negatives, negative_ids, -1.5)
    two = {"image": embeds["image"], "text": embeds["text"]}
    arguments = {"ids": ids, "negatives": {"image": negatives}, "negative_ids": {"image": negative_ids}}
    one_way = InfoNCELoss(symmetric=False)(two, TEMPERATURE, **arguments).loss
    torch.testing.assert_close(one_way, expected[0])
    torch.testing.assert_close(InfoNCELoss()(two, TEMPERATURE, **arguments).loss, (expected[0] + expected[1]) / 2)
    sigmoid = SigmoidLoss(bias_init_value=-1.5)
    torch.testing.assert_close(sigmoid(two, TEMPERATURE, **arguments).loss, expected[2])
    # Negatives of the pair's first modality count as well.
    extra = F.softplus(embeds["image"] @ negatives.T / TEMPERATURE - 1.5).sum() / 5
    plain = sigmoid(two, TEMPERATURE).loss
    torch.testing.assert_close(sigmoid(two, TEMPERATURE, negatives={"text": negatives}).loss, plain + extra)


def test_label_smoothing_leaves_masked_candidates_out(embeds):
    two = {"text": embeds["text"].requires_grad_(), "image": embeds["image"]}
    loss = InfoNCELoss(symmetric=False, label_smoothing=0.1)
    all_equal = {"image": torch.zeros(5, dtype=torch.long)}
    output = loss(two, TEMPERATURE, ids=all_equal)  # only the positive is left
    assert output.loss == 0
    ids = {"image": torch.tensor([0, 0, 1, 2, 3])}
    logits = two["text"][:1] @ two["image"].T / TEMPERATURE
    first = F.cross_entropy(logits[:, [0, 2, 3, 4]], torch.tensor([0]), label_smoothing=0.1)
    second = F.cross_entropy(
        (two["text"][1:2] @ two["image"].T / TEMPERATURE)[:, 1:], torch.tensor([0]), label_smoothing=0.1
    )
    others = F.cross_entropy(
        two["text"] @ two["image"].T / TEMPERATURE, torch.arange(5), label_smoothing=0.1, reduction="none"
    )
    result = loss(two, TEMPERATURE, ids=ids).loss
    torch.testing.assert_close(result, (first + second + others[2:].sum()) / 5)
    result.backward()
    assert two["text"].grad.isfinite().all()


def test_half_precision_is_compared_in_single(embeds):
    half = {name: rows.to(torch.bfloat16) for name, rows in embeds.items()}
    wide = {name: rows.float() for name, rows in half.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(InfoNCELoss()(half, 0.07).loss, InfoNCELoss()(wide, 0.07).loss)


def test_stable_ids():
    ids = stable_ids(["a chair", "a lamp", "a chair", 5, "5"])
    assert ids.dtype == torch.int64 and len(ids.unique()) == 4 and ids[0] == ids[2]
    assert ids[1] == -5428264463614121324  # in every process
    assert stable_ids([]).shape == (0,)
    with pytest.raises(TypeError, match="id 1 is a float, expected a string or an integer"):
        stable_ids([1, 2.0])


ONE = torch.ones(1, 4)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ValueError, {"embeds": {}}, "no embeddings: give those of text, image, depth"),
        (ValueError, {"embeds": {"text": ONE, "sound": ONE}}, "embeds of 'sound': expected 'text' or 'image' or"),
        (TypeError, {"embeds": {"text": [1.0]}}, "embeds of 'text' must be a tensor, got list"),
        (ValueError, {"embeds": {"text": ONE, "image": ONE[:, :2]}}, r"'image' are \[1, 2\], expected \[B, D\]"),
        (ValueError, {"embeds": {"text": ONE, "image": ONE[:0]}}, "'image' have 0 rows, the others 1"),
        (ValueError, {"embeds": {"text": ONE[:0], "image": ONE[:0]}}, "no row on any rank"),
        (ValueError, {"embeds": {"text": ONE}}, "nothing to compare: the batch has text, the loss is of text-image"),
        (ValueError, {"temperature": 0.0}, "temperature must be positive, got 0.0"),
        (ValueError, {"ids": {"depth": torch.zeros(1).long()}}, "ids of 'depth': expected 'text' or 'image'"),
        (ValueError, {"ids": {"text": torch.zeros(2).long()}}, r"ids of 'text' are \[2\], expected \[1\]"),
        (TypeError, {"ids": {"text": torch.zeros(1)}}, "ids of 'text' must be integers, got torch.float32"),
        (ValueError, {"negatives": {"image": torch.ones(2, 3)}}, r"'image' are \[2, 3\], expected \[K, D\]"),
        (ValueError, {"negative_ids": {"image": torch.zeros(1).long()}}, "negative_ids of 'image': expected none"),
        (
            ValueError,
            {"negatives": {"image": ONE}, "negative_ids": {"image": torch.zeros(1).long()}},
            "negative_ids of 'image' have no ids of 'image'",
        ),
    ],
)
def test_bad_batches(kind, arguments, message):
    arguments = {"embeds": {"text": ONE, "image": ONE}, "temperature": 0.1} | arguments
    with pytest.raises(kind, match=message):
        InfoNCELoss()(arguments.pop("embeds"), arguments.pop("temperature"), **arguments)


def test_bad_settings():
    for weights, message in (
        ({"image-text": 1}, "no pair 'image-text': the pairs are text-image, text-depth, image-depth"),
        ({"text-image": -1}, "weight of text-image must be finite and not negative, got -1"),
        ({"text-image": 0}, "no pair has a weight above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            SigmoidLoss(weights)
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1, got 1"):
        InfoNCELoss(label_smoothing=1)
