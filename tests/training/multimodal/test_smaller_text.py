"""A smaller text tower: the same embeddings of the words that stay, and a run that begins with it."""

import re

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    RobertaTokenizer,
)

from hf_encoders import MultimodalEncoderModel
from hf_encoders.training import pretrain
from hf_encoders.training.multimodal.arguments import ModelArguments
from hf_encoders.training.multimodal.model import check_way
from hf_encoders.training.multimodal.smaller_text import with_layers, with_tokens
from tests.conftest import SAMPLES, TINY
from tests.helpers.multimodal_models import TEXT, TRANSFORMER, tiny_tokenizer

TEXTS = ["a red chair", "Table!"]
SPEC = ["--batch_size=4", "--max_steps=1", "--num_workers=0", "--report_to=none", "--mixed_precision=no"]


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return BertModel(BertConfig(**TRANSFORMER | {"num_hidden_layers": 4}, **TEXT), add_pooling_layer=False).eval()


@torch.no_grad()
def states(model, tokenizer, texts):
    return model(**tokenizer(texts, padding=True, return_tensors="pt")).last_hidden_state


def test_words_that_stay_are_embedded_to_the_bit_and_others_are_spelt(tower):
    tokenizer = tiny_tokenizer()
    smaller, fewer = with_tokens(tower, tokenizer, TEXTS)
    assert smaller.config.vocab_size == len(fewer) < len(tokenizer)
    assert smaller.get_input_embeddings().num_embeddings == len(fewer)
    assert states(smaller, fewer, TEXTS).equal(states(tower, tokenizer, TEXTS))
    assert fewer.tokenize("a red lamp") == ["a", "red", "[UNK]"] != tokenizer.tokenize("a red lamp")
    assert tower.config.vocab_size == len(tokenizer)  # the given one stays


def test_short_pieces_stay_so_that_other_words_can_be_spelt(tower):
    _, fewer = with_tokens(tower, tiny_tokenizer(), ["red.", "sofa"])
    kept = set(fewer.get_vocab())
    # Those of characters that the texts have: "," is none of them.
    assert {"a", "of", ".", "##s", "red", "[CLS]", "[PAD]"} <= kept and not {"chair", "the", ","} & kept


def test_a_piece_is_kept_by_its_name():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "stool", "bar", "##stool", "##rel"]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)})
    tower = BertModel(BertConfig(**TRANSFORMER, vocab_size=9), add_pooling_layer=False)
    _, fewer = with_tokens(tower, tokenizer, ["bar", "##stool"])
    assert fewer.tokenize("barstool") == ["bar", "##stool"] and "##rel" not in fewer.get_vocab()


def test_the_tokenizer_is_the_same_when_it_is_loaded_again(tower, tmp_path):
    _, fewer = with_tokens(tower, tiny_tokenizer(), TEXTS)
    fewer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS)["input_ids"] == fewer(TEXTS)["input_ids"]
    assert again.model_max_length == fewer.model_max_length


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_some_layers_in_their_order(kind, tower):
    if kind == "distilbert":
        tower = DistilBertModel(DistilBertConfig(dim=32, n_layers=4, n_heads=2, hidden_dim=64, **TEXT)).eval()
    smaller = with_layers(tower, [0, 3])
    assert smaller.config.num_hidden_layers == 2 and tower.config.num_hidden_layers == 4
    stacks = [getattr(model, "encoder" if kind == "bert" else "transformer").layer for model in (smaller, tower)]
    assert len(stacks[0]) == 2
    for mine, index in zip(stacks[0], (0, 3), strict=True):
        for name, weight in mine.state_dict().items():
            assert weight.equal(stacks[1][index].state_dict()[name]), name
    assert states(smaller, tiny_tokenizer(), TEXTS).shape == (2, 5, 32)


@pytest.mark.parametrize("layers", [[3, 0], [0, 4], [-1, 2], [1, 1]])
def test_layers_that_are_not_there_are_refused(layers, tower):
    with pytest.raises(ValueError, match="give some of 0 to 3, in their order"):
        with_layers(tower, layers)


