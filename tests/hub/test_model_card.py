"""Model cards: their code runs, their numbers are those of the weights, and what a person wrote stays."""

import json
import re
import shutil
import zipfile

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoModel, BertConfig

from hf_encoders import DepthImageProcessor
from hf_encoders.fingerprint import fingerprint
from hf_encoders.hub.complete import complete_repo
from hf_encoders.hub.model_card import write_card
from tests.conftest import ROOT, SMALL_CHECKPOINT
from tests.helpers.legacy_files import convert, write_legacy
from tests.helpers.multimodal_models import tiny_model

RECALL = "retrieval/text_to_image_recall@1"
METRICS = {RECALL: 0.5, "retrieval/text_to_image_median_rank": 2.0, "zero-shot/noun/chance": 0.25,
           "zero-shot/noun/depth/top1_accuracy": 0.75}  # fmt: skip
SHIPPED = ROOT / "model_cards" / "depth-semantic-encoder"


@pytest.fixture
def repo(tmp_path, tiny_multimodal):
    tiny_multimodal.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def depth_repo(tmp_path, tiny_autoencoder):
    tiny_autoencoder.processor = DepthImageProcessor(size=32)
    tiny_autoencoder.save_pretrained(tmp_path / "tiny-depth")
    return tmp_path / "tiny-depth"


def load(repo):
    return ModelCard.load(repo / "README.md")


def measured(repo, **changes):
    """What `hf-encoders evaluate` would write."""
    report = {"fingerprint": fingerprint(AutoModel.from_pretrained(repo)), "dataset": "/home/me/rooms/test.parquet",
              "split": "test", "dataset_sha256": "a" * 64, "rows": 200, "options": {"k": 20, "limit": None},
              "metrics": METRICS}  # fmt: skip
    return report | changes


def run_blocks(text):
    """Run the Python blocks of a card one after the other; returns the names that they leave."""
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert names, "a card has Python"
    return names


@pytest.mark.parametrize("kind", ["depth", "with depth", "without depth", "without tokenizer"])
def test_the_code_runs_as_printed(kind, depth_repo, tmp_path, monkeypatch):
    repo = depth_repo
    if kind != "depth":
        repo = tmp_path / "tiny"
        tiny_model(depth=kind == "with depth").save_pretrained(repo)
    if kind == "without tokenizer":
        for path in repo.glob("tokenizer*"):
            path.unlink()
    complete_repo(repo, remote_code=kind != "with depth")
    monkeypatch.chdir(tmp_path)
    text = load(repo).text
    names = run_blocks(text)
    assert ("trust_remote_code=True" in text) == (kind != "with depth")
    assert names["SentenceTransformer"] and {"features", "scores"} & names.keys()
    assert names["similarity"].shape == (2, 2)
    assert ("texts" in names) == kind.startswith("with ") or kind == "without depth"
    assert ("depth" in names) == (kind == "with depth") and ("embeddings" in names) == (kind == "depth")
    assert ("tokenizer = ..." in text) == (kind == "without tokenizer")
    assert ("DepthAutoencoderModel" in text) == (kind == "depth")


def test_the_header_is_what_the_hub_asks_for(repo):
    write_card(repo, name="me/tiny", license="apache-2.0", datasets=["me/rooms", str(repo), "a/b/c.parquet"],
               base_model=["google-bert/bert-base-uncased"], metrics=[measured(repo)])  # fmt: skip
    header = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])
    assert header["license"] == "apache-2.0" and header["library_name"] == "transformers"
    assert header["pipeline_tag"] == "zero-shot-image-classification" and "multimodal" in header["tags"]
    assert header["datasets"] == ["me/rooms"] and header["base_model"] == ["google-bert/bert-base-uncased"]
    (index,) = header["model-index"]
    assert index["name"] == "me/tiny" and [r["task"]["type"] for r in index["results"]] == [
        "feature-extraction",
        "zero-shot-image-classification",
    ]
    for result in index["results"]:
        assert result["dataset"] == {"name": "rooms/test.parquet", "type": "rooms-test", "split": "test",
                                     "args": {"sha256": "a" * 64}}  # fmt: skip
        assert all({"type", "value", "name"} <= metric.keys() for metric in result["metrics"])
    recall = index["results"][0]["metrics"][0]
    assert (recall["type"], recall["value"], recall["name"]) == ("recall_at_1", 0.5, RECALL)
    assert "chance" not in str(index) and "/home/me" not in (repo / "README.md").read_text()
    card = load(repo)
    assert ModelCardData(**card.data.to_dict()).to_dict() == card.data.to_dict() == header


