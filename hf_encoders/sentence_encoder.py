"""Repos of sentence-transformers, opened by it, behind the methods that this project's own models have.

A repo with modules.json says how its vectors are made: by pooling, dense layers, normalisation, prompts. The modules of
sentence-transformers do that here too, so that the embeddings are the same as there.
"""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.hub import extract_commit_hash

from .encode_methods import EncodeMethods
from .model_kinds import NotAnEncoderError
from .models.input_errors import InputError, one_line
from .models.pixel_towers import ImageTower
from .models.repo_code import needs_code, repo_file
from .models.text_tower import PROMPTS_FILE, TextTower
from .models.tower import Modality, check_tower
from .sentence_towers import DelegatingTextTower, SentenceImageTower, SentenceNetwork, SentenceTextTower

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.get_logger(__name__)

_OURS = ("depth_semantic_encoder", "multimodal_encoder")
MODULES_FILE = "modules.json"
_OWN = "sentence_transformers."
# A file of a repo → where it is on this machine, or None.
Find = Callable[[str], Path | None]


class SentenceEncoder(EncodeMethods):
    """A model of sentence-transformers with towers; see `load_encoder`.

    Args:
        sentence: the model.
        name: its folder or Hub id.

    Raises:
        NotAnEncoderError: if it embeds neither texts nor images.
    """

    def __init__(self, sentence: "SentenceTransformer", name: str = ""):
        self.sentence = sentence.eval()
        config = sentence.config or PreTrainedConfig()
        config.name_or_path = config.name_or_path or name
        self.network = SentenceNetwork(self.sentence, config)
        supported = [str(modality) for modality in sentence.modalities]
        if "message" in supported:  # chats, of which a text is one
            supported.append("text")
        self.towers: tuple[Modality, ...] = tuple(kind for kind in ("text", "image") if kind in supported)
        if not self.towers:
            reason = f"its modules embed {', '.join(supported) or 'nothing'}, expected texts or images"
            raise NotAnEncoderError(path=name or "SentenceTransformer", reason=reason)
        self._cap_length()

    @property
    def model(self) -> PreTrainedModel:
        """What towers are made of: all modules."""
        return cast(PreTrainedModel, self.network)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the network."""
        return self.network.config

    @property
    def device(self) -> torch.device:
        """The device of the weights, and of the embeddings."""
        return self.sentence.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.network.dtype

    @property
    def prompts(self) -> Mapping[str, str]:
        """What goes before texts, by name."""
        return {key: prompt or "" for key, prompt in self.sentence.prompts.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides embeddings beside weights, configuration and processors: modules, prompts, pooling."""
        modules = [
            [type(module).__name__, cast(Any, module).get_config_dict() if hasattr(module, "get_config_dict") else {}]
            for module in self.sentence
        ]
        tokenizer = self.sentence.tokenizer
        words = tokenizer.to_str() if hasattr(tokenizer, "to_str") else None
        prompts = dict(self.prompts), self.sentence.default_prompt_name
        return {"modules": modules, "prompts": prompts, "tokenizer": words, "truncate_dim": self.sentence.truncate_dim}

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, by name, those of all modules."""
        return self.network.state_dict()

    def to(self, device: str | torch.device) -> "SentenceEncoder":
        """Move the weights; returns the encoder."""
        self.network.to(device)
        return self

    def tower(self, name: str) -> TextTower | ImageTower:
        """The tower of a modality; texts get the default prompt, as `SentenceTransformer.encode` gives it.

        Raises:
            ValueError: if it does not embed it.
        """
        default = self.sentence.default_prompt_name
        return self._tower(name, self.prompts[default] if default else "")

    def prompted_tower(self, name: str) -> TextTower:
        """As `SentenceTransformer.encode_query` and `encode_document` embed."""
        return cast(TextTower, self._tower("text", self.prompts.get(name, ""), name))

    def _tower(self, name: str, prompt: str, task: str | None = None) -> TextTower | ImageTower:
        check_tower(name, self.towers)
        if name == "image":
            return SentenceImageTower(self.network, task)
        if self._takes_padded_tokens():
            return SentenceTextTower(self.network, prompt, task)
        return DelegatingTextTower(self.network, prompt, task)

    def _takes_padded_tokens(self) -> bool:
        """Whether the first module is a transformer that reads tokens [B, L] and their mask."""
        transformer = self.sentence.transformers_model
        attention = str(getattr(self.config, "_attn_implementation", ""))
        return (
            isinstance(transformer, PreTrainedModel)
            and getattr(self.sentence[0], "model", None) is transformer
            and isinstance(self.sentence.tokenizer, PreTrainedTokenizerBase)
            and "message" not in self.sentence.modalities
            and "flash" not in attention
        )

    def _cap_length(self) -> None:
        """Cut texts where the table of positions ends; beyond it the network ends in an error."""
        transformer, tokenizer = self.sentence.transformers_model, self.sentence.tokenizer
        if not (isinstance(transformer, PreTrainedModel) and isinstance(tokenizer, PreTrainedTokenizerBase)):
            return
        for name, module in getattr(transformer, "text_model", transformer).named_modules():
            if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "position_embedding")):
                # RoBERTa and its kin count positions from the padding index on.
                first = 0 if module.padding_idx is None else module.padding_idx + 1
                tokenizer.model_max_length = min(tokenizer.model_max_length, module.num_embeddings - first)


def sentence_encoder(
    source: "str | os.PathLike[str] | SentenceTransformer",
    revision: str,
    trust_remote_code: bool,
    dtype: torch.dtype,
    *,
    has_processors: bool,
) -> SentenceEncoder | None:
    """The encoder of a repo of sentence-transformers, or of such a model; None for any other repo, and for ours.

    Args:
        source: Hub id, folder or model.
        revision, trust_remote_code, dtype: see `load_encoder`.
        has_processors: whether other processors are given, which its modules do not take.

    Raises:
        InputError: see `open_sentence_encoder`.
    """
    if not isinstance(source, (str, os.PathLike)):
        return SentenceEncoder(source)
    name = os.fspath(source)
    path = repo_file(name, MODULES_FILE, revision)
    if path is None:
        _warn_of_the_unknown(name, revision)
        return None
    if not Path(name).is_dir():  # one commit for all files, those that are checked and those that are loaded
        revision = extract_commit_hash(str(path), None) or revision
    find = partial(_find, name, revision)
    if _read(find, "config.json").get("model_type") in _OURS:
        return None
    if has_processors:
        hint = "give a pooling too, which opens the plain transformer"
        raise InputError(path=name, reason="its sentence-transformers modules have processors of their own", hint=hint)
    if not trust_remote_code and (needed := needs_code(name, revision)):
        raise needed
    encoder = open_sentence_encoder(name, find, revision=revision, trust_remote_code=trust_remote_code, dtype=dtype)
    if not Path(name).is_dir():
        encoder.config._commit_hash = revision
    return encoder


def _find(name: str, revision: str, file: str) -> Path | None:
    return repo_file(name, file, revision)


def _warn_of_the_unknown(name: str, revision: str) -> None:
    """Say that a repo may be another one's, if only the Hub could tell and it cannot be reached."""
    if constants.HF_HUB_OFFLINE and not Path(name).exists():
        if try_to_load_from_cache(name, MODULES_FILE, revision=revision) is not _CACHED_NO_EXIST:
            logger.warning("%s: the Hub cannot be reached, so it is taken for a repo without %s", name, MODULES_FILE)


