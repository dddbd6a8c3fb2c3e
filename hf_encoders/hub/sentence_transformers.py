"""Writes the small files with which `SentenceTransformer(repo)` gives the same embeddings as our models."""

import json
from pathlib import Path

from ..models.text_tower import PROMPTS_FILE
from .kind import ADOPTED, ENCODER, MULTIMODAL, is_joined, repo_kind

_MODULES_FILE, _TRANSFORMER_FILE = "modules.json", "sentence_bert_config.json"
_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
# sentence-transformers' modality → the method that embeds it.
_MULTIMODAL = {"text": "get_text_features", "image": "get_image_features"}
# What goes before texts: nothing, until somebody writes it there.
WITHOUT_PROMPTS: dict[str, object] = {
    "model_type": "SentenceTransformer",
    "prompts": {"query": "", "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
# sentence-transformers has no modality for depth. It passes images to our processor unchanged, so depth maps too.
_DEPTH = {"image": "forward"}


def write_sentence_transformers_files(repo: Path) -> None:
    """Write the files, beside the weights, with which sentence-transformers loads a repo of ours.

    A multimodal encoder then embeds texts and images as unit vectors. A depth encoder embeds depth maps, whose vectors
    are not normalised. Both are the results of `encode...`. sentence-transformers takes a 2-D array for audio, and an
    unknown path for a text; `encode([{"image": item}])` says what an item is, and takes every input that ours takes.

    The files depend on the repo alone. Nothing is written if one of them is somebody else's, such as another
    arrangement of modules, or if the repo has no processor for a modality that sentence-transformers knows. Prompts
    that the repo has stay.

    Args:
        repo: folder with the model's config.json and its processor.

    Raises:
        InputError: if the folder holds no model of ours.
    """
    kind = repo_kind(repo)
    if kind in (ENCODER, ADOPTED) or is_joined(repo):
        return  # its conversion wrote them, where they fit; towers of somebody's own may read what fills up a batch
    if kind == MULTIMODAL:
        methods = {name: _MULTIMODAL[name] for name in _processed_modalities(repo)}
    else:
        methods = _DEPTH if (repo / "preprocessor_config.json").is_file() else {}
    if not methods or not all(_is_ours(repo / name) for name in (_MODULES_FILE, _TRANSFORMER_FILE)):
        return
    # Indented as sentence-transformers saves them, so that a file that it saves again stays the same.
    _write(repo / _TRANSFORMER_FILE, _transformer(methods), indent=4)
    _write(repo / _MODULES_FILE, _modules(normalize=methods is not _DEPTH), indent=2)
    if not (repo / PROMPTS_FILE).exists():
        _write(repo / PROMPTS_FILE, WITHOUT_PROMPTS, indent=2)


def _processed_modalities(repo: Path) -> list[str]:
    """The modalities of a multimodal encoder that have a processor."""
    processor = repo / "processor_config.json"
    parts = json.loads(processor.read_text(encoding="utf-8")) if processor.is_file() else {}
    has_part = {"text": (repo / "tokenizer_config.json").is_file(), "image": bool(parts.get("image_processor"))}
    return [name for name, has in has_part.items() if has]


def _modules(normalize: bool) -> list[dict[str, object]]:
    modules: list[dict[str, object]] = [{"idx": 0, "name": "0", "path": "", "type": _TRANSFORMER}]
    if normalize:
        modules.append({"idx": 1, "name": "1", "path": "1_Normalize", "type": _NORMALIZE})
    return modules


def _transformer(methods: dict[str, str]) -> dict[str, object]:
    return {
        "transformer_task": "feature-extraction",
        "modality_config": {
            name: {"method": method, "method_output_name": "pooler_output"} for name, method in methods.items()
        },
        "module_output_name": "sentence_embedding",
    }


def _is_ours(path: Path) -> bool:
    """Whether a file is absent, or one that this module writes for some repo."""
    if not path.exists():
        return True
    texts, images = ({name: _MULTIMODAL[name]} for name in ("text", "image"))
    known = [_modules(True), _modules(False), *map(_transformer, (_DEPTH, texts, images, _MULTIMODAL))]
    try:
        return json.loads(path.read_text(encoding="utf-8")) in known
    except ValueError:
        return False


def _write(path: Path, content: object, indent: int) -> None:
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
