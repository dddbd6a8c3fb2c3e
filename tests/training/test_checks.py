"""What is checked before the first step: metrics, trackers, room on the disk, weights, tokenizers, captions."""

import codecs
import json
import shutil
import warnings
from types import SimpleNamespace

import pytest
import torch
import yaml
from datasets import Dataset

from hf_encoders.evaluation.retrieval import metric_names, retrieval_metrics
from hf_encoders.evaluation.tasks import retrieval_names
from hf_encoders.training import checks, pretrain, pretrain_depth
from hf_encoders.training.multimodal.model import build_model
from hf_encoders.training.multimodal.step import Step
from hf_encoders.training.multimodal.trainer import Trainer
from hf_encoders.training.multimodal.validation import Validation
from tests.conftest import SAMPLES
from tests.helpers.legacy_files import refusal
from tests.helpers.multimodal_models import SPECIAL, WORDS, tiny_model
from tests.helpers.training_files import PICTURE, png
from tests.helpers.training_runs import RECIPE, write_recipe

pytestmark = pytest.mark.usefixtures("first_run")

VALIDATED = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "validation_split": "validation"}


@pytest.fixture
def no_step(monkeypatch):
    """Fails where a step is taken."""
    monkeypatch.setattr(Step, "__call__", lambda *words: pytest.fail("took a step"))


@pytest.fixture
def refused(tmp_path, no_step):
    """The one line that a run with changes of the options ends in; nothing is left behind."""

    def run(**changes):
        line = refusal(
            str(write_recipe(tmp_path, **changes)), "--output_dir", str(tmp_path / "out"), main=pretrain.command
        )
        assert not (tmp_path / "out").exists()
        return line

    return run


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    for kind, names in (("multimodal", ("build_model", "load_rows")), ("depth", ("build_autoencoder",))):
        for name in names:
            target = f"hf_encoders.training.{kind}.trainer.{name}"
            monkeypatch.setattr(target, lambda *words, **options: pytest.fail("loaded something"))


def test_the_names_of_the_metrics_are_those_that_are_measured():
    embeds = torch.eye(3)
    assert list(retrieval_metrics(embeds, embeds)) == metric_names()
    found = retrieval_metrics(embeds, embeds, names=("depth", "image"), ks=(2,))
    assert list(found) == metric_names(("depth", "image"), (2,))


def test_the_names_of_a_validation_are_those_that_it_gives(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("hf_encoders.training.multimodal.trainer.is_better", lambda *words: False)
    measure = Validation.measure
    monkeypatch.setattr(Validation, "measure", lambda *words: given.append(measure(*words)) or given[-1])
    pretrain.command([str(write_recipe(tmp_path, **VALIDATED, epochs=1)), "--output_dir", str(tmp_path / "out")])
    assert list(given[0]) == [*retrieval_names(["depth", "text", "image"]), "validation_loss"]


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"validation_metric": "retrieval/text_to_image_recal@1"}, "mean retrieval/text_to_image_recall@1 or"),
        ({"validation_metric": "retrieval/text_to_image_recall@2"}, "mean retrieval/text_to_image_recall@"),
        ({"validation_metric": "loss"}, "there are retrieval/text_to_image_recall@1, retrieval/text"),
        ({"depth_column": "", "validation_metric": "retrieval/text_to_depth_recall@1"}, "did you mean retrieval/text_"),
        ({"image_column": ""}, "did you mean retrieval/text_to_depth"),  # the default's image is not there
    ],
)
def test_a_mistyped_metric_is_refused_before_anything_is_loaded(changes, hint, refused, nothing_is_loaded):
    line = refused(**VALIDATED, **changes)
    assert "the validation of this run gives no such metric; " in line and hint in line


@pytest.mark.parametrize("script", [pretrain, pretrain_depth])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wandb", "--report_to wandb: is not installed; pip install wandb, or give --report_to none"),
        ("weights", "argument --report_to: invalid choice: 'weights' (choose from "),
        ("tensorboard", "--report_to tensorboard: is not installed"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_anything_is_loaded(
    script, name, message, tmp_path, monkeypatch, nothing_is_loaded
):
    monkeypatch.setattr(checks, "get_available_trackers", list)
    words = [script.DEFAULT_RECIPE, "--report_to", name, "--output_dir", str(tmp_path / "out")]
    assert message in refusal(*words, main=script.command)


def test_without_a_wish_a_run_logs_to_tensorboard_if_it_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checks, "get_available_trackers", lambda: ["wandb"])
    recipe = write_recipe(tmp_path, max_steps=1, report_to="auto")
    pretrain.command([str(recipe), "--output_dir", str(tmp_path / "out")])
    assert "tensorboard is not installed: nothing is logged to it" in capsys.readouterr().out


