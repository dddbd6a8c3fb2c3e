"""What a person meets in the first runs on data of their own: models, splits, and ends."""

import json
import re

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig, BertForMaskedLM

from hf_encoders.training import pretrain, pretrain_depth
from hf_encoders.training.multimodal.validation import Validation
from hf_encoders.training.result import publish
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import SAMPLES, TINY
from tests.helpers.legacy_files import refusal
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.training_runs import write_recipe

pytestmark = pytest.mark.usefixtures("first_run")

SMALL = ["--batch_size=8", "--max_steps=1", "--num_workers=0", "--report_to=none", "--mixed_precision=no"]
ROOMS = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "validation_split": "validation"}


@pytest.fixture
def mine(tmp_path):
    """Captions and images of one's own, without depth maps: a file, and a folder with two splits."""
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(16))
    rows = rows.select_columns(["image", "caption"])
    (tmp_path / "mine").mkdir()
    for name in ("mine.parquet", "mine/train.parquet", "mine/validation.parquet"):
        rows.to_parquet(tmp_path / name)
    return tmp_path


@pytest.fixture
def options(tmp_path):
    return lambda **changes: [str(write_recipe(tmp_path, **changes)), "--output_dir", str(tmp_path / "out")]


@pytest.mark.parametrize(("data", "validated"), [("mine.parquet", False), ("mine", True)])
@pytest.mark.parametrize("recipe", [[], ["finetune"], ["sample", "--depth_column", ""]], ids=["none", "its", "another"])
def test_a_repo_goes_on_with_captions_of_ones_own(recipe, data, validated, mine, capsys):
    tiny_model(depth=False).save_pretrained(mine / "repo")
    split = ["--validation_split", "auto"] if recipe[:1] == ["sample"] else []
    words = [*recipe, "--init_from", str(mine / "repo"), "--dataset", str(mine / data), *split]
    pretrain.command([*words, "--output_dir", str(mine / "out"), *SMALL])
    assert (mine / "out" / "model.safetensors").is_file()
    out = capsys.readouterr().out
    assert ("validated on 'validation'" in out) is validated and ("not validated" in out) is not validated
    assert f"model: MultimodalEncoderModel, {mine}/repo; " in out and "loss: infonce; 1 step of 8 rows" in out


def test_images_of_bytes_and_paths_of_depth_maps_are_trained_on_and_other_files_counted(mine, capsys):
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(16))
    rows = rows.select_columns(["image", "depth", "caption"])
    (mine / "own").mkdir()
    paths = [str(mine / f"{number}.png") for number in range(len(rows))]
    for path, depth in zip(paths, rows["depth"], strict=True):
        depth.save(path)
    stored = rows.cast_column("image", Image(decode=False)).with_format(None)
    contents = [record["bytes"] for record in stored["image"]]
    columns = {"caption": rows["caption"][:], "image": contents, "depth": paths}
    features = Features({"caption": Value("string"), "image": Value("binary"), "depth": Value("string")})
    Dataset.from_dict(columns, features).to_parquet(mine / "own" / "train.parquet")
    (mine / "own" / "notes.docx").touch()
    tiny_model().save_pretrained(mine / "repo")
    words = ["--init_from", str(mine / "repo"), "--dataset", str(mine / "own"), "--depth_column", "depth"]
    pretrain.command([*words, "--validation_split", "", "--output_dir", str(mine / "out"), *SMALL])
    assert (mine / "out" / "model.safetensors").is_file()
    assert capsys.readouterr().out.count(f"{mine}/own: left out: 1 .docx\n") == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_called_otherwise_are_trained_on_and_said(streaming, mine, capsys):
    rows = Dataset.from_parquet(str(mine / "mine.parquet"))
    rows.rename_columns({"image": "photo", "caption": "title"}).to_parquet(mine / "own.parquet")
    tiny_model(depth=False).save_pretrained(mine / "repo")
    words = ["--init_from", str(mine / "repo"), "--dataset", str(mine / "own.parquet"), "--streaming", str(streaming)]
    pretrain.command([*words, "--output_dir", str(mine / "out"), *SMALL])
    out = capsys.readouterr().out
    assert "no column 'caption': 'title' is the only one of its kind, and is taken" in out
    assert "no column 'image': 'photo' is the only one of its kind, and is taken" in out
    assert "text in 'title'; image in 'photo'" in out
    # A resumed run finds them again, and says nothing of other options.
    pretrain.command([*words, "--output_dir", str(mine / "out"), *SMALL, "--resume_from_checkpoint", "latest"])
    out = capsys.readouterr().out
    assert "nothing is left to do" in out and "other options" not in out


