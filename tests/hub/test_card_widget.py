"""What a card says to the Hub's widget: examples where a host can run the model, and whose they are."""

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from hf_encoders.conversion.convert import convert
from hf_encoders.hub.card_edits import by_hand, complete_version
from hf_encoders.hub.card_widget import widget_metadata
from hf_encoders.hub.kind import DEPTH, ENCODER, MULTIMODAL
from hf_encoders.hub.model_card import write_card
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.multimodal_models import tiny_model


def header(repo):
    return yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])


@pytest.mark.parametrize("kind", [DEPTH, MULTIMODAL])
def test_no_host_runs_the_code_of_a_repo(kind):
    found = widget_metadata(kind, "zero-shot-image-classification", has_tokenizer=True, has_images=True)
    assert found == {"inference": False}


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("feature-extraction", {"text", "example_title"}),
        ("text-classification", {"text", "example_title"}),
        ("image-classification", {"src", "example_title"}),
        ("zero-shot-image-classification", {"src", "candidate_labels", "example_title"}),
    ],
)
def test_classes_of_transformers_have_examples_of_their_task(task, keys):
    examples = widget_metadata(ENCODER, task, has_tokenizer=True, has_images=True)["widget"]
    assert len(examples) == 2 and all(set(example) == keys for example in examples)
    # A task of texts needs the tokenizer, one of images the image processor.
    lacking = {"has_tokenizer": "text" not in keys, "has_images": "src" not in keys}
    assert widget_metadata(ENCODER, task, **lacking) == {}


def test_a_task_without_a_widget_has_no_examples():
    assert widget_metadata(ENCODER, "image-feature-extraction", has_tokenizer=False, has_images=True) == {}


def test_the_header_has_them_and_keeps_those_of_a_person(tmp_path):
    torch.save({"model": randomised(ResNet(classes=3)).state_dict()}, tmp_path / "a.pth")
    repo = convert(tmp_path / "a.pth", tmp_path / "repo")
    first = header(repo)
    assert first["pipeline_tag"] == "image-classification"
    assert ("widget" in first) == any(repo.glob("preprocessor_config.json")) and "inference" not in first
    card = ModelCard.load(repo / "README.md")
    card.data.widget = [{"src": "https://example.org/mine.png"}]
    card.save(repo / "README.md")
    write_card(repo)
    assert header(repo)["widget"] == [{"src": "https://example.org/mine.png"}]


def test_what_a_person_says_to_the_widget_is_theirs(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    generated = write_card(tmp_path).read_text()
    assert header(tmp_path)["inference"] is False and by_hand(generated) == set()
    edited = generated.replace("inference: false", "inference: true")
    assert by_hand(edited) == {"inference:"}
    assert complete_version(generated, edited) == edited  # of the Hub's card and the folder's, the one with more
    examples = ModelCard(generated)
    examples.data.widget = [{"text": "mine"}]
    assert by_hand(str(examples)) == {"widget:"}
    examples.data.widget = widget_metadata(ENCODER, "feature-extraction", has_tokenizer=True, has_images=False)[
        "widget"
    ]
    assert by_hand(str(examples)) == set()


def test_the_card_says_what_to_install(tmp_path, tiny_encoder):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    line = "pip install 'hf-encoders>=0.1.0' 'transformers>=5.18,<6' 'torch>=2.7'\n"
    assert line in write_card(tmp_path / "depth").read_text()
    torch.save({"model": randomised(ResNet(classes=3)).state_dict()}, tmp_path / "a.pth")
    repo = convert(tmp_path / "a.pth", tmp_path / "repo")
    assert "pip install 'transformers>=5.18,<6' 'torch>=2.7'\n" in (repo / "README.md").read_text()