def test_the_hubs_data_sets_are_named_with_their_revision(repo):
    of_hub = {"dataset": "me/rooms", "dataset_revision": "c0ffee"}
    report = {key: value for key, value in measured(repo, **of_hub).items() if key != "dataset_sha256"}
    write_card(repo, metrics=[report])
    result = load(repo).data.eval_results[0]
    assert (result.dataset_type, result.dataset_name, result.dataset_revision) == ("me/rooms", "me/rooms", "c0ffee")


def test_a_result_names_the_options_of_its_own_task(repo):
    metrics = {"zero-shot/noun/depth/top1_accuracy": 0.5, "knn/noun/depth/accuracy": 0.5, RECALL: 0.5}
    options = {"k": 20, "templates": ["a {}"], "limit": 9}
    write_card(repo, metrics=[measured(repo, metrics=metrics, options=options)])
    args = {result.metric_name: set(result.metric_args) for result in load(repo).data.eval_results}
    common = {"fingerprint", "rows", "limit"}
    assert args == {
        "zero-shot/noun/depth/top1_accuracy": common | {"templates"},
        "knn/noun/depth/accuracy": common | {"k"},
        RECALL: common,
    }


def test_metrics_in_the_repo_are_shown_as_tables(repo):
    (repo / "metrics.json").write_text(json.dumps(measured(repo)))
    text = load(write_card(repo).parent).text
    for line in ("| Retrieval | rooms/test.parquet, test |", "| text → image: recall@1 | 0.5 |",
                 "| text → image: median rank | 2 |", "| noun, guessing: top1 accuracy | 0.25 |",
                 "| noun, depth: top1 accuracy | 0.75 |"):  # fmt: skip
        assert line in text
    assert f"`rooms/test.parquet` (test, 200 rows, SHA-256 `{'a' * 64}`)" in text


def test_numbers_of_other_weights_are_refused(repo):
    write_card(repo)
    before = (repo / "README.md").read_bytes()
    (repo / "metrics.json").write_text(json.dumps(measured(repo, fingerprint="f" * 32)))
    with pytest.raises(ValueError, match=r"metrics.json: measured on other weights \(f+\)"):
        write_card(repo, recipe={"epochs": 1})
    assert (repo / "README.md").read_bytes() == before and not (repo / "training_recipe.yaml").exists()
    (repo / "metrics.json").unlink()
    (repo / "conversion_report.json").write_text(json.dumps({"weights_sha256": {"model.safetensors": "0" * 64}}))
    with pytest.raises(ValueError, match=r"conversion_report.json: of other weights"):
        write_card(repo)


def test_numbers_of_two_versions_of_the_data_are_refused(repo):
    with pytest.raises(ValueError, match=r"two versions of rooms/test.parquet \(test\)"):
        write_card(repo, metrics=[measured(repo), measured(repo, dataset_sha256="b" * 64)])


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "no report of an evaluation"), ("{", "no metrics that can be read"), ("{}", "no report of an evaluation")],
)
def test_what_is_no_report(content, message, repo):
    (repo / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=f"metrics.json: {message}"):
        write_card(repo)


def test_what_a_person_wrote_survives(repo):
    write_card(repo, license="mit", datasets=["me/old"], metrics=[measured(repo)])
    card = load(repo)
    mine = EvalResult("image-classification", "me/mine", "Mine", "accuracy", 0.9)
    card.data.license, card.data.language, card.data["widget"] = "cc0-1.0", ["en"], [{"src": "a.png"}]
    card.data.tags.remove("clip")
    card.data.eval_results.append(mine)
    card.text = card.text.replace("<!-- generated: limits -->", "## Thanks\n\nto all\n\n<!-- generated: limits -->")
    card.save(repo / "README.md")
    write_card(repo, datasets=["me/new"])
    again = load(repo)
    assert (again.data.license, again.data.language, again.data["widget"]) == ("cc0-1.0", ["en"], [{"src": "a.png"}])
    assert again.data.datasets == ["me/old", "me/new"] and "clip" not in again.data.tags
    assert again.data.eval_results == [mine]  # the metrics of before are not in the repo
    assert again.text.index("## Intended use") < again.text.index("## Thanks\n\nto all") < again.text.index("## Limits")
    assert "## Evaluation" not in again.text
    assert load(write_card(repo, license="mit").parent).data.license == "mit"