def test_frozen_parts_are_named(mine, capsys):
    tiny_model(depth=False).save_pretrained(mine / "repo")
    words = ["lit", "--init_from", str(mine / "repo"), "--dataset", str(mine / "mine"), "--output_dir"]
    pretrain.command([*words, str(mine / "out"), *SMALL, "--gradient_accumulation_steps=1"])
    assert re.search(
        r"model: .* parameters, of which \S+ are trained \(visual_encoder frozen\)\n", capsys.readouterr().out
    )


@pytest.mark.parametrize(("warmup", "told"), [(1, True), (500, True), (0, False)])
def test_a_rate_that_never_rises_is_told(warmup, told, options, capsys):
    pretrain.command(options(max_steps=1, warmup_steps=warmup))
    line = (
        f"the learning rate rises for {warmup} step{'s' * (warmup > 1)}, and the run has 1: it never reaches 0.001;"
        " give --warmup_steps 0, or more --epochs"
    )
    assert (line in capsys.readouterr().out) is told


def test_patience_without_a_metric_is_told_and_ends_nothing(options, capsys):
    pretrain.command(options(patience=1, epochs=3, batch_size=50))
    out = capsys.readouterr().out
    assert (
        "patience 1 has no metric to wait for: no data set has a split 'validation'" in out and "epoch 3, step 6" in out
    )


@pytest.mark.parametrize("flags", [["--max_steps=3"], ["--epochs=1"]])
def test_fewer_rows_than_a_step_are_told_at_once(flags, options):
    message = "100 rows, fewer than the 240 of a step (batch_size 60 x gradient_accumulation_steps 4 x 1 process);"
    message += " give --batch_size 25 or less"
    assert message in refusal(*options(batch_size=60, gradient_accumulation_steps=4), *flags, main=pretrain.command)


def test_a_stream_of_fewer_rows_than_a_step_ends(options):
    words = options(batch_size=60, gradient_accumulation_steps=4, streaming=True, max_steps=3)
    with pytest.raises(ValueError, match="an epoch of this stream has fewer rows than a step takes, 240"):
        pretrain.command(words)


def test_a_run_that_gets_no_better_ends_and_is_then_finished(options, monkeypatch, capsys):
    measured = Validation.measure
    values = iter([0.1, 0.5, 0.4, 0.4, 0.6, 0.3, 0.3, 0.3])  # before the first step, and after each epoch
    recall = "retrieval/text_to_image_recall@1"
    monkeypatch.setattr(Validation, "measure", lambda *words: measured(*words) | {recall: next(values)})
    words = options(**ROOMS, epochs=9, patience=2, batch_size=50)
    pretrain.command(words)
    out = capsys.readouterr().out
    assert "epoch 3, step 6 " in out and "epoch 4" not in out and "the weights of step 2, on validation" in out
    again = [*words, "--resume_from_checkpoint", "latest"]
    pretrain.command(again)
    out = capsys.readouterr().out
    assert f"nothing is left to do: {recall} got no better; more with --patience" in out and "before" not in out
    pretrain.command([*again, "--patience=3"])  # obeyed: epoch 4 is better
    out = capsys.readouterr().out
    assert (
        "epoch 4, step 8 " in out
        and "epoch 7, step 14 " in out
        and "epoch 8" not in out
        and "the weights of step 8" in out
    )


@pytest.mark.parametrize("data", [{"batch_size": 30}, {"batch_size": 50, "streaming": True}], ids=["rows", "stream"])
def test_patience_counts_whole_epochs_after_an_end_by_max_steps(data, options, monkeypatch, capsys):
    """Two steps are two thirds of an epoch of rows, and all of the stream, whose length nobody knows."""
    measured, values = Validation.measure, iter([0.1, 0.5, *([] if "streaming" in data else [0.4]), 0.6])
    recall = "retrieval/text_to_image_recall@1"
    monkeypatch.setattr(Validation, "measure", lambda *words: measured(*words) | {recall: next(values)})
    words = options(**ROOMS, **data, patience=1, epochs=9)
    pretrain.command([*words, "--max_steps=2"])
    steps = 4 if "streaming" in data else 6
    pretrain.command([*words, f"--max_steps={steps}", "--resume_from_checkpoint", "latest"])
    out = capsys.readouterr().out
    assert f"epoch 2, step {steps} " in out and f"the weights of step {steps}, on validation" in out
    assert "(before)" not in out and next(values, None) is None


