"""Depth maps on their way to the depth training script."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value

from hf_encoders import DepthImageProcessor
from hf_encoders.training.depth.arguments import DepthDataArguments
from hf_encoders.training.depth.maps import collate, open_maps

RANGE = {"normalization": "range", "value_range": [0, 10], "size": 32}


def gradient():
    """A map that is different at each pixel, with one hole."""
    depth = 1 + np.arange(32 * 32, dtype=np.float32).reshape(32, 32) / 256
    depth[3, 4] = 0
    return depth


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        np.save(tmp_path / f"{number}.npy", gradient())
    return tmp_path


def open_folder(folder, processor=None, **options):
    return open_maps(DepthDataArguments(str(folder), **options), processor or DepthImageProcessor(**RANGE), seed=0)


def test_a_share_is_held_out_and_never_augmented(folder):
    train, validation = open_folder(folder, horizontal_flip=True, validation_share=0.3)
    assert len(train) == 7 and len(validation) == 3
    assert sorted([*train.indices, *validation.indices]) == list(range(10))
    expected = DepthImageProcessor(**RANGE)(gradient())["pixel_values"][0]
    assert all(torch.equal(validation[i]["pixel_values"], expected) for i in range(3))


def test_holes_are_masked(folder):
    sample = open_folder(folder)[0][0]
    assert (~sample["pixel_mask"]).nonzero().tolist() == [[3, 4]]


@pytest.mark.parametrize(
    "options",
    [{"horizontal_flip": True}, {"vertical_flip": True}, {"crop_scale": 0.5}, {"depth_scale": 0.2}],
)
def test_augmentation_follows_from_seed_epoch_and_row(options, folder):
    train, again = (open_folder(folder, **options)[0] for _ in range(2))
    plain = DepthImageProcessor(**RANGE)(gradient())["pixel_values"][0]

    def draw(maps, epoch):
        maps.set_epoch(epoch)
        return torch.stack([maps[i]["pixel_values"] for i in range(len(maps))])

    first = draw(train, 0)
    assert torch.equal(first, draw(again, 0))
    assert not torch.equal(first, draw(train, 1))
    assert any(not torch.equal(drawn, plain) for drawn in first)


def test_flips_and_scaling_are_what_they_say(folder):
    plain = DepthImageProcessor(**RANGE)(gradient())["pixel_values"][0]
    flipped = open_folder(folder, horizontal_flip=True)[0]
    assert all(
        torch.equal(flipped[i]["pixel_values"], plain) or torch.equal(flipped[i]["pixel_values"], plain.flip(-1))
        for i in range(len(flipped))
    )
    scaled = open_folder(folder, depth_scale=0.2)[0][0]
    mask = scaled["pixel_mask"]
    factors = (scaled["pixel_values"][0][mask] + 1) / (plain[0][mask] + 1)
    assert 0.8 <= factors.mean() <= 1.2 and factors.std() < 1e-5
    assert (~mask).sum() == 1  # the marker of a hole is not scaled


def test_pictures_that_cannot_be_decoded_are_named(tmp_path):
    features = Features({"depth": Image(), "noun": Value("string")})
    rows = Dataset.from_dict({"depth": [{"bytes": b"garbage", "path": None}] * 4, "noun": ["a"] * 4}, features)
    rows.to_parquet(tmp_path / "maps.parquet")
    train, _ = open_folder(tmp_path / "maps.parquet")
    batch = collate([train[i] for i in range(3)])
    assert batch["indices"] == [] and len(batch["bad"]) == 3
    assert batch["bad"][0].startswith(f"row {train.indices[0]}: ")


def test_too_few_maps(tmp_path):
    np.save(tmp_path / "only.npy", gradient())
    with pytest.raises(ValueError, match="1 maps are too few"):
        open_folder(tmp_path)