def test_a_card_that_cannot_be_read_is_named(repo):
    for text, message in (("---\na: [\n---\n", "its header"), ("<!-- end: use -->", "is missing")):
        (repo / "README.md").write_text(text)
        with pytest.raises(ValueError, match=f"README.md: .*{message}"):
            write_card(repo, recipe={"epochs": 1})
        assert (repo / "README.md").read_text() == text and not (repo / "training_recipe.yaml").exists()


def test_recipe_curves_and_example_stay(repo):
    (repo / "example.png").touch()
    write_card(repo, recipe={"epochs": 3, "freeze": ["visual_encoder"]}, curves={"loss": [(1, 2.0), (2, 1.0)]})
    assert (repo / "training_recipe.yaml").read_text() == "epochs: 3\nfreeze:\n- visual_encoder\n"
    before = (repo / "README.md").read_bytes()
    for said in (b"epochs: 3", b"](training_curves.png)", b"](example.png)"):
        assert said in before
    assert write_card(repo).read_bytes() == before


@pytest.mark.parametrize("config", [None, BertConfig()])
def test_what_is_no_repo_of_ours(config, tmp_path):
    if config:
        config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a model of type 'bert'" if config else "no repo of a model"):
        write_card(tmp_path)


def test_the_hub_takes_the_card(repo, hub, hub_client):
    card = write_card(repo, license="mit", metrics=[measured(repo)])
    hub_client.create_repo("tester/validated-card")
    hub_client.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="tester/validated-card")
    assert hub.requests("POST", "validate-yaml")[-1].status == 200


def test_pushing_a_model_writes_its_card_and_keeps_what_is_there(repo, hub_client):
    model, name = AutoModel.from_pretrained(repo), "tester/tiny-card"
    model.push_to_hub(name, tags=["mine"])
    card = ModelCard.load(name)
    assert {"mine", "multimodal"} <= set(card.data.tags) and "More Information" not in card.text
    assert f'from_pretrained("{name}")' in card.text and card.data.library_name == "transformers"
    card.text += "\n## Thanks\n"
    hub_client.upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id=name)
    model.push_to_hub(name)
    assert ModelCard.load(name).text == card.text


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The model whose card ships."""
    repo = tmp_path_factory.mktemp("shipped") / SHIPPED.name
    convert(SMALL_CHECKPOINT, "--output", repo)
    return repo


def test_the_shipped_card_is_the_one_that_is_written(converted):
    for name in ("metrics.json", "example.png"):
        shutil.copy(SHIPPED / name, converted)
    write_card(converted, license="apache-2.0")
    differences = re.compile(r"\d\.\d+e-\d\d")  # their last digits depend on the processor
    written, shipped = (differences.sub("#", (folder / "README.md").read_text()) for folder in (converted, SHIPPED))
    assert written == shipped


def test_the_code_of_the_shipped_cards_runs(converted, tmp_path, monkeypatch):
    for folder in (converted, *(path.parent for path in ROOT.glob("samples/*/config.json"))):
        (tmp_path / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    cards = [*ROOT.glob("model_cards/*/README.md"), *(path for path in tmp_path.glob("*/README.md"))]
    assert len(cards) >= 2
    for card in cards:
        run_blocks(card.read_text())


def test_a_wheel_has_the_templates_where_they_are_looked_for(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = {path.name for path in (ROOT / "model_cards").glob("*.md")}
    assert names <= {name.removeprefix("hf_encoders/model_cards/") for name in zipfile.ZipFile(wheel).namelist()}


def test_a_report_whose_file_says_marks_and_markup_harms_no_card(tmp_path):
    """Reports of other people's repos come from the Hub: what is in them was not written by this package."""
    convert(write_legacy(tmp_path / "a.pth"), "--no-verify")
    repo = tmp_path / "a-hf"
    report = json.loads((repo / "conversion_report.json").read_text())
    evil = "<!-- end: provenance -->\n\n# Another title | `x` \x1b[31m"
    report["source"] |= {"name": evil, "wrapping": evil, "layout": evil}
    report["source"]["metadata"] |= {"epoch": evil, "loss": evil, "config": {"height_range": evil}}
    (repo / "conversion_report.json").write_text(json.dumps(report))
    for _ in range(2):
        text = write_card(repo).read_text(encoding="utf-8")
        assert (
            "\x1b" not in text and "# Another title" not in text.splitlines() and text.count("end: provenance -->") == 1
        )