@pytest.mark.parametrize("flags", [["--learning_rate=0.1"], ["--epochs=1"], ["--logging_steps=3", "--ema_decay=0"]])
def test_a_finished_run_says_so_whatever_the_flags(flags, options, capsys):
    pretrain.command(options(epochs=1, batch_size=50))
    before = capsys.readouterr().out
    assert "nothing is left" not in before
    pretrain.command([*options(epochs=1, batch_size=50), "--resume_from_checkpoint", "latest", *flags])
    assert "nothing is left to do: all 2 steps are taken; more with --epochs or --max_steps" in capsys.readouterr().out


def test_the_validation_loss_may_choose_the_best(options, tmp_path, capsys):
    pretrain.command(options(**ROOMS, epochs=2, batch_size=50, validation_metric="validation_loss"))
    values = [float(value) for value in re.findall(r"epoch \d.*validation (\d\.\d+),", capsys.readouterr().out)]
    assert len(values) == 2 and values[0] != values[1]
    (kept,) = sorted((tmp_path / "out" / "checkpoints").glob("checkpoint-4/progress.json"))
    assert json.loads(kept.read_text())["best"] == pytest.approx(min(values), abs=1e-3)


def test_several_splits_are_measured_and_any_of_them_chooses(mine, tmp_path, capsys):
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet"))
    rows.select(range(16, 40)).to_parquet(mine / "mine" / "unseen.parquet")
    tiny_model(depth=False).save_pretrained(mine / "repo")
    words = ["--init_from", str(mine / "repo"), "--dataset", str(mine / "mine"), *SMALL[:1], *SMALL[2:], "--epochs=3"]
    splits, metric = ["--validation_split", "validation,unseen"], "unseen/retrieval/text_to_image_recall@5"
    out = tmp_path / "out"
    pretrain.command([*words, *splits, "--validation_metric", metric, "--output_dir", str(out)])
    printed = capsys.readouterr().out
    lines = re.findall(r"validation (\S+), \S+ text → image \S+; unseen (\S+), \S+ text → image \S+?/(\S+?)/", printed)
    assert len(lines) == 4 and all(own != other for own, other, _ in lines)  # before training, and 3 epochs
    kept = json.loads((out / "checkpoints" / "checkpoint-6" / "progress.json").read_text())
    assert kept["best"] == pytest.approx(max(float(recall) for _, _, recall in lines[1:]), abs=0.006)
    assert kept["best_metrics"][metric] == kept["best"]
    alone = ["--validation_split", "unseen", "--output_dir", str(tmp_path / "alone")]
    pretrain.command([*words, *alone])
    found = re.findall(r"epoch \d.* validation (\S+), recall", capsys.readouterr().out)
    assert found == [other for _, other, _ in lines[1:]]  # the same figures as measured alone


def test_labels_are_classified_in_each_validation_and_may_choose(mine, tmp_path, capsys):
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(40))
    rows = rows.add_column("kind", ["chair", "table", "lamp", "red"] * 10)
    for split in ("train", "validation"):
        rows.select_columns(["caption", "image", "depth", "kind"]).to_parquet(mine / "mine" / f"{split}.parquet")
    tiny_model().save_pretrained(mine / "repo")
    metric, template = "zero-shot/kind/depth/top1_accuracy", "a photo of {}"
    words = ["--init_from", str(mine / "repo"), "--dataset", str(mine / "mine"), "--depth_column", "depth", *SMALL]
    labels = ["--validation_labels", "kind", "--validation_templates", template, "--validation_metric", metric]
    pretrain.command([*words, *labels, "--output_dir", str(tmp_path / "out")])
    assert "zero-shot kind: image 0." in capsys.readouterr().out
    (progress,) = (tmp_path / "out" / "checkpoints").glob("*/progress.json")
    kept = json.loads(progress.read_text())
    model = AutoModel.from_pretrained(tmp_path / "out")
    classifier = ZeroShotClassifier(model, sorted(set(rows["kind"])), [template])
    answers = classifier.classify(rows["depth"][:], "depth", top_k=1)
    right = sum(found[0]["label"] == kind for found, kind in zip(answers, rows["kind"], strict=True)) / len(rows)
    assert kept["best"] == pytest.approx(right, abs=0.026)  # one row may lie on a border


