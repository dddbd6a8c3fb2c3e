"""Reads the tokenizer of an encoder that a checkpoint alone does not have.

Sources are folders or Hub ids in the Hugging Face format, or the files of a vocabulary: BERT's vocab.txt, vocab.json
and merges.txt of the byte-level encodings of RoBERTa and CLIP, tokenizer.json. Nothing in them is executed.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import transformers
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from ...models.input_errors import one_line
from ..families.family import Texts
from ..tower_sources import SETTINGS, SourceError, bert_tokenizer, fit_tokenizer, read_part

_BERT, _ROBERTA = "BertTokenizer", "RobertaTokenizer"
_FULL, _WORDS, _MERGES, _LINES = "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"
_CONFIGURED = ("tokenizer_config.json", "config.json")  # which tell the tokenizer's class
_FAIRSEQ, _OPENAI = "dict.txt", ".txt.gz"
# Kind of a vocabulary in tokenizer.json → the classes that have it, by the class for a vocabulary alone.
_KINDS = {
    _BERT: {"WordPiece": _BERT},
    _ROBERTA: {"BPE": _ROBERTA, "Unigram": "XLMRobertaTokenizer"},
    "CLIPTokenizer": {"BPE": "CLIPTokenizer"},
}
_GIVE = "give a folder with tokenizer.json, or with vocab.json and merges.txt"
_RIGHT = "give the tokenizer that the checkpoint was trained with"
_PROBE = "a b"


def read_texts(option: str, source: str, texts: Texts, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Read a tokenizer, and fit its limit to the encoder.

    Args:
        option: the option that names the source, for messages.
        source: a folder or a Hub id, or a file of a vocabulary, with its settings beside it.
        texts: what the encoder takes.
        config: the encoder's configuration, or that of an encoder of texts and images.

    Raises:
        SourceError: if there is none, or its tokens are not those that the encoder was trained with.
    """
    tokenizer = _read(option, source, texts.tokenizer)
    tokenizer.name_or_path = ""  # a path on this machine means nothing elsewhere
    fit_tokenizer(option, source, tokenizer, texts.vocab_size, texts.max_length)
    _check_padding(option, source, tokenizer, config)
    _check_end(option, source, tokenizer, config)
    return tokenizer


def _read(option: str, source: str, kind: str) -> PreTrainedTokenizerBase:
    path = Path(source)
    if path.is_file():
        return _from_file(option, path, kind)
    if path.is_dir():
        has_settings = any((path / name).is_file() for name in _CONFIGURED)
        has_lines = (path / _LINES).is_file() and not (path / _FULL).is_file()
        if has_lines and (has_settings or kind == _BERT):
            return bert_tokenizer(option, source)
        if not has_settings:
            found = [path / name for name in (_FULL, _WORDS, _MERGES, _LINES, _FAIRSEQ) if (path / name).is_file()]
            if not found:
                raise SourceError(f"{option} {source}: has no tokenizer; {_hint(kind)}")
            return _from_file(option, found[0], kind)
    return read_part(option, source, AutoTokenizer.from_pretrained)


def _from_file(option: str, file: Path, kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer from the file of a vocabulary, whose class nothing else tells."""
    if file.name == _FULL:
        return _from_copies(option, file, _class_of(option, file, kind), (_FULL,))
    if file.name in (_WORDS, _MERGES) and kind != _BERT:
        missing = [name for name in (_WORDS, _MERGES) if not file.with_name(name).is_file()]
        if missing:
            raise SourceError(f"{option} {file}: needs {missing[0]} beside it; {_GIVE}")
        tokenizer = _from_copies(option, file, kind, (_WORDS, _MERGES))
        _check_special(option, file, tokenizer)
        return tokenizer
    if kind == _BERT and file.suffix != ".json":
        return bert_tokenizer(option, str(file))
    if file.name.startswith("dict") and file.suffix == ".txt":
        raise SourceError(
            f"{option} {file}: fairseq's dictionary, which has no merges of its byte-pair encoding; {_GIVE},"
            " of the same model in the Hugging Face format"
        )
    if file.name.endswith(_OPENAI):
        raise SourceError(
            f"{option} {file}: OpenAI's packed merges; {_GIVE}, of the same model in the Hugging Face format"
        )
    raise SourceError(f"{option} {file}: no vocabulary of a {kind}; {_hint(kind)}")


def _class_of(option: str, file: Path, kind: str) -> str:
    """The class for a tokenizer.json without settings, by the kind of its vocabulary."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["model"].get("type")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{option} {file}: no tokenizer.json of the tokenizers library ({one_line(error)}); {_hint(kind)}"
        ) from None
    kinds = _KINDS.get(kind, {})
    if found not in kinds:
        raise SourceError(
            f"{option} {file}: a vocabulary of the kind {found}, and a {kind} has {' or '.join(kinds)}; {_RIGHT},"
            " with its tokenizer_config.json"
        )
    return kinds[found]


def _from_copies(option: str, file: Path, kind: str, names: Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer of a class from some files: transformers reads folders only, and prefers other files in them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (*names, *SETTINGS):
            if (beside := file.with_name(name)).is_file():
                shutil.copy(beside, folder)
        from_pretrained = (
            AutoTokenizer if (Path(folder) / _CONFIGURED[0]).is_file() else getattr(transformers, kind)
        ).from_pretrained
        try:
            return cast(PreTrainedTokenizerBase, read_part(option, folder, from_pretrained))
        except SourceError as error:
            raise SourceError(str(error).replace(folder, str(file))) from error.__cause__


def _check_special(option: str, file: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a vocabulary without the special tokens: transformers would add them, with ids of no training."""
    words = json.loads(file.with_name(_WORDS).read_text(encoding="utf-8"))  # which was read once already
    needed = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    missing = [token for token in needed if token is not None and token not in words]
    if missing:
        raise SourceError(f"{option} {file}: {_WORDS} has no {missing[0]} among {len(words)} tokens; {_GIVE}")


def _check_padding(option: str, source: str, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Refuse another padding token where positions are counted by it."""
    expected = getattr(config, "pad_token_id", None)
    if config.model_type == "roberta" and tokenizer.pad_token_id != expected:
        raise SourceError(
            f"{option} {source}: its padding token has the id {tokenizer.pad_token_id}, and the network counts"
            f" positions by {expected}; {_RIGHT}"
        )


def _check_end(option: str, source: str, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Refuse another last token where the feature of a text is taken at it, as in CLIP."""
    text_config = getattr(config, "text_config", config)
    if getattr(text_config, "model_type", "") != "clip_text_model":
        return
    ids = tokenizer(_PROBE)["input_ids"]
    end = text_config.eos_token_id
    # With 2, CLIPModel takes the largest id, as OpenAI's code does.
    if not ids or (ids[-1] != max(ids) or ids.count(ids[-1]) > 1 if end == 2 else ids[-1] != end):
        expected = "the largest id of a text" if end == 2 else f"the id {end}"
        raise SourceError(
            f"{option} {source}: texts end with the id {ids[-1] if ids else None}, and the network takes a text's"
            f" feature at {expected}; {_RIGHT}"
        )


def _hint(kind: str) -> str:
    return "give a vocab.txt, or a folder with tokenizer.json" if kind == _BERT else _GIVE
