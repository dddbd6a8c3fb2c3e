"""A card shows the pictures of an evaluation that are in the repo, and none of other weights."""

import json

import pytest
from transformers import AutoModel

from hf_encoders.fingerprint import fingerprint
from hf_encoders.hub.card_figures import read_figures
from hf_encoders.hub.contents import repo_contents
from hf_encoders.hub.model_card import write_card
from tests.helpers.multimodal_models import tiny_model


@pytest.fixture
def repo(tmp_path):
    tiny_model().save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "figures").mkdir()
    return tmp_path / "tiny"


def add(repo, name, **changes):
    """A picture and its data, as `hf-encoders evaluate --figures` writes them."""
    data = {"title": f"of [{name}]", "fingerprint": fingerprint(AutoModel.from_pretrained(repo)), "dataset": "rooms",
            "split": "test"}  # fmt: skip
    (repo / "figures" / f"{name}.json").write_text(json.dumps(data | changes))
    (repo / "figures" / f"{name}.png").touch()


def test_pictures_are_on_the_card_and_in_the_push(repo):
    add(repo, "confusion-b", split="unseen")
    add(repo, "confusion-c", split="validation")
    add(repo, "retrieval-a")
    add(repo, "recall-a")
    add(repo, "similarity-a")
    (repo / "figures" / "mine.png").touch()
    card = write_card(repo).read_text()
    all_names = ("confusion-c", "confusion-b", "recall-a", "retrieval-a", "similarity-a")
    shown = [f"![of &#91;{name}&#93;](figures/{name}.png)" for name in all_names]
    places = [card.index(line) for line in shown]
    assert places == sorted(places) and "mine" not in card
    assert card.index("## Evaluation") < places[0]
    names = {f"figures/{name}.{end}" for name in all_names for end in ("png", "json")}
    contents = repo_contents(repo)
    assert names < set(contents.files) and contents.left_out == ["figures/mine.png"]
    (repo / "README.md").unlink()  # a card that is written later shows them all the same
    assert names < set(repo_contents(repo).files)


def test_pictures_without_data_and_data_without_a_picture_are_left_alone(repo):
    add(repo, "retrieval-a")
    add(repo, "retrieval-b")
    (repo / "figures" / "retrieval-a.png").unlink()
    (repo / "figures" / "retrieval-b.json").unlink()
    assert read_figures(repo) == []


def test_pictures_of_other_weights_are_refused(repo):
    add(repo, "confusion-a", fingerprint="f" * 32)
    with pytest.raises(ValueError, match=r"confusion-a.json: measured on other weights \(f+\)"):
        write_card(repo)
    assert not (repo / "README.md").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_data_that_cannot_be_read_are_named(content, repo):
    add(repo, "confusion-a")
    (repo / "figures" / "confusion-a.json").write_text(content)
    with pytest.raises(ValueError, match=r"confusion-a.json: no data of a picture .*evaluate --figures"):
        write_card(repo)
