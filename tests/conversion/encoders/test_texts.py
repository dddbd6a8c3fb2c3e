"""Tokenizers of encoders: from folders and from vocabularies alone, and never one that the network does not fit."""

import json
import shutil

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    CLIPTokenizer,
    RobertaConfig,
    RobertaTokenizer,
)

from hf_encoders.conversion.encoders.texts import read_texts
from hf_encoders.conversion.families.family import Texts
from hf_encoders.conversion.tower_sources import SourceError
from hf_encoders.models.input_errors import InputError

LETTERS = sorted(ByteLevel.alphabet())
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "chair"]
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "lo", "low", "Ġlow", "<mask>"]
CLIP_TOKENS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "lo", "low</w>", "<|startoftext|>", "<|endoftext|>"]
BERT = Texts(7, 16, "BertTokenizer"), BertConfig(vocab_size=7)
ROBERTA = Texts(300, 22, "RobertaTokenizer"), RobertaConfig(vocab_size=300, max_position_embeddings=24)
CLIP = Texts(600, 11, "CLIPTokenizer"), CLIPConfig(text_config={"eos_token_id": 515})


def write_merges(folder, tokens, merges=("l o", "lo w", "Ġ low")):
    folder.mkdir(exist_ok=True)
    numbers = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return folder


def write_lines(folder):
    (folder / "vocab.txt").write_text("\n".join(BERT_TOKENS) + "\n")
    return folder


def roberta(folder):
    return write_merges(folder, ROBERTA_TOKENS)


def clip(folder):
    return write_merges(folder, CLIP_TOKENS, ("l o", "lo w</w>"))


def read(source, network):
    return read_texts("--tokenizer", str(source), *network)


def refusal(source, network):
    with pytest.raises(SourceError) as error:
        read(source, network)
    line = str(error.value)
    assert line.startswith(f"--tokenizer {source}") and "\n" not in line and ("; " in line or "cannot be read" in line)
    return line


def saved(kind, folder, target, *names):
    """What a class writes, or some files of it."""
    kind.from_pretrained(folder).save_pretrained(folder / "saved")
    for name in names:
        shutil.copy(folder / "saved" / name, target)
    return folder / "saved"


@pytest.mark.parametrize("name", ["", "vocab.txt"])
def test_the_vocabulary_of_bert(name, tmp_path):
    tokenizer = read(write_lines(tmp_path) / name, BERT)
    assert isinstance(tokenizer, BertTokenizer) and tokenizer("A chair")["input_ids"] == [2, 5, 6, 3]
    assert tokenizer.model_max_length == 16


@pytest.mark.parametrize("name", ["", "vocab.json", "merges.txt"])
def test_a_vocabulary_with_merges(name, tmp_path):
    tokenizer = read(roberta(tmp_path) / name, ROBERTA)
    assert type(tokenizer) is RobertaTokenizer and len(tokenizer) == len(ROBERTA_TOKENS)
    assert tokenizer("low low")["input_ids"] == [0, 261, 262, 2] and tokenizer.pad_token_id == 1
    assert tokenizer.model_max_length == 22


@pytest.mark.parametrize("name", ["", "vocab.json", "merges.txt"])
def test_the_vocabulary_of_clip(name, tmp_path):
    tokenizer = read(clip(tmp_path) / name, CLIP)
    read(tmp_path / name, (CLIP[0], CLIPConfig(text_config={"eos_token_id": 2})))
    assert type(tokenizer) is CLIPTokenizer and tokenizer.model_max_length == 11
    assert tokenizer("low low")["input_ids"] == [514, 513, 513, 515]


@pytest.mark.parametrize(
    ("kind", "write", "network"),
    [
        (BertTokenizer, write_lines, BERT),
        (RobertaTokenizer, roberta, ROBERTA),
        (CLIPTokenizer, clip, CLIP),
    ],
)
def test_what_transformers_writes(kind, write, network, tmp_path):
    """A folder, the file alone, and the file with its settings beside it; it is the same after it was written."""
    (tmp_path / "source").mkdir()
    (tmp_path / "alone").mkdir()
    folder = saved(kind, write(tmp_path / "source"), tmp_path / "alone", "tokenizer.json")
    expected = kind.from_pretrained(folder)("low a chair")["input_ids"]
    for source in (folder, folder / "tokenizer.json", tmp_path / "alone", tmp_path / "alone" / "tokenizer.json"):
        tokenizer = read(source, network)
        assert tokenizer("low a chair")["input_ids"] == expected, source
        assert tokenizer.pad_token is not None and tokenizer.model_max_length == network[0].max_length
        tokenizer.save_pretrained(tmp_path / "written")
        again = AutoTokenizer.from_pretrained(tmp_path / "written")
        assert again("low a chair")["input_ids"] == expected
        assert str(tmp_path) not in (tmp_path / "written" / "tokenizer_config.json").read_text()


