"""Several data sets with weights: how many rows an epoch takes of each, and which."""

from collections import Counter

import pytest
from datasets import Dataset

from hf_encoders.models.text_reading import TextReading
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.mixing import Mixture
from hf_encoders.training.multimodal.rows import load_rows
from hf_encoders.training.multimodal.samples import ModelInputs, SampleMaker, make_loader
from tests.helpers.multimodal_models import tiny_processor

SIZES = [6, 4]


def taken(mixture, epoch):
    return Counter(mixture.row(place, epoch) for place in range(len(mixture)))


def test_shares_add_up_to_all_rows():
    for weights, counts in (
        ([1, 1], (5, 5)),
        ([3, 1], (8, 2)),
        ([6, 4], (6, 4)),
        ([0, 2], (0, 10)),
        ([0.1, 0.2], (3, 7)),
    ):
        mixture = Mixture(SIZES, weights, 0)
        rows = taken(mixture, 0)
        assert len(mixture) == 10
        assert (sum(rows[row] for row in range(6)), sum(rows[row] for row in range(6, 10))) == counts, weights


def test_a_large_data_set_gives_all_of_its_rows_in_turn_and_a_small_one_repeats_them():
    mixture = Mixture(SIZES, [1, 4], 0)  # 2 of 6, 8 of 4
    seen = [taken(mixture, epoch) for epoch in range(3)]
    assert all(rows[row] == 2 for rows in seen for row in range(6, 10))
    assert sum(seen, Counter()) == Counter({row: 1 for row in range(6)} | dict.fromkeys(range(6, 10), 6))
    assert taken(mixture, 0) != taken(mixture, 1) and taken(mixture, 0) == taken(Mixture(SIZES, [1, 4], 0), 0)
    assert [taken(Mixture(SIZES, [1, 4], seed), 0) for seed in range(4)] != [seen[0]] * 4


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1], "1 for 2 data sets; give one for each"),
        ([1, -1], "give numbers of 0 and more, not all 0"),
        ([0, 0], "give numbers of 0 and more, not all 0"),
        ([1, float("nan")], "give numbers of 0 and more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, says):
    with pytest.raises(ValueError, match=f"--dataset_weights.*{says}"):
        Mixture(SIZES, weights, 0)


def test_a_weight_without_rows_is_refused():
    with pytest.raises(ValueError, match=r"data set 2 has no rows, and a weight of 1"):
        Mixture([4, 0], [1, 1], 0)


@pytest.fixture
def options(tmp_path):
    for name, count in (("one", 6), ("two", 2)):
        captions = [[f"{name} {number} {told}" for told in range(50)] for number in range(count)]
        Dataset.from_dict({"caption": captions}).to_parquet(tmp_path / f"{name}.parquet")
    data = [str(tmp_path / f"{name}.parquet") for name in ("one", "two")]
    return lambda **other: DataArguments(dataset=data, image_column="", num_workers=0, **other)


def batches(options, epoch=0):
    rows = load_rows(options, "train")
    loader = make_loader(
        rows, options, 8, SampleMaker(options, ModelInputs(tiny_processor(), TextReading(16)), 0), 0, 1
    )
    loader.dataset.set_epoch(epoch)
    return [loader.dataset[place] for place in range(len(loader.dataset))]


def test_a_row_that_comes_twice_has_one_id_and_draws_by_itself(options):
    made = batches(options(dataset_weights=[0, 1]))
    assert Counter(sample["id"] for sample in made) == {6: 4, 7: 4}
    for row in (6, 7):
        assert len({sample["caption"] for sample in made if sample["index"] == row}) > 1
    assert [sample["id"] for sample in batches(options())] == list(range(8))


def test_a_stream_has_no_shares(options):
    with pytest.raises(ValueError, match="--dataset_weights divides rows at hand: leave --streaming out"):
        batches(options(dataset_weights=[1, 1], streaming=True))