def test_the_estimate_of_a_checkpoint_is_about_its_size(tmp_path):
    made = Trainer(*pretrain.parse(_words(tmp_path, max_steps=1, ema_decay=0.9), pretrain.KINDS, "", ""))
    size = checks.checkpoint_size(made.plain_model, made.loss, made.averages)
    made.train()
    folder = tmp_path / "out" / "checkpoints" / "checkpoint-1"
    written = sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith("random"))
    assert 0.5 < size / written < 1.1  # tiny tensors have headers as large as themselves


def _words(tmp_path, **changes):
    return [str(write_recipe(tmp_path, **changes)), "--output_dir", str(tmp_path / "out")]


def _with_free(monkeypatch, size):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=size))


def test_a_disk_without_room_for_a_checkpoint_is_refused(refused, monkeypatch):
    _with_free(monkeypatch, 100_000)
    line = refused()
    assert "out: a checkpoint takes " in line and "0 MB are free there; make room, or choose another" in line


def test_a_disk_without_room_for_a_depth_checkpoint_is_refused(tmp_path, monkeypatch):
    _with_free(monkeypatch, 1_000_000)
    words = ["depth_sample", "--num_workers", "0", "--output_dir", str(tmp_path / "out"), "--report_to", "none"]
    assert "make room" in refusal(*words, main=pretrain_depth.command)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_will_be_full_is_warned_about(tmp_path, monkeypatch):
    _with_free(monkeypatch, 1_200_000)
    with pytest.warns(UserWarning, match=r"20 checkpoints of \d MB do not fit .* lower --keep_last"):
        Trainer(*pretrain.parse(_words(tmp_path, epochs=20, keep_last=0), pretrain.KINDS, "", ""))


