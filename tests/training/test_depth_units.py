"""What training keeps of its maps: their units, and where their depths lie."""

import numpy as np
import pytest

from hf_encoders import DepthImageProcessor
from hf_encoders.training.depth.arguments import DepthModelArguments
from hf_encoders.training.depth.model import build_autoencoder
from hf_encoders.training.depth_units import described, learn_percentiles, spread, with_units
from hf_encoders.training.multimodal.arguments import DataArguments, ModelArguments
from hf_encoders.training.multimodal.samples import raw_maps
from tests.conftest import SAMPLES, TINY

RANGE = {"normalization": "range", "value_range": [0, 8], "unit_scale": 0.001}


def test_options_are_settings_of_the_processor():
    options = ModelArguments(preset="sunrgbd", value_range=[0, 5], invalid_values=[0, 65535])
    processor = with_units(DepthImageProcessor(size=32), options)
    assert (processor.unit_scale, processor.bit_rotation, processor.normalization) == (0.001, 3, "range")
    assert (processor.value_range, processor.invalid_values) == ([0, 5], [0, 65535]) and processor.size.height == 32
    assert with_units(processor, ModelArguments()) is processor
    with pytest.raises(ValueError, match="preset is one of"):
        with_units(processor, ModelArguments(preset="kity"))


def test_an_autoencoder_is_trained_in_the_unit_of_the_options():
    options = DepthModelArguments(model_config=TINY, preset="tum", value_range=[0, 6])
    processor = build_autoencoder(options).processor
    assert (processor.unit_scale, processor.value_range) == (1 / 5000, [0, 6])


def test_the_percentiles_of_the_training_maps_are_kept(tmp_path):
    maps = [np.full((4, 5), value) for value in range(1000, 5001, 100)]
    processor = DepthImageProcessor(**RANGE, value_percentiles=[100, 200, 300])  # of the model that training began with
    learn_percentiles(processor, maps)
    assert processor.value_percentiles == [1, 3, 5] and "median 3 m" in described(processor)
    processor.save_pretrained(tmp_path)
    assert DepthImageProcessor.from_pretrained(tmp_path).value_percentiles == [1, 3, 5]
    stretched = DepthImageProcessor()
    learn_percentiles(stretched, maps)
    assert stretched.value_percentiles is None and "whatever its unit" in described(stretched)


@pytest.mark.parametrize("streaming", [False, True])
def test_some_of_the_training_maps_are_looked_at(streaming):
    data = DataArguments(
        dataset=[str(SAMPLES / "rooms" / "validation.parquet")], depth_column="depth", streaming=streaming
    )
    maps = list(raw_maps(data))
    assert len(maps) == 100
    processor = DepthImageProcessor(**RANGE)
    learn_percentiles(processor, maps)
    assert 1 < processor.value_percentiles[1] < 4
    assert len(spread(10_000)) <= 256 and list(spread(3)) == [0, 1, 2]


def test_the_sample_model_keeps_the_percentiles_of_its_training_maps():
    from hf_encoders import MultimodalEncoderProcessor

    processor = MultimodalEncoderProcessor.from_pretrained(SAMPLES / "multimodal-rooms").depth_image_processor
    known = processor.value_percentiles
    data = [str(SAMPLES / name / "train.parquet") for name in ("rooms", "objects")]
    learn_percentiles(processor, raw_maps(DataArguments(dataset=data, image_column="", depth_column="depth")))
    assert processor.value_percentiles == pytest.approx(known, rel=0.2)