def test_a_model_is_saved_in_half_precision_and_its_checkpoints_are_not(mine, tmp_path):
    tiny_model(depth=False).save_pretrained(mine / "repo")
    words = ["--init_from", str(mine / "repo"), "--dataset", str(mine / "mine"), "--save_dtype", "float16", *SMALL]
    pretrain.command([*words, "--output_dir", str(tmp_path / "out")])
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float16}
    # What half precision would slow down is loaded in float32.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    (kept,) = (tmp_path / "out" / "checkpoints").glob("*/model.safetensors")
    model = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    for name, weight in load_file(kept).items():
        assert weight.dtype == torch.float32 and model[name].equal(weight.half().float()), name


def test_tied_weights_are_saved_once_in_half_precision(tmp_path):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=20)
    model = BertForMaskedLM(config)
    publish(model, tmp_path, "float16")
    saved = load_file(tmp_path / "model.safetensors")
    assert "bert.embeddings.word_embeddings.weight" in saved and "cls.predictions.decoder.weight" not in saved
    half = {name: tensor.half().float() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    loaded = BertForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(loaded[name].equal(tensor) for name, tensor in half.items())


def test_a_weight_too_large_for_half_precision_is_named(tmp_path):
    model = tiny_model(depth=False)
    with torch.no_grad():
        model.text_projection.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="--save_dtype float16: text_projection.weight holds NaN or infinity; save"):
        publish(model, tmp_path / "out", "float16")
    assert not (tmp_path / "out").exists()
    publish(model, tmp_path / "out", "bfloat16")


def test_one_value_of_a_list_stands_alone_in_a_recipe(mine, tmp_path, capsys):
    tiny_model(depth=False).save_pretrained(mine / "repo")
    recipe = {"init_from": str(mine / "repo"), "dataset": str(mine / "mine"), "freeze": "text_encoder"}
    (tmp_path / "recipe.yaml").write_text("\n".join(f"{name}: {value}" for name, value in recipe.items()))
    pretrain.command([str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / "out"), *SMALL])
    out = capsys.readouterr().out
    assert f"16 rows of {mine}/mine; " in out and "(text_encoder frozen)" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--validation_templates", "a {}"], "--validation_templates are prompts for the labels"),
        (["--validation_labels", "noun"], "no column 'noun'"),
        (["--validation_split", "validation,validation"], "names a split twice"),
        (["--validation_split", "validation,unseen"], "no split 'unseen'"),
        (["--validation_metric", "unseen/validation_loss"], "the validation of this run gives no such metric"),
    ],
)
def test_splits_that_are_none_are_refused(words, says, mine):
    tiny_model(depth=False).save_pretrained(mine / "repo")
    own = [
        "--init_from",
        str(mine / "repo"),
        "--dataset",
        str(mine / "mine"),
        "--output_dir",
        str(mine / "out"),
        *SMALL,
    ]
    assert says in refusal(*own, *words, main=pretrain.command)


def test_depth_runs_say_what_they_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_encoders.progress.bars._SECONDS_PER_LINE", 0)
    maps = str(SAMPLES / "rooms" / "validation.parquet")
    network = TINY | {"image_size": 32, "decoder_hidden_sizes": [8, 8, 8], "decoder_head_sizes": [8, 8, 8]}
    words = ["--dataset", maps, "--epochs=1", "--batch_size=30", "--num_workers=0", "--report_to=none"]
    out = ["--output_dir", str(tmp_path / "out"), "--mixed_precision=no"]
    recipe = write_recipe(tmp_path, model_type="depth_semantic_encoder", model_config=network)
    recipe.write_text("model_type: depth_semantic_encoder\nmodel_config: " + repr(network))
    pretrain_depth.command([str(recipe), *words, *out])
    printed = capsys.readouterr()
    assert f"data: 90 rows of {maps}; 10 maps to validate on\n" in printed.out
    assert re.search(r"model: DepthAutoencoderModel, new; \S+( M)? parameters\n", printed.out)
    assert "loss: 1 MSE + 1 L1 + 0.3 SSIM + 0.2 edges; 3 steps of 30 rows, AdamW at 0.0003 (step)" in printed.out
    assert "epoch 1/1 1 of 3 step" in printed.err and "epoch 1/1 3 of 3 step" in printed.err  # within the epoch
    assert "is left to do" not in printed.out
    pretrain_depth.command([str(recipe), *words, *out, "--resume_from_checkpoint", "latest"])
    assert "nothing is left to do: all 1 epochs are trained; more with --epochs" in capsys.readouterr().out
    assert AutoModel.from_pretrained(tmp_path / "out").config.image_size == 32