def test_weights_that_are_no_numbers_are_named(refused, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.text_projection.weight[0, 0] = torch.inf
    model.save_pretrained(tmp_path / "model")
    line = refused(init_from=str(tmp_path / "model"), model_config=None, tokenizer="")
    assert f"{tmp_path / 'model'}: text_projection.weight holds NaN or infinity; " in line


def test_a_teacher_whose_weights_are_no_numbers_is_named(refused, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.visual_projection.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "teacher")
    assert "teacher: visual_projection.weight holds NaN" in refused(teacher=str(tmp_path / "teacher"))


def test_a_tokenizer_with_more_tokens_than_the_text_tower_is_refused(refused, tmp_path):
    words = (SAMPLES / "tokenizer" / "vocab.txt").read_text()
    (tmp_path / "vocab.txt").write_text(f"{words.rstrip()}\none\ntwo\n")
    assert "vocab.txt: has 555 tokens, and the text tower embeds 554; give the" in refused(
        tokenizer=str(tmp_path / "vocab.txt")
    )


@pytest.fixture
def tiny(tmp_path):
    """A repo to go on from, and rows that its tokenizer knows."""
    tiny_model(depth=False).save_pretrained(tmp_path / "model")
    captions = ["a red chair", "a lamp", "the blue table", "a large chair"]
    rows = {"caption": captions, "image": [{"bytes": png(PICTURE)} for _ in captions]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    return {
        "init_from": str(tmp_path / "model"), "model_config": None, "tokenizer": "", "depth_column": "",
        "dataset": [str(tmp_path / "rows.parquet")], "batch_size": 2, "max_steps": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (SPECIAL + WORDS[::-1], r"\d+ of 25 tokens are not those of the model's own tokenizer \(number 5 is '##s'"),
        (SPECIAL + ["other", *WORDS[1:]], "1 of 25 tokens are not those"),
        (SPECIAL + WORDS, ""),
    ],
    ids=["another order", "another word", "the same"],
)
def test_a_tokenizer_of_other_tokens_than_the_models_own_is_warned_about(tokens, message, tiny, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pretrain.command(_words(tmp_path, **tiny | {"tokenizer": str(tmp_path / "vocab.txt")}))
    said = [str(warning.message) for warning in caught if "own tokenizer" in str(warning.message)]
    assert len(said) == bool(message)
    if message:
        with pytest.warns(UserWarning, match=message):
            Trainer(
                *pretrain.parse(
                    _words(tmp_path, **tiny | {"tokenizer": str(tmp_path / "vocab.txt")}), pretrain.KINDS, "", ""
                )
            )


@pytest.mark.parametrize("streaming", [False, True], ids=["disk", "stream"])
@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([""] * 4, "column 'caption': the captions of all 4 rows that were looked at are empty; give the right --text"),
        ([" ", "\n", "", "\t"], "rows that were looked at are empty"),
        ([None, None, None, ""], "rows that were looked at are empty"),
        ([[""], [" ", ""], [""], [""]], "rows that were looked at are empty"),
        (["a chair"] * 4, "are 'a chair', so none can be told from another"),
        (["ж", "ш", "щ ж", "ы"], "have no token that the tokenizer knows, such as 'ж'; give another --tokenizer"),
    ],
    ids=["empty", "blank", "none", "lists", "the same", "unknown"],
)
def test_captions_of_which_nothing_can_be_learned_are_refused(captions, message, streaming, tiny, refused, tmp_path):
    rows = {"caption": captions, "image": [{"bytes": png(PICTURE)} for _ in captions]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    if streaming and captions[0] == "a chair":  # a stream may be sorted
        with pytest.warns(UserWarning, match="is the stream sorted"):
            Trainer(*pretrain.parse(_words(tmp_path, **tiny, streaming=True), pretrain.KINDS, "", ""))
    else:
        assert message in refused(**tiny, streaming=streaming)


def test_some_captions_without_a_known_token_are_warned_about(tiny, tmp_path):
    rows = {"caption": ["a chair", "ж", "a lamp", ""], "image": [{"bytes": png(PICTURE)}] * 4}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    with pytest.warns(UserWarning, match="column 'caption': 1 of 3 captions have no token .* such as 'ж'"):
        Trainer(*pretrain.parse(_words(tmp_path, **tiny), pretrain.KINDS, "", ""))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_recipe_and_a_vocabulary_with_a_mark(encoding, tmp_path):
    text = (SAMPLES / "tokenizer" / "vocab.txt").read_text().replace("\n", "\r\n")
    (tmp_path / "vocab.txt").write_bytes(text.encode(encoding))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "vocab.txt").write_bytes(text.encode(encoding))
    (tmp_path / "folder" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    expected = _built(tmp_path, str(SAMPLES / "tokenizer" / "vocab.txt"))
    for source in ("vocab.txt", "folder"):
        assert _built(tmp_path, str(tmp_path / source), encoding) == expected


def _built(tmp_path, tokenizer, encoding="utf-8"):
    """The tokens of a model that is built by a recipe in an encoding."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(yaml.safe_dump(RECIPE | {"tokenizer": tokenizer}).replace("\n", "\r\n").encode(encoding))
    _, model, loss, run = pretrain.parse([str(recipe)], pretrain.KINDS, "", "")
    built = build_model(model, loss, run.seed).processor.tokenizer
    return built("a réd chair, and a lamp")["input_ids"], built.get_vocab()


def test_a_recipe_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"epochs: 3\noutput_dir: caf\xe9\n")
    line = refusal(str(tmp_path / "recipe.yaml"), main=pretrain.command)
    assert "recipe.yaml: line 2 is no UTF-8 (byte 0xe9); save it as UTF-8" in line


@pytest.mark.parametrize("streaming", [False, True], ids=["disk", "stream"])
def test_a_run_on_lines_of_json_with_pictures_beside_them(streaming, tiny, tmp_path):
    (tmp_path / "data").mkdir()
    lines = []
    for number, caption in enumerate(["a red chair", "a lamp", "the blue table", "a large chair"]):
        (tmp_path / "data" / f"{number}.png").write_bytes(png(PICTURE))
        lines.append(json.dumps({"caption": caption, "image": f"{number}.png"}))
    (tmp_path / "data" / "rows.jsonl").write_bytes(codecs.BOM_UTF8 + "\r\n".join(lines).encode())
    pretrain.command(
        _words(tmp_path, **tiny | {"dataset": [str(tmp_path / "data" / "rows.jsonl")]}, streaming=streaming)
    )
    assert (tmp_path / "out" / "model.safetensors").is_file()
