"""Texts that are searched for get the repo's prompt for queries, and those that are found its prompt for documents."""

import json

import numpy as np
import pytest
import torch
from accelerate import PartialState
from datasets import Dataset
from PIL import Image as Picture
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel

from hf_encoders import load_encoder
from hf_encoders.commands import main as cli
from hf_encoders.embed import ArrowEmbedder, with_embeddings
from hf_encoders.evaluation import evaluate as evaluate_module
from hf_encoders.evaluation.embedded_columns import embed_columns
from hf_encoders.evaluation.evaluate import EvaluationOptions, evaluate
from hf_encoders.evaluation.retrieval import retrieval_metrics
from hf_encoders.evaluation.tasks import Outcome
from hf_encoders.maker import differences, maker
from hf_encoders.search import EmbeddingIndex
from tests.helpers.embedding_files import rows_of
from tests.helpers.multimodal_models import TEXT, TRANSFORMER, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.numeric

WORDS = ["a red chair", "the lamp left of the table", "green", "a table"]
PROMPTS = {"query": "red chair ", "document": "this is a "}


def repo_with(folder, **options):
    torch.manual_seed(0)
    network = BertModel(BertConfig(**TRANSFORMER, **TEXT), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter) / 5)
    network.save_pretrained(folder / "plain")
    tiny_tokenizer().save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain")), Pooling(32, "mean")]
    SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(str(folder / "repo"))
    return folder / "repo"


@pytest.fixture
def rows():
    return Dataset.from_dict({"text": WORDS})


def prompted_repo(folder):
    return repo_with(folder, prompts={**PROMPTS, "other": "the "}, default_prompt_name="other")


def ways(folder):
    """A repo of sentence-transformers, the plain transformer in it, and a model of ours: each with prompts."""
    repo = prompted_repo(folder)
    ours = tiny_model()
    ours.prompts = PROMPTS
    return {"modules": load_encoder(repo), "plain": load_encoder(repo, pooling="cls"), "ours": ours}


@pytest.mark.parametrize("way", ["modules", "plain", "ours"])
def test_rows_are_documents_and_queries_are_queries(way, rows, tmp_path):
    model = ways(tmp_path)[way]
    documents = model.encode_document(WORDS, convert_to="numpy")
    assert np.abs(documents - model.encode_text(WORDS, convert_to="numpy")).max() > 0.01
    columns = {
        "with_embeddings": with_embeddings(rows, model, "text", "text").with_format("numpy")["embedding"][:],
        "streamed": np.array([row["embedding"] for row in with_embeddings(rows.to_iterable_dataset(), model, "text")])
        if way != "ours"
        else documents,
        "ArrowEmbedder": ArrowEmbedder(model, "text", "text").embed(rows.data.table)[0],
    }
    for found in columns.values():
        np.testing.assert_allclose(found, documents, atol=1e-5)
    found = EmbeddingIndex.from_dataset(model, rows, "text", "text").search(WORDS[1], k=len(WORDS), modality="text")
    query = model.encode_query(WORDS[1], convert_to="numpy")
    expected = np.sort(torch.cosine_similarity(torch.from_numpy(query), torch.from_numpy(documents)).numpy())[::-1]
    np.testing.assert_allclose([hit.score for hit in found], expected, atol=1e-5)


def test_commands_embed_as_sentence_transformers_does(rows, tmp_path, capsys):
    repo = prompted_repo(tmp_path)
    theirs = SentenceTransformer(str(repo), device="cpu")
    rows.to_parquet(tmp_path / "rows.parquet")
    cli.command(["embed", str(repo), str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "out")])
    documents = theirs.encode_document(WORDS)
    np.testing.assert_allclose(rows_of(tmp_path / "out")["embedding"][:], documents, atol=1e-5)
    expected = theirs.similarity(theirs.encode_query(WORDS[2]), documents)[0].sort(descending=True)
    capsys.readouterr()
    cli.command(["search", str(repo), str(tmp_path / "rows.parquet"), WORDS[2], "-k", "4", "--format", "json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["index"] for record in found] == expected.indices.tolist()
    np.testing.assert_allclose([record["score"] for record in found], expected.values, atol=1e-5)
    index = EmbeddingIndex.from_folder(tmp_path / "out", load_encoder(repo))
    scores = [hit.score for hit in index.search(WORDS[2], k=4)]
    np.testing.assert_allclose(scores, expected.values, atol=1e-5)


@pytest.mark.parametrize("prompts", [{"passage": "this is a "}, {"query": "red chair ", "corpus": "this is a "}, {}])
def test_other_names_of_prompts_are_taken_as_there(prompts, tmp_path):
    repo = repo_with(tmp_path, prompts=prompts)
    encoder, theirs = load_encoder(repo), SentenceTransformer(str(repo), device="cpu")
    np.testing.assert_allclose(encoder.encode_document(WORDS), theirs.encode_document(WORDS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query(WORDS), theirs.encode_query(WORDS), atol=1e-5)


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_prompts_are_part_of_what_makes_embeddings(way, tmp_path):
    model = ways(tmp_path)[way]
    before, images = maker(model), maker(model, [])
    model.prompts = {**PROMPTS, "document": "another "}
    assert differences(before, maker(model)) == ["prompts"] and maker(model, []) == images
    model.prompts = {"query": "", "document": ""}
    assert "prompts" not in maker(model)


def test_evaluate_asks_with_captions_and_probes_documents(tmp_path):
    model = tiny_model()
    model.prompts = PROMPTS
    pictures = [np.random.RandomState(number).randint(0, 256, (32, 32, 3), np.uint8) for number in range(len(WORDS))]
    rows = Dataset.from_dict({"caption": WORDS, "image": [Picture.fromarray(array) for array in pictures]})
    rows.to_parquet(tmp_path / "test.parquet")
    report = evaluate(model, EvaluationOptions(str(tmp_path / "test.parquet")), PartialState(cpu=True))
    asked, shown = model.encode_query(WORDS), model.encode_image(pictures)
    expected = retrieval_metrics(asked, shown, captions=WORDS, names=("text", "image"))
    assert report["metrics"] == {f"retrieval/{name}": value for name, value in expected.items()}
    columns = embed_columns(model, rows, {"text": "caption"}, PartialState(cpu=True), text_task="query")
    np.testing.assert_allclose(columns.embeds["text"], asked, atol=1e-5)


def test_texts_that_are_probed_are_documents(tmp_path, monkeypatch):
    model = load_encoder(prompted_repo(tmp_path))
    labels = ["furniture", "furniture", "colour", "furniture"]
    rows = Dataset.from_dict({"caption": WORDS, "label": labels})
    for split in ("test", "train"):
        rows.select(range(4) if split == "test" else range(3, -1, -1)).to_parquet(tmp_path / f"{split}.parquet")
    seen = {}

    def probe(task, train, train_labels, test, test_labels, k):
        seen[task] = train, test
        return Outcome({}, [])

    monkeypatch.setattr(evaluate_module, "probe_outcome", probe)
    options = EvaluationOptions(
        str(tmp_path / "test.parquet"),
        tasks=["knn"],
        train_dataset=str(tmp_path / "train.parquet"),
        label_columns=["label"],
    )
    evaluate(model, options, PartialState(cpu=True))
    documents = model.encode_document(WORDS, convert_to="numpy")
    train, test = seen["knn"]
    np.testing.assert_allclose(test.embeds["text"], documents, atol=1e-5)
    np.testing.assert_allclose(train.embeds["text"], documents[::-1], atol=1e-5)
