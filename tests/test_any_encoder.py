"""Any encoder of transformers in every tool: family by family, what works and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Image, load_dataset
from PIL import Image as Pictures

from hf_encoders import load_encoder
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.embed import with_embeddings
from hf_encoders.models.input_errors import InputError
from hf_encoders.search import EmbeddingIndex
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.helpers.any_encoders import BOTH, IMAGES, KINDS, NO_ENCODERS, TEXTS, save_encoder
from tests.helpers.pictures import save_pictures

CAPTIONS = ["a red chair", "the small lamp left of a blue table", "a table", "green lamp", "the red table", "a map"]
LABELS = ["seat", "light", "table", "light", "table", "map"]
SEES, READS = [*IMAGES, *BOTH], [*TEXTS, *BOTH]
ONE_KIND = [*IMAGES, *TEXTS]


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    """Family → its repo."""
    folder = tmp_path_factory.mktemp("encoders")
    return {family: str(save_encoder(family, folder / family, scale=4)) for family in KINDS}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of six photos."""
    pixels = [np.random.default_rng(index).integers(255, size=(40, 50, 3), dtype=np.uint8) for index in range(6)]
    return save_pictures(tmp_path_factory.mktemp("photos"), list(map(Pictures.fromarray, pixels)))


@pytest.fixture(scope="module")
def rows(photos):
    """The photos with captions and labels."""
    files = [str(photos / f"{index}.png") for index in range(len(CAPTIONS))]
    return Dataset.from_dict({"image": files, "caption": CAPTIONS, "label": LABELS}).cast_column("image", Image())


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rows.to_parquet(file)
    return str(file)


def command(*words):
    cli.command([str(word) for word in words])


