"""`.eval_results/`: numbers on the Hub's data sets in its own format, renewed with the card, and part of each push."""

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from transformers import AutoModel

from hf_encoders.fingerprint import fingerprint
from hf_encoders.hub.card_results import add_results
from hf_encoders.hub.contents import repo_contents
from hf_encoders.hub.model_card import write_card
from hf_encoders.hub.push import Destination, push_model
from tests.helpers.multimodal_models import tiny_model

RECALL, CHANCE, ACCURACY = (
    "retrieval/text_to_image_recall@1", "zero-shot/noun/chance", "zero-shot/noun/image/top1_accuracy",
)  # fmt: skip
FILE = ".eval_results/metrics_rooms-test.yaml"


@pytest.fixture
def repo(tmp_path):
    tiny_model().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def report(repo):
    """What `hf-encoders evaluate` reports of a data set of the Hub."""
    weights = fingerprint(AutoModel.from_pretrained(repo))

    def make(split="test", dataset="me/rooms", revision="c0ffee", **metrics):
        metrics = metrics or {RECALL: 0.5, CHANCE: 0.1, ACCURACY: 0.25}
        return {"fingerprint": weights, "dataset": dataset, "split": split, "dataset_revision": revision, "rows": 200,
                "options": {}, "metrics": metrics}  # fmt: skip

    return make


def entries(repo, file=FILE):
    return parse_eval_result_entries(yaml.safe_load((repo / file).read_text()))


def test_an_entry_for_each_metric_names_the_data_and_the_weights(repo, report):
    write_card(repo, metrics=[report()])
    recall, accuracy = entries(repo)
    assert (recall.dataset_id, recall.task_id) == ("me/rooms", "test-retrieval-text_to_image_recall_at_1")
    assert (recall.value, recall.dataset_revision) == (0.5, "c0ffee")
    weights = report()["fingerprint"]
    assert recall.notes == f"{RECALL}, split test, 200 rows, weights {weights}, hf-encoders evaluate"
    assert (accuracy.task_id, accuracy.value) == ("test-zero-shot-noun-image-top1_accuracy", 0.25)
    assert "model-index" in (repo / "README.md").read_text()


def test_data_of_a_folder_have_no_name_on_the_hub(repo, report):
    of_folder = {key: value for key, value in report(dataset="/home/me/rooms").items() if key != "dataset_revision"}
    write_card(repo, metrics=[of_folder | {"dataset_sha256": "a" * 64}])
    assert not (repo / ".eval_results").exists() and "model-index" in (repo / "README.md").read_text()


def test_a_new_evaluation_renews_them_and_leaves_those_of_others(repo, report):
    (repo / ".eval_results").mkdir()
    (repo / ".eval_results" / "hle.yaml").write_text("- dataset: {id: cais/hle, task_id: hle}\n  value: 1\n")
    add_results(repo, [report(), report("unseen")])
    names = {"hle.yaml", "metrics_rooms-test.yaml", "metrics_rooms-unseen.yaml"}
    assert {path.name for path in (repo / ".eval_results").iterdir()} == names
    add_results(repo, [report(**{RECALL: 0.75})])
    assert [entry.value for entry in entries(repo)] == [0.25, 0.75]
    add_results(repo, [report(revision="facade", **{RECALL: 1.0})])  # of another version nothing stays
    assert [(entry.value, entry.dataset_revision) for entry in entries(repo)] == [(1.0, "facade")]
    for path in repo.glob("metrics_*.json"):
        path.unlink()
    write_card(repo)
    assert [path.name for path in (repo / ".eval_results").iterdir()] == ["hle.yaml"]


def test_data_sets_of_two_owners_share_a_file(repo, report):
    write_card(repo, metrics=[report(), report(dataset="you/rooms")])
    assert [entry.dataset_id for entry in entries(repo)] == ["me/rooms", "me/rooms", "you/rooms", "you/rooms"]


def test_they_are_pushed_and_those_of_other_weights_removed(repo, report, hub_client):
    add_results(repo, [report(), report("unseen")])
    assert FILE in repo_contents(repo).files
    push_model(repo, Destination("org/measured"))
    there = {name for name in hub_client.list_repo_files("org/measured") if name.startswith(".eval_results/")}
    assert there == {FILE, FILE.replace("test", "unseen")}
    for path in repo.glob("metrics_*-unseen.json"):
        path.unlink()
    push_model(repo, Destination("org/measured"))
    assert FILE.replace("test", "unseen") not in hub_client.list_repo_files("org/measured")
    assert FILE in hub_client.list_repo_files("org/measured")