def open_sentence_encoder(
    name: str, find: Find, *, revision: str, trust_remote_code: bool, dtype: torch.dtype
) -> SentenceEncoder:
    """Open a repo of sentence-transformers.

    Args:
        name: its folder or Hub id.
        find: its files.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the repo's own code.
        dtype: of the weights in memory.

    Raises:
        NotAnEncoderError: for a reranker, or a model of sparse or of many vectors.
        InputError: if sentence-transformers is not installed, the repo needs code of its own, or it is damaged.
    """
    kind = _read(find, PROMPTS_FILE).get("model_type") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise NotAnEncoderError(path=name, reason=f"a {kind} of sentence-transformers, expected a SentenceTransformer")
    if not trust_remote_code and (files := foreign_code(find)):
        raise InputError(
            path=name,
            reason=f"needs code beside sentence-transformers' ({', '.join(files)}), which was not run",
            hint="read it, then say --trust-remote-code",
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise InputError(
            path=name,
            reason=f"a repo of sentence-transformers, which is not installed ({one_line(error)})",
            hint="pip install 'hf-encoders[sentence-transformers]', or say a pooling to open the transformer alone",
        ) from error
    try:
        sentence = SentenceTransformer(
            name,
            device="cpu",
            revision=revision,
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": dtype},
        )
    except Exception as error:  # whatever the files of a stranger raise
        raise InputError(path=name, reason=f"sentence-transformers cannot open it ({one_line(error)})") from error
    encoder = SentenceEncoder(sentence, name)
    _check_pooler(name, encoder, find)
    return encoder


def foreign_code(find: Find) -> list[str]:
    """What a repo would run beside the modules of sentence-transformers and PyTorch: files, or classes of packages."""
    found: list[str] = []
    modules = cast("list[dict[str, Any]]", _read(find, MODULES_FILE, []))
    for module in modules:
        kind, folder = str(module.get("type", "")), str(module.get("path", ""))
        kinds = [kind]
        for name in ("config.json", "router_config.json") if folder else ("router_config.json",):
            inner = _read(find, f"{folder}/{name}".lstrip("/"))
            if kind.endswith((".Router", ".Asym")):
                kinds += map(str, inner.get("types", {}).values())
            if kind.endswith(".Dense") and not str(inner.get("activation_function", "torch.")).startswith("torch."):
                found.append(str(inner["activation_function"]))
        found += [each for each in kinds if not each.startswith(_OWN)]
    named = [kind.rpartition("--")[2] for kind in found]
    return sorted({f"{kind.split('.')[0]}.py" if find(f"{kind.split('.')[0]}.py") else kind for kind in named})


def _check_pooler(name: str, encoder: SentenceEncoder, find: Find) -> None:
    """Refuse a pooler of random weights: transformers makes one where the file holds none."""
    transformer = encoder.sentence.transformers_model
    taken = [part.get("method_output_name") for part in getattr(encoder.sentence[0], "modality_config", {}).values()]
    if transformer is None or "pooler_output" not in taken:
        return
    if not any(n.startswith("pooler.") for n, _ in transformer.named_parameters()):
        return
    path = find("model.safetensors")
    if path is None:
        return
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        if not any("pooler." in key for key in file.keys()):  # noqa: SIM118 - no mapping
            raise InputError(
                path=name,
                reason="its modules take the pooler, which the repo has no weights for: AutoModel makes it at random",
                hint="say --pooling cls or mean",
            )


def _read(find: Find, name: str, default: Any = None) -> Any:
    """A JSON file of the repo; empty if there is none."""
    path = find(name)
    if path is None:
        return {} if default is None else default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path=path, reason=f"cannot be read ({one_line(error)})") from error