def test_a_limit_of_the_tokenizer_stays(tmp_path):
    roberta(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer", "model_max_length": 5}')
    assert read(tmp_path / "vocab.json", ROBERTA).model_max_length == 5


@pytest.mark.parametrize("name", ["dict.txt", "dict.input0.txt"])
def test_the_dictionary_of_fairseq_is_not_enough(name, tmp_path):
    (tmp_path / name).write_text("13 850314647\n262 800385005\n")
    line = refusal(tmp_path / name, ROBERTA)
    assert "fairseq's dictionary, which has no merges" in line and "vocab.json and merges.txt" in line
    if name == "dict.txt":
        assert "fairseq's dictionary" in refusal(tmp_path, ROBERTA)


def test_other_files_and_folders(tmp_path):
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"\x1f\x8b")
    assert "OpenAI's packed merges" in refusal(tmp_path / "bpe_simple_vocab_16e6.txt.gz", CLIP)
    assert "has no tokenizer; give a folder with tokenizer.json" in refusal(tmp_path, ROBERTA)
    assert "has no tokenizer; give a vocab.txt" in refusal(tmp_path, BERT)
    write_lines(tmp_path)
    assert "no vocabulary of a RobertaTokenizer" in refusal(tmp_path / "vocab.txt", ROBERTA)
    assert "no vocabulary of a RobertaTokenizer" in refusal(tmp_path, ROBERTA)
    roberta(tmp_path)
    assert "no vocabulary of a BertTokenizer; give a vocab.txt" in refusal(tmp_path / "vocab.json", BERT)
    (tmp_path / "merges.txt").unlink()
    assert "needs merges.txt beside it" in refusal(tmp_path / "vocab.json", ROBERTA)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "no tokenizer.json of the tokenizers library" in refusal(tmp_path / "tokenizer.json", ROBERTA)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read(tmp_path / "nowhere", ROBERTA)


def test_a_vocabulary_of_another_kind(tmp_path):
    (tmp_path / "source").mkdir()
    saved(BertTokenizer, write_lines(tmp_path / "source"), tmp_path, "tokenizer.json")
    line = refusal(tmp_path / "tokenizer.json", ROBERTA)
    assert "a vocabulary of the kind WordPiece, and a RobertaTokenizer has BPE or Unigram" in line


def test_more_tokens_than_the_network_embeds(tmp_path):
    line = refusal(roberta(tmp_path), (Texts(263, 22, "RobertaTokenizer"), RobertaConfig()))
    assert "has 264 tokens, and the checkpoint embeds 263" in line


def test_a_vocabulary_without_special_tokens(tmp_path):
    """transformers would add them, with ids that were never trained."""
    line = refusal(write_merges(tmp_path, LETTERS, ()), ROBERTA)
    assert "vocab.json has no <s> among 256 tokens" in line
    (tmp_path / "vocab.json").write_text("[")
    assert "cannot be read" in refusal(tmp_path / "vocab.json", ROBERTA)


def test_a_padding_token_by_which_positions_are_not_counted(tmp_path):
    """RoBERTa tells padding by its id."""
    moved = ["<pad>", "<s>", *ROBERTA_TOKENS[2:]]
    assert "its padding token has the id 0, and the network counts positions by 1" in refusal(
        write_merges(tmp_path, moved), ROBERTA
    )


def test_an_end_where_clip_takes_no_feature(tmp_path):
    """CLIPModel takes a text's feature at its end: at one id, or at the largest."""
    moved = ["<|endoftext|>", *CLIP_TOKENS[:-1]]
    folder = write_merges(tmp_path, moved, ("l o", "lo w</w>"))
    config = CLIPConfig(text_config={"eos_token_id": 2})
    assert "texts end with the id 0, and the network takes a text's feature at the largest" in refusal(
        folder, (CLIP[0], config)
    )
    assert "feature at the id 515" in refusal(folder, CLIP)
    assert read(folder, (CLIP[0], CLIPConfig(text_config={"eos_token_id": 0}))).eos_token_id == 0
