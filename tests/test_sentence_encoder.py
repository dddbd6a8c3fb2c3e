"""Repos of sentence-transformers embed here as there."""

import json
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants, snapshot_download
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, ViTConfig, ViTImageProcessorPil, ViTModel

from hf_encoders import AnyEncoder, load_encoder
from hf_encoders.backends.exported_files import exported_file
from hf_encoders.export.towers import export
from hf_encoders.maker import differences, maker
from hf_encoders.model_kinds import NotAnEncoderError
from hf_encoders.models.input_errors import InputError
from hf_encoders.sentence_encoder import SentenceEncoder
from hf_encoders.sentence_towers import DelegatingTextTower
from tests.helpers.multimodal_models import SIZE, TEXT, TRANSFORMER, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.numeric

TEXTS = ["a red chair", "the lamp left of the table", "green", "red " * 60, "chair " * 40]
PICTURES = [Image.new("RGB", (40, 50), colour) for colour in ("red", "green", "blue")]
PROMPTS = {"query": "red chair ", "document": "this is a "}


def lively(network):
    """At their initial scale, networks give nearly the same for any input."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter) / 5)
    return network


def text_repo(folder, *modules, network=None, **options):
    network = network or BertModel(BertConfig(**TRANSFORMER, **TEXT), add_pooling_layer=False)
    lively(network).save_pretrained(folder / "plain")
    tiny_tokenizer().save_pretrained(folder / "plain")
    transformer = Transformer(str(folder / "plain"))
    SentenceTransformer(modules=[transformer, *modules], device="cpu", **options).save_pretrained(str(folder / "repo"))
    return folder / "repo"


def dense_repo(folder, **options):
    torch.manual_seed(0)
    dense = lively(Dense(32, 12, activation_function=torch.nn.GELU()))
    return text_repo(folder, Pooling(32, "mean"), dense, Normalize(), prompts=PROMPTS, **options)


def cls_repo(folder):
    torch.manual_seed(1)
    return text_repo(folder, Pooling(32, "cls"))


def image_repo(folder, pooler=True):
    """As a conversion writes it."""
    torch.manual_seed(2)
    repo = folder / "repo"
    lively(ViTModel(ViTConfig(**TRANSFORMER, image_size=SIZE, patch_size=8), add_pooling_layer=pooler)).save_pretrained(
        repo
    )
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(repo)
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    (repo / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    image = {"image": {"method": "forward", "method_output_name": "pooler_output"}}
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": image,
        "module_output_name": "sentence_embedding",
    }
    (repo / "sentence_bert_config.json").write_text(json.dumps(settings))
    return repo


def there(repo):
    return SentenceTransformer(str(repo), device="cpu")


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)
    assert len(np.unique(np.round(theirs, 3), axis=0)) == len(theirs)  # they differ


@pytest.mark.parametrize("make", [dense_repo, cls_repo])
@pytest.mark.parametrize("batch_size", [2, 32])
def test_texts_embed_as_there(make, batch_size, tmp_path):
    repo = make(tmp_path)
    encoder, model = load_encoder(repo), there(repo)
    assert isinstance(encoder, SentenceEncoder) and encoder.towers == ("text",)
    assert_same(encoder.encode_text(TEXTS, batch_size), model.encode(TEXTS))
    assert_same(encoder.encode_query(TEXTS), model.encode_query(TEXTS))
    assert_same(encoder.encode_document(TEXTS), model.encode_document(TEXTS))
    np.testing.assert_allclose(
        encoder.encode_text(TEXTS, truncate_dim=4), model.encode(TEXTS, truncate_dim=4), atol=1e-5
    )
    assert encoder.encode_text([]).shape == (0, model.get_embedding_dimension())
    if make is dense_repo:
        assert (encoder.encode_query(TEXTS) - encoder.encode_document(TEXTS)).abs().max() > 0.01


def test_images_embed_as_there(tmp_path):
    repo = image_repo(tmp_path)
    encoder, model = load_encoder(repo), there(repo)
    assert encoder.towers == ("image",)
    assert_same(encoder.encode_image(PICTURES, batch_size=2), model.encode(PICTURES))
    with pytest.raises(ValueError, match="embeds image, not text"):
        encoder.encode_query("a chair")


def test_the_default_prompt_is_given_as_there(tmp_path):
    repo = dense_repo(tmp_path, default_prompt_name="query")
    encoder, model = load_encoder(repo), there(repo)
    assert_same(encoder.encode_text(TEXTS), model.encode(TEXTS))
    assert_same(encoder.encode_text(TEXTS), model.encode_query(TEXTS))
    assert torch.equal(encoder.tower("text").encode(TEXTS), encoder.encode_text(TEXTS))
    assert_same(encoder.encode_document(TEXTS), model.encode_document(TEXTS))


def test_a_prompt_that_is_not_pooled(tmp_path):
    repo = text_repo(tmp_path, Pooling(32, "mean", include_prompt=False), prompts=PROMPTS)
    encoder, model = load_encoder(repo), there(repo)
    assert_same(encoder.encode_query(TEXTS), model.encode_query(TEXTS))
    assert_same(encoder.encode_text(TEXTS), model.encode(TEXTS))
    with pytest.raises(ValueError, match="leaves the prompt out, which a compiled program does not"):
        encoder.encode_query(TEXTS, backend="onnx")


@pytest.mark.parametrize(
    ("file", "name"), [("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")]
)
def test_texts_are_cut_at_its_length_with_one_warning(file, name, tmp_path, caplog):
    repo = cls_repo(tmp_path)
    (repo / file).write_text(json.dumps({**json.loads((repo / file).read_text()), name: 9}))
    encoder = load_encoder(repo)
    assert_same(encoder.encode_text(TEXTS, batch_size=2), there(repo).encode(TEXTS))
    assert [record.getMessage() for record in caplog.records if "longer" in record.getMessage()] == [
        "2 texts (the first is text 3) are longer than 9 tokens; what is beyond is left out"
    ]


def test_texts_that_cannot_be_used_are_left_out(tmp_path):
    encoder = load_encoder(cls_repo(tmp_path))
    embeddings, kept = encoder.encode_text(["green", 3, "a lamp"], on_error="skip")
    assert kept.tolist() == [True, False, True]
    torch.testing.assert_close(embeddings, encoder.encode_text(["green", "a lamp"]), atol=1e-5, rtol=0)
    with pytest.raises(TypeError, match="text 1: a int, expected a string"):
        encoder.encode_text(["green", 3, "a lamp"])


def test_texts_are_cut_where_positions_end(tmp_path):
    config = RobertaConfig(**TRANSFORMER, vocab_size=TEXT["vocab_size"], max_position_embeddings=12, pad_token_id=0)
    repo = text_repo(tmp_path, Pooling(32, "mean"), network=RobertaModel(config, add_pooling_layer=False))
    encoder = load_encoder(repo)
    assert encoder.tower("text").limit == 11
    with pytest.raises(IndexError):
        there(repo).encode(TEXTS)
    assert torch.allclose(encoder.encode_text("red " * 60), encoder.encode_text("red " * 9), atol=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_its_modules_are_compiled_with_it(tmp_path, backend):
    encoder = load_encoder(dense_repo(tmp_path))
    expected = encoder.encode_query(TEXTS)
    torch.testing.assert_close(encoder.encode_query(TEXTS, backend=backend), expected, atol=1e-4, rtol=0)


def test_its_modules_are_exported_with_it(tmp_path):
    repo = dense_repo(tmp_path)
    report = export(str(repo), tmp_path / "exported", "onnx")
    assert report["towers"]["text"]["float32"]["relative_difference"] < 1e-5
    encoder, model = load_encoder(tmp_path / "exported"), there(repo)
    assert exported_file(encoder.tower("text"), "onnx", "float32") == tmp_path / "exported" / "onnx" / "model.onnx"
    assert_same(encoder.encode_document(TEXTS, backend="onnx"), model.encode_document(TEXTS))


def test_tables_of_word_vectors(tmp_path):
    table = StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[table], device="cpu", prompts=PROMPTS).save_pretrained(str(tmp_path / "repo"))
    encoder, model = load_encoder(tmp_path / "repo"), there(tmp_path / "repo")
    assert isinstance(encoder.tower("text"), DelegatingTextTower)
    np.testing.assert_allclose(encoder.encode_text(TEXTS, 2), model.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query(TEXTS, 2), model.encode_query(TEXTS), atol=1e-5)
    assert encoder.config.name_or_path == str(tmp_path / "repo") and maker(encoder)["fingerprint"]
    with pytest.raises(ValueError, match="backend='onnx': its modules are computed by sentence-transformers alone"):
        encoder.encode_text(TEXTS, backend="onnx")


def test_modules_that_tell_queries_from_documents(tmp_path):
    torch.manual_seed(3)
    tokenizer = tiny_tokenizer().backend_tokenizer
    routes = {
        "query": [StaticEmbedding(tokenizer, embedding_dim=8)],
        "document": [StaticEmbedding(tokenizer, embedding_dim=8)],
    }
    router = Router.for_query_document(query_modules=routes["query"], document_modules=routes["document"])
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(tmp_path / "repo"))
    encoder, model = load_encoder(tmp_path / "repo"), there(tmp_path / "repo")
    np.testing.assert_allclose(encoder.encode_query(TEXTS), model.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), model.encode_document(TEXTS), atol=1e-5)
    assert not torch.allclose(encoder.encode_query(TEXTS), encoder.encode_document(TEXTS), atol=0.1)


def test_an_object_of_sentence_transformers(tmp_path):
    model = there(cls_repo(tmp_path))
    assert_same(load_encoder(model).encode_text(TEXTS), model.encode(TEXTS))


def test_a_stated_pooling_opens_the_plain_transformer(tmp_path):
    repo = dense_repo(tmp_path)
    encoder = load_encoder(repo, pooling="cls")
    assert isinstance(encoder, AnyEncoder) and encoder.prompts == PROMPTS
    assert torch.allclose(encoder.encode_query("a lamp"), encoder.encode_text(PROMPTS["query"] + "a lamp"), atol=1e-5)
    assert encoder.encode_document(iter(TEXTS)).shape == (len(TEXTS), 32)
    with pytest.raises(ValueError, match="the prompt 'red chair ' goes before raw texts"):
        encoder.encode_query(encoder.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt"))


def test_weights_in_another_precision(tmp_path):
    encoder = load_encoder(dense_repo(tmp_path), dtype=torch.bfloat16)
    assert encoder.dtype == torch.bfloat16 and encoder.encode_text(TEXTS).dtype == torch.float32


def test_our_own_models_are_ours(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    assert type(load_encoder(tmp_path)) is type(model)


def changed_prompt(encoder):
    encoder.sentence.prompts["query"] = "another"


def changed_pooling(encoder):
    encoder.sentence[1].pooling_mode = "cls"


def changed_dense(encoder):
    with torch.no_grad():
        encoder.sentence[2].linear.weight[0, 0] += 1


@pytest.mark.parametrize(
    ("change", "names"), [(changed_prompt, ["modules"]), (changed_pooling, ["modules"]), (changed_dense, ["weights"])]
)
def test_what_decides_its_embeddings_makes_them(change, names, tmp_path):
    encoder = load_encoder(dense_repo(tmp_path))
    before = maker(encoder)
    encoder.encode_query(TEXTS)
    assert maker(encoder) == before == maker(load_encoder(tmp_path / "repo"))
    change(encoder)
    assert differences(before, maker(encoder)) == names


def test_the_plain_transformer_makes_others(tmp_path):
    repo = dense_repo(tmp_path)
    assert "modules" in differences(maker(load_encoder(repo)), maker(load_encoder(repo, pooling="mean")))


def test_without_sentence_transformers(tmp_path, monkeypatch):
    repo = cls_repo(tmp_path)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'hf-encoders\[sentence-transformers\]'"):
        load_encoder(repo)
    assert load_encoder(repo, pooling="cls").encode_text("a lamp").shape == (1, 32)


CODE = """
from pathlib import Path
from sentence_transformers.sentence_transformer.modules import Pooling
Path({path!r}).touch()
class Mine(Pooling): pass
"""


def own_module(repo):
    modules = json.loads((repo / "modules.json").read_text())
    modules[1]["type"] = "modeling_mine.Mine"
    (repo / "modules.json").write_text(json.dumps(modules))


def own_model(repo):
    config = json.loads((repo / "config.json").read_text())
    config = {
        **config,
        "model_type": "mine",
        "auto_map": {"AutoConfig": "modeling_mine.Mine", "AutoModel": "modeling_mine.Mine"},
    }
    (repo / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change", [own_module, own_model])
def test_code_of_a_repo_runs_only_when_it_is_trusted(change, tmp_path):
    repo = cls_repo(tmp_path)
    change(repo)
    (repo / "modeling_mine.py").write_text(CODE.format(path=str(tmp_path / "ran")))
    with pytest.raises(
        InputError, match=r"\(modeling_mine\.py\), which was not run; read it, then say --trust-remote-code"
    ):
        load_encoder(repo)
    assert not (tmp_path / "ran").exists() and "modeling_mine" not in sys.modules
    if change is own_module:
        assert load_encoder(repo, trust_remote_code=True).encode_text("a lamp").shape == (1, 32)
        assert (tmp_path / "ran").exists()


def test_an_activation_of_a_stranger_is_not_replaced_in_silence(tmp_path):
    repo = dense_repo(tmp_path)
    path = repo / "2_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "activation_function": "os.getcwd"}))
    with pytest.raises(InputError, match=r"\(os\.getcwd\), which was not run"):
        load_encoder(repo)


def test_a_pooler_of_random_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="its modules take the pooler, which the repo has no weights for"):
        load_encoder(image_repo(tmp_path, pooler=False))


@pytest.mark.parametrize("kind", ["CrossEncoder", "SparseEncoder", "MultiVectorEncoder"])
def test_other_kinds_of_models_are_refused(kind, tmp_path):
    repo = cls_repo(tmp_path)
    path = repo / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": kind}))
    with pytest.raises(NotAnEncoderError, match=f"a {kind} of sentence-transformers, expected a SentenceTransformer"):
        load_encoder(repo)


def test_damaged_repos_end_in_one_line(tmp_path):
    repo = cls_repo(tmp_path)
    (repo / "modules.json").write_text("[")
    with pytest.raises(InputError, match=r"modules\.json: cannot be read"):
        load_encoder(repo)
    (repo / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.Missing"}]')
    with pytest.raises(InputError, match="sentence-transformers cannot open it"):
        load_encoder(repo)


@pytest.mark.parametrize("option", [{"tokenizer": "plain"}, {"image_processor": "plain"}, {"interpolate": 64}])
def test_processors_are_those_of_its_modules(option, tmp_path):
    with pytest.raises(InputError, match="processors of their own; give a pooling too"):
        load_encoder(cls_repo(tmp_path), **option)


def test_repos_of_the_hub(hub_client, tmp_path, monkeypatch, caplog):
    repo, api, commits = cls_repo(tmp_path), HfApi(), {}
    for name, folder in {"org/sentence-encoder": repo, "org/plain-encoder": tmp_path / "plain"}.items():
        api.create_repo(name)
        commits[name] = api.upload_folder(repo_id=name, folder_path=folder).oid
    for offline in (False, True):  # what was asked for once is known without the Hub
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        encoder = load_encoder("org/sentence-encoder")
        assert isinstance(encoder, SentenceEncoder) and encoder.config.name_or_path == "org/sentence-encoder"
        assert_same(encoder.encode_text(TEXTS), there(repo).encode(TEXTS))
        assert maker(encoder)["revision"] == commits["org/sentence-encoder"]
        caplog.clear()
        assert isinstance(load_encoder("org/plain-encoder"), AnyEncoder)
        assert "the Hub cannot be reached" not in caplog.text


def test_a_repo_that_may_have_modules_is_told_of(hub_client, tmp_path, monkeypatch, caplog):
    cls_repo(tmp_path)
    HfApi().create_repo("org/cached")
    HfApi().upload_folder(repo_id="org/cached", folder_path=tmp_path / "plain")
    snapshot_download("org/cached")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert isinstance(load_encoder("org/cached"), AnyEncoder)
    assert "org/cached: the Hub cannot be reached, so it is taken for a repo without modules.json" in caplog.text