def refusal(capsys, *words):
    """The one line of a command that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(lambda: command(*words))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "Traceback" not in error, error
    return error


def modality_of(family):
    return "text" if family in TEXTS else "image"


def expected(repo, family, rows):
    """The embeddings of the rows by the class of transformers itself, one input at a time."""
    encoder = load_encoder(repo)
    network, vectors = encoder.model, []
    for row in rows:
        with torch.no_grad():
            if family in TEXTS:
                tokens = encoder.tokenizer(row["caption"], return_tensors="pt")
                vectors.append(network(**tokens).last_hidden_state.mean(1))
                continue
            pixels = encoder.image_processor(row["image"].convert("RGB"), return_tensors="pt")
            if family in BOTH:
                vectors.append(
                    torch.nn.functional.normalize(network.get_image_features(**pixels).pooler_output, dim=-1)
                )
            elif family in ("vit", "dinov2", "dinov3"):
                vectors.append(network(**pixels).last_hidden_state[:, 0])
            else:
                vectors.append(network(**pixels).pooler_output.flatten(1))
    return torch.cat(vectors).numpy()


def assert_equal(actual, wanted):
    np.testing.assert_allclose(actual, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("family", ["vit", "bert", "clip"])
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_of_a_file_is_computed_in_float32(family, precision, repos, rows, tmp_path, recwarn):
    """As sentence-transformers and AutoModel would not, whose embeddings differ from processor to processor."""
    load_encoder(repos[family]).model.to(precision).save_pretrained(tmp_path / "half")
    for file in Path(repos[family]).iterdir():
        if not (tmp_path / "half" / file.name).exists():
            shutil.copy(file, tmp_path / "half")
    encoder = load_encoder(tmp_path / "half")
    assert encoder.dtype == torch.float32 and load_encoder(tmp_path / "half", dtype=precision).dtype == precision
    embed = encoder.encode_text if family == "bert" else encoder.encode_image
    inputs = rows["caption" if family == "bert" else "image"]
    similar = torch.nn.functional.cosine_similarity(
        embed(inputs), torch.from_numpy(expected(repos[family], family, rows))
    )
    assert similar.min() > 0.999 and not [one for one in recwarn if "instructions" in str(one.message)]


@pytest.mark.parametrize("family", SEES)
def test_encode_embeds_files(family, repos, photos, rows, tmp_path):
    unit = ["--normalize"] if family in BOTH else []
    command("encode", repos[family], photos, "--output", tmp_path / "out.npz", *unit)
    assert_equal(np.load(tmp_path / "out.npz")["embeddings"], expected(repos[family], family, rows))


@pytest.mark.parametrize("family", TEXTS)
def test_encode_says_what_embeds_texts(family, repos, photos, tmp_path, capsys):
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    for path in (photos, tmp_path / "captions.txt"):
        line = refusal(capsys, "encode", repos[family], path, "--output", tmp_path / "out.npz")
        assert "embeds texts" in line and "hf-encoders embed" in line
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("family", KINDS)
def test_embed_writes_a_folder_that_only_its_maker_searches(family, repos, parquet, rows, tmp_path, capsys):
    out = tmp_path / "out"
    column = "caption" if family in TEXTS else "image"
    words = ["embed", repos[family], parquet, "--column", column, "--output", out]
    command(*words)
    table = load_dataset(str(out / "data"), split="train").with_format("numpy")
    assert_equal(table["embedding"][:], expected(repos[family], family, rows))
    index = EmbeddingIndex.from_folder(out, load_encoder(repos[family]))
    query = rows[2][column]
    assert index.modality == modality_of(family) and index.search(query, k=1)[0].row["caption"] == CAPTIONS[2]
    command(*words)  # goes on with nothing
    if family in ("vit", "bert"):
        other = "pooler" if family == "bert" else "mean"
        assert "pooling" in refusal(capsys, *words, "--pooling", other)
        with pytest.raises(ValueError, match="has other pooling"):
            EmbeddingIndex.from_folder(out, load_encoder(repos[family], pooling=other))


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
@pytest.mark.parametrize("family", TEXTS)
def test_texts_are_read_from_any_file_of_rows(family, suffix, repos, rows, tmp_path, capsys):
    file = tmp_path / f"rows.{suffix}"
    if suffix == "txt":
        file.write_text("\n".join(CAPTIONS) + "\n")
    else:
        getattr(rows.select_columns(["caption"]), "to_json" if suffix == "jsonl" else "to_csv")(file)
    command("embed", repos[family], file, "--output", tmp_path / "out")
    table = load_dataset(str(tmp_path / "out" / "data"), split="train").with_format("numpy")
    assert_equal(table["embedding"][:], expected(repos[family], family, rows))
    capsys.readouterr()
    command("search", repos[family], file, CAPTIONS[1], "-k", "1", "--format", "json")
    assert json.loads(capsys.readouterr().out)["index"] == 1


@pytest.mark.parametrize("family", KINDS)
def test_search_finds_what_is_like_the_query(family, repos, photos, parquet, capsys):
    if family in TEXTS:
        words = ("search", repos[family], parquet, CAPTIONS[3], "--column", "caption")
    else:
        words = ("search", repos[family], photos, photos / "3.png")
    capsys.readouterr()
    command(*words, "-k", "2", "--format", "json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [hit["index"] for hit in found][0] == 3 and found[0]["score"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", BOTH)
def test_search_by_words_finds_pictures(family, repos, photos, capsys):
    command("search", repos[family], photos, "a lamp", "-k", "6", "--format", "json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(hit["index"] for hit in found) == list(range(6))


@pytest.mark.parametrize("family", IMAGES)
def test_words_are_no_query_of_a_model_of_images(family, repos, photos, rows, capsys):
    line = refusal(capsys, "search", repos[family], photos, "a red lamp")
    assert "'a red lamp' is no file, and the model embeds no texts" in line and "such as CLIP" in line
    assert "embeds image, not text" in refusal(capsys, "search", repos[family], photos, "a lamp", "--by", "text")
    index = EmbeddingIndex.from_dataset(load_encoder(repos[family]), rows, "image")
    with pytest.raises(ValueError, match="embeds no texts"):
        index.search("a red lamp")


@pytest.mark.parametrize("family", TEXTS)
def test_pictures_are_nothing_to_a_model_of_texts(family, repos, photos, parquet, rows, capsys):
    line = refusal(capsys, "search", repos[family], parquet, photos / "1.png", "--column", "caption")
    assert "is a file, and the model embeds texts alone" in line
    for words in (["search", repos[family], photos, "a"], ["embed", repos[family], photos, "--output", "out"]):
        assert ".jsonl" in refusal(capsys, *words)
    line = refusal(capsys, "search", repos[family], parquet, "a", "--modality", "image")
    assert "embeds text, not image" in line


@pytest.mark.parametrize("family", KINDS)
def test_an_index_is_saved_and_loaded_by_its_maker_alone(family, repos, rows, tmp_path):
    encoder = load_encoder(repos[family])
    column = "caption" if family in TEXTS else "image"
    index = EmbeddingIndex.from_dataset(encoder, rows, column)
    assert index.modality == modality_of(family)
    index.save(tmp_path / "index")
    again = EmbeddingIndex.load(tmp_path / "index", load_encoder(repos[family]))
    found = again.search([rows[4][column]], k=1)
    assert found[0][0].index == 4
    with torch.no_grad():
        next(iter(encoder.model.parameters())).add_(1)
    with pytest.raises(ValueError, match="has other weights"):
        EmbeddingIndex.load(tmp_path / "index", encoder)


@pytest.mark.parametrize(("family", "pooling"), [("bert", "cls"), ("vit", "mean"), ("dinov2", "pooler")])
def test_another_pooling_is_another_maker(family, pooling, repos, rows, tmp_path):
    column = "caption" if family in TEXTS else "image"
    EmbeddingIndex.from_dataset(load_encoder(repos[family]), rows, column).save(tmp_path / "index")
    with pytest.raises(ValueError, match="has other pooling"):
        EmbeddingIndex.load(tmp_path / "index", load_encoder(repos[family], pooling=pooling))
    default = "mean" if family in TEXTS else "cls"
    EmbeddingIndex.load(tmp_path / "index", load_encoder(repos[family], pooling=default))


@pytest.mark.parametrize("family", KINDS)
def test_a_column_of_embeddings(family, repos, rows):
    column = "caption" if family in TEXTS else "image"
    with_column = with_embeddings(rows, load_encoder(repos[family]), column, batch_size=4)
    assert_equal(with_column.with_format("numpy")["embedding"][:], expected(repos[family], family, rows))


@pytest.mark.parametrize("family", BOTH)
def test_classify_gives_the_probabilities_of_the_model(family, repos, photos, rows, capsys):
    labels = ["a chair", "lamp", "table"]
    words = ("--labels", ",".join(labels), "--template", "a {}", "--top-k", "3", "--format", "json")
    command("classify", repos[family], photos, *words)
    found = [json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()]
    encoder = load_encoder(repos[family])
    texts = encoder.encode_text([f"a {label}" for label in labels], normalize=True)
    images = encoder.encode_image(rows["image"], normalize=True)
    wanted = (images @ texts.T * encoder.model.logit_scale.exp()).softmax(-1)
    for row, scores in zip(found, wanted, strict=True):
        given = {best["label"]: best["score"] for best in row}
        assert [given[label] for label in labels] == pytest.approx(scores.tolist(), abs=1e-4)
    again = ZeroShotClassifier(encoder, labels, "a {}").classify(rows["image"], top_k=3)
    assert [[best["label"] for best in row] for row in again] == [[best["label"] for best in row] for row in found]


@pytest.mark.parametrize("family", ONE_KIND)
def test_classify_needs_texts_and_pictures(family, repos, photos, parquet, capsys):
    line = refusal(capsys, "classify", repos[family], parquet, "--labels", "a,b")
    kind, lacking = ("text", "pictures") if family in TEXTS else ("image", "text")
    assert f"the model embeds {kind}, not {lacking}" in line and "such as CLIP or SigLIP" in line
    with pytest.raises(ValueError, match="such as CLIP or SigLIP"):
        ZeroShotClassifier(load_encoder(repos[family]), ["a", "b"])
    with pytest.raises(ValueError, match=r"expected an encoder: load_encoder\(model\) makes one of it"):
        ZeroShotClassifier(load_encoder(repos[family]).model, ["a", "b"])


@pytest.mark.parametrize("family", KINDS)
def test_evaluate_measures_what_a_family_can_do(family, repos, parquet, rows, tmp_path, capsys):
    rows.to_parquet(tmp_path / "train.parquet")
    base = ["evaluate", repos[family], parquet, "--output", tmp_path / "metrics.json", "--overwrite"]
    probes = ["--train-dataset", tmp_path / "train.parquet", "--train-split", "test", "--label-column", "label"]
    command(*base, *probes, "--train-split", "train", "--tasks", "knn", "--k", "1")
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["metrics"] == {f"knn/label/{modality_of(family)}/accuracy": 1.0}  # each row is its own neighbour
    default = "mean" if family in TEXTS else "cls" if family in ("vit", "dinov2", "dinov3") else "pooler"
    assert report.get("pooling") == (None if family in BOTH else default)
    if family in BOTH:
        command(*base, "--tasks", "retrieval", "zero-shot", "--label-column", "label")
        metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
        assert "retrieval/text_to_image_recall@1" in metrics and "zero-shot/label/image/top1_accuracy" in metrics
    else:
        assert "--tasks retrieval needs two of text, image, depth" in refusal(capsys, *base)
        line = refusal(capsys, *base, "--tasks", "zero-shot", "--label-column", "label")
        assert ("needs image or depth" if family in TEXTS else "embeds image, not text") in line


def test_probes_of_texts_count_each_caption(repos, rows, tmp_path):
    captions = [[caption, f"{caption} ."] for caption in CAPTIONS]
    several = rows.remove_columns(["image", "caption"]).add_column("caption", captions)
    for name in ("train", "test"):
        several.to_parquet(tmp_path / f"{name}.parquet")
    words = ["--tasks", "knn", "--k", "1", "--label-column", "label", "--train-dataset", tmp_path / "train.parquet"]
    command("evaluate", repos["bert"], tmp_path / "test.parquet", *words, "--output", tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == {"knn/label/text/accuracy": 1.0}


COMMANDS = {
    "encode": ["{photos}", "--output", "{out}.npz"],
    "search": ["{data}", "a", "--column", "{column}"],
    "classify": ["{data}", "--labels", "a,b"],
    "embed": ["{data}", "--output", "{out}", "--column", "{column}"],
    "export": ["--to", "onnx", "--output", "{out}"],
    "evaluate": ["{data}"],
}
WHY = {
    "vit_mae": "hides most of an image",
    "gpt2": "a generative model",
    "gpt2-lm": "a generative model",
    "t5": "at random, since the repo has no such weights",
    "yolos": "a detector",
    "wav2vec2": "a model of type 'wav2vec2', expected one of texts, of images, or of both",
}


def words_of(name, photos, data, out, column="caption"):
    return [word.format(photos=photos, data=data, out=out, column=column) for word in COMMANDS[name]]


@pytest.mark.parametrize("family", NO_ENCODERS)
def test_what_is_no_encoder_is_refused_by_every_command(family, photos, parquet, tmp_path, capsys):
    repo = save_encoder(family, tmp_path / "repo", tokenizer=False)
    for name in COMMANDS:
        line = refusal(capsys, name, repo, *words_of(name, photos, parquet, tmp_path / "out"))
        assert WHY[family] in line, name
    assert {path.name for path in tmp_path.iterdir()} == {"repo"}


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "clip"])
def test_a_model_without_a_tokenizer_asks_for_one(family, repos, photos, parquet, tmp_path, capsys):
    """Of a BERT without files, transformers makes a tokenizer that takes each word for the unknown one."""
    repo = save_encoder(family, tmp_path / "repo", tokenizer=False)
    for name in set(COMMANDS) - ({"classify", "encode"} if family in TEXTS else {"encode"}):
        words = words_of(name, photos, parquet, tmp_path / "out")
        if name == "evaluate" and family in TEXTS:
            words += ["--tasks", "knn", "--label-column", "label", "--train-dataset", parquet, "--train-split", "test"]
        words += ["--modality", "text"] if name in ("search", "embed") else []
        line = refusal(capsys, name, repo, *words)
        assert "has no tokenizer; give one as tokenizer= (--tokenizer), a folder or Hub id" in line, name
    words = ["search", repo, parquet, CAPTIONS[0], "--column", "caption", "--modality", "text", "--format", "json"]
    command(*words, "-k", "1", "--tokenizer", repos[family])
    assert json.loads(capsys.readouterr().out)["index"] == 0


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_a_model_without_an_image_processor_asks_for_one(family, repos, photos, parquet, tmp_path, capsys):
    repo = save_encoder(family, tmp_path / "repo", image_processor=False)
    for name in set(COMMANDS) - ({"classify"} if family == "vit" else set()):
        words = words_of(name, photos, parquet, tmp_path / "out", "image")
        words = [str(photos / "1.png") if word == "a" else word for word in words]
        if name == "evaluate" and family == "vit":
            words += ["--tasks", "knn", "--label-column", "label", "--train-dataset", parquet, "--train-split", "test"]
        line = refusal(capsys, name, repo, *words)
        assert "has no image processor; give one as image_processor= (--image-processor)" in line, name
    command("encode", repo, photos, "--output", tmp_path / "out.npz", "--image-processor", repos[family])
    assert np.load(tmp_path / "out.npz")["embeddings"].shape[0] == len(CAPTIONS)


def test_files_that_make_no_processor_are_named(photos, parquet, tmp_path, capsys):
    for family, file, content in (
        ("roberta", "vocab.json", '{"a": 0, "<s>": 1}'),  # without its merges
        ("bert", "tokenizer.json", "{"),
        ("modernbert", "vocab.txt", "a\nb"),
    ):
        repo = save_encoder(family, tmp_path / family, tokenizer=False)
        (repo / file).write_text(content)
        line = refusal(capsys, "search", repo, parquet, "a", "--column", "caption")
        assert f"{repo}: has {file} alone, which makes no tokenizer" in line and "--tokenizer" in line
    repo = save_encoder("vit", tmp_path / "vit", image_processor=False)
    (repo / "preprocessor_config.json").write_text("{")
    line = refusal(capsys, "encode", repo, photos)
    assert "preprocessor_config.json alone, which makes no image processor" in line and "--image-processor" in line


def test_what_is_given_for_a_processor_and_is_none(repos, parquet, tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("a\nb")
    for option, family in (("--tokenizer", "bert"), ("--image-processor", "vit")):
        line = refusal(capsys, "search", repos[family], parquet, "a", option, tmp_path / "vocab.txt")
        assert f"{tmp_path}/vocab.txt: a file, expected its folder or a Hub id" in line
        line = refusal(capsys, "search", repos[family], parquet, "a", option, tmp_path)
        assert f"{tmp_path}: no {option[2:].replace('-', ' ')} there" in line


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("bert", ["--image-processor", "."], "a BertModel embeds text alone; leave --image-processor out"),
        ("vit", ["--tokenizer", "."], "a ViTModel embeds image alone; leave --tokenizer out"),
        ("clip", ["--pooling", "cls"], "a CLIPModel pools its features by itself; leave --pooling out"),
    ],
)
def test_options_without_a_use_are_refused(family, options, said, repos, photos, parquet, tmp_path, capsys):
    for name in COMMANDS:
        line = refusal(capsys, name, repos[family], *words_of(name, photos, parquet, tmp_path / "out"), *options)
        assert said in line


def test_our_own_models_refuse_them_too(tiny_encoder, tiny_multimodal, photos, parquet, tmp_path, capsys):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    tiny_multimodal.save_pretrained(tmp_path / "both")
    for repo in ("depth", "both"):
        for option, value, reason in (
            ("--tokenizer", ".", "whose repo has what it reads inputs with; leave --tokenizer out"),
            ("--image-processor", ".", "whose repo has what it reads inputs with; leave --image-processor out"),
            ("--pooling", "cls", "which pools as it was trained to"),
        ):
            for name in COMMANDS:
                words = words_of(name, photos, parquet, tmp_path / "out")
                line = refusal(capsys, name, tmp_path / repo, *words, option, value)
                assert f"{tmp_path}/{repo}: one of our own models, {reason}" in line


def test_a_checkpoint_is_converted_first(tmp_path):
    (tmp_path / "resnet.pth").write_bytes(b"weights")
    with pytest.raises(InputError, match="a file, expected a folder or Hub id; hf-encoders convert makes one"):
        load_encoder(tmp_path / "resnet.pth")