def test_a_tokenizer_whose_tokens_depend_on_each_other_is_refused(tower):
    folder = SAMPLES / "foreign" / "roberta-tokenizer"
    roberta = RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    with pytest.raises(ValueError, match="--text_words: only the tokens of a BertTokenizer can be left out"):
        with_tokens(tower, roberta, TEXTS)


@pytest.fixture
def run(tower, tmp_path):
    """Starts a run of a named text tower and new towers of pictures; the words after it are options."""
    tower.save_pretrained(tmp_path / "text")
    tiny_tokenizer().save_pretrained(tmp_path / "text")
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(8))
    rows = rows.remove_columns("caption").add_column("caption", ["a red chair", "a blue lamp"] * 4)
    rows.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "words.txt").write_text("this map\ntable\n")
    (tmp_path / "recipe.yaml").write_text(
        f"""
model_type: multimodal_encoder
dataset: {tmp_path}/rows.parquet
text_model: {tmp_path}/text
depth_column: depth
image_processor: {{size: {{height: 32, width: 32}}}}
model_config:
  projection_dim: 8
  text_pooling: mean
  vision_config: {{model_type: resnet, layer_type: basic, embedding_size: 8, hidden_sizes: [8, 8], depths: [1, 1]}}
  depth_config: {TINY | {"image_size": 32}}
"""
    )

    def start(*words):
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        pretrain.command([str(tmp_path / "recipe.yaml"), "--output_dir", str(out), *SPEC, *words])
        return MultimodalEncoderModel.from_pretrained(out)

    return start


@pytest.mark.usefixtures("first_run")
def test_a_run_begins_with_a_part_of_a_trained_text_tower(run, tower, tmp_path):
    options = ["--text_layers", "0", "2", "--text_words", str(tmp_path / "words.txt"), "--freeze", "text_encoder"]
    model = run(*options)
    tokenizer = model.processor.tokenizer
    known = set(tokenizer.get_vocab())
    assert {"this", "map", "table", "red", "chair", "blue", "lamp"} <= known and not {"small", "photo"} & known
    expected, fewer = with_tokens(
        with_layers(tower, [0, 2]), tiny_tokenizer(), ["this map table red chair blue lamp a"]
    )
    assert states(model.text_encoder, tokenizer, TEXTS).equal(states(expected, fewer, TEXTS))


@pytest.mark.usefixtures("first_run")
def test_another_text_tower_by_a_flag_leaves_the_recipes_new_towers(run, tmp_path):
    (tmp_path / "text").rename(tmp_path / "other")
    model = run("--text_model", str(tmp_path / "other"))
    assert model.config.text_config.num_hidden_layers == 4 and model.config.vision_config.hidden_sizes == [8, 8]


@pytest.mark.usefixtures("first_run")
def test_a_flag_names_the_tower_that_a_recipe_leaves_out(run, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(re.sub("text_model: .*", "text_layers: [0]", recipe.read_text()))
    model = run("--text_model", str(tmp_path / "text"))
    assert model.config.text_config.num_hidden_layers == 1 and model.config.vision_config.hidden_sizes == [8, 8]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"text_model": "", "text_layers": [0]}, "--text_layers and --text_words make the tower of --text_model"),
        ({"init_from": "x/z"}, "they say what is trained"),
        ({"model_config": {"text_config": {}}}, "they say what is trained"),
        ({"depth_model": "x/z", "model_config": {"depth_config": {}}}, "they say what is trained"),
    ],
)
@pytest.mark.usefixtures("first_run")
def test_towers_that_are_named_twice_are_refused(words, says):
    options = ModelArguments(model_config={"projection_dim": 8}, text_model="x/y")
    for name, value in words.items():
        setattr(options, name, value)
    with pytest.raises(ValueError, match=says):
        check_way(options)
