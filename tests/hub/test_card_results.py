"""Evaluations go into a repo beside others: each split of each data set is replaced by itself alone."""

import json

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from transformers import AutoModel

from hf_encoders.fingerprint import fingerprint
from hf_encoders.hub.card_metrics import data_stem
from hf_encoders.hub.card_results import add_results, check_card
from tests.helpers.multimodal_models import tiny_model

RECALL, ACCURACY = "retrieval/text_to_image_recall@1", "zero-shot/noun/image/top1_accuracy"


@pytest.fixture
def repo(tmp_path):
    tiny_model().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def measured(repo):
    """Makes what `hf-encoders evaluate` would write."""
    own = fingerprint(AutoModel.from_pretrained(repo))

    def make(split="unseen", dataset="data/rooms", sha="a", **metrics):
        metrics = metrics or {RECALL: 0.5}
        return {"fingerprint": own, "dataset": dataset, "split": split, "dataset_sha256": sha * 64, "rows": 9,
                "options": {}, "metrics": metrics}  # fmt: skip

    return make


def values(repo):
    """The model-index: (data set, split, metric) → value."""
    (index,) = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])["model-index"]
    return {
        (result["dataset"]["name"], result["dataset"]["split"], metric["name"]): metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }


def files(repo):
    return {path.name: json.loads(path.read_text()) for path in repo.glob("metrics*.json")}


def test_splits_stand_side_by_side_the_usual_ones_first(repo, measured):
    add_results(repo, [measured("unseen"), measured("validation", sha="b", **{RECALL: 0.75, ACCURACY: 0.25})])
    assert set(files(repo)) == {"metrics_rooms-unseen.json", "metrics_rooms-validation.json"}
    card = (repo / "README.md").read_text()
    assert "| Retrieval | data/rooms, validation | data/rooms, unseen |" in card
    assert "| text → image: recall@1 | 0.75 | 0.5 |" in card
    assert "| Zero-shot classification | data/rooms, validation |\n" in card
    assert card.index(f"(validation, 9 rows, SHA-256 `{'b' * 64}`)") < card.index(
        f"(unseen, 9 rows, SHA-256 `{'a' * 64}`)"
    )


def test_a_split_that_is_measured_again_replaces_its_own_numbers(repo, measured):
    add_results(repo, [measured("unseen"), measured("validation"), measured("unseen", "other/rooms", "c")])
    before = values(repo)
    add_results(repo, [measured("unseen", **{RECALL: 0.625})])
    assert values(repo) == before | {("data/rooms", "unseen", RECALL): 0.625}
    splits = [("data/rooms", "unseen"), ("data/rooms", "validation"), ("other/rooms", "unseen")]
    assert set(before) == {(*split, RECALL) for split in splits}


def test_other_metrics_of_the_split_stay_and_share_its_column(repo, measured):
    add_results(repo, [measured(**{RECALL: 0.5})])
    add_results(repo, [measured(**{ACCURACY: 0.25})])
    assert values(repo) == {("data/rooms", "unseen", RECALL): 0.5, ("data/rooms", "unseen", ACCURACY): 0.25}
    assert [report["metrics"] for report in files(repo)["metrics_rooms-unseen.json"]] == [
        {RECALL: 0.5},
        {ACCURACY: 0.25},
    ]
    assert "| Retrieval | data/rooms, unseen |\n" in (repo / "README.md").read_text()
    add_results(repo, [measured(**{RECALL: 0.75, ACCURACY: 0.75})])
    assert set(values(repo).values()) == {0.75} and files(repo)["metrics_rooms-unseen.json"]["metrics"][RECALL] == 0.75


def test_another_version_of_the_split_replaces_all_of_it(repo, measured):
    add_results(repo, [measured(**{RECALL: 0.5, ACCURACY: 0.25})])
    add_results(repo, [measured(dataset="/mnt/data/rooms", sha="b", **{RECALL: 0.75})])
    assert values(repo) == {("data/rooms", "unseen", RECALL): 0.75}


def test_the_same_files_under_another_name_are_the_same_data(repo, measured):
    add_results(repo, [measured(dataset="data/rooms")])
    add_results(repo, [measured(dataset="/elsewhere/copy", **{RECALL: 0.75})])
    assert values(repo) == {("elsewhere/copy", "unseen", RECALL): 0.75}
    assert set(files(repo)) == {"metrics_rooms-unseen.json"}


def test_numbers_stay_in_the_file_that_has_them(repo, measured):
    (repo / "metrics_mine.json").write_text(json.dumps([measured("test"), measured("unseen")]))
    add_results(repo, [measured("unseen", **{RECALL: 0.75})])
    assert list(files(repo)) == ["metrics_mine.json"]
    assert [report["metrics"][RECALL] for report in files(repo)["metrics_mine.json"]] == [0.5, 0.75]


def test_what_a_person_measured_stays(repo, measured):
    add_results(repo, [measured()])
    card = ModelCard.load(repo / "README.md")
    card.data.eval_results.append(EvalResult("x", "mine", "Mine", "y", 1, dataset_split="s", metric_name="y"))
    card.save(repo / "README.md")
    add_results(repo, [measured(**{RECALL: 0.75})])
    assert values(repo) == {("Mine", "s", "y"): 1, ("data/rooms", "unseen", RECALL): 0.75}


def test_a_card_that_could_not_be_written_is_known_before(repo, measured, tmp_path):
    model = AutoModel.from_pretrained(repo)
    check_card(repo, model)
    with pytest.raises(ValueError, match="nix: --card writes into the model's folder, and this is none"):
        check_card(tmp_path / "nix", model)
    with pytest.raises(ValueError, match="no repo of a model"):
        check_card(tmp_path, model)
    (repo / "README.md").write_text("<!-- end: use -->")
    with pytest.raises(ValueError, match="README.md: "):
        check_card(repo, model)
    (repo / "README.md").unlink()
    (repo / "metrics.json").write_text(json.dumps([measured(), measured() | {"fingerprint": "f" * 32}]))
    with pytest.raises(ValueError, match=r"metrics.json: measured on other weights \(f+\)"):
        check_card(repo, model)


def test_a_picture_of_other_weights_is_known_before_unless_it_is_drawn_again(repo):
    model = AutoModel.from_pretrained(repo)
    (repo / "figures").mkdir()
    data = repo / "figures" / "retrieval-x.json"
    data.write_text(json.dumps({"title": "t", "fingerprint": "f" * 32, "dataset": "x", "split": "test"}))
    data.with_suffix(".png").touch()
    with pytest.raises(ValueError, match=r"retrieval-x.json: measured on other weights"):
        check_card(repo, model)
    check_card(repo, model, [data])


def test_names_of_files_are_of_data_and_split(tmp_path):
    assert data_stem("/data/rooms_wide", "unseen") == "rooms_wide-unseen"
    assert data_stem("me/rooms", "test") == "rooms-test"
    assert data_stem("maps/*.parquet", "test") == "parquet-test"
    (tmp_path / "rooms").mkdir()
    for name in ("test", "more"):
        (tmp_path / "rooms" / f"{name}.parquet").touch()
    assert data_stem(str(tmp_path / "rooms/test.parquet"), "test") == "rooms-test"
    assert data_stem(str(tmp_path / "rooms/more.parquet"), "test") == "rooms-more-test"
