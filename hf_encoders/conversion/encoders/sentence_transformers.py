"""The files with which sentence-transformers loads a converted encoder, where it can."""

import json
from pathlib import Path

from ...hub.sentence_transformers import WITHOUT_PROMPTS
from ...models.text_tower import PROMPTS_FILE
from ..assumptions import Assumption
from ..families.family import Plan

_TRANSFORMER = "sentence_transformers.models.Transformer"
_POOLING = "sentence_transformers.models.Pooling"
_ANY_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
POOLINGS = ("cls", "mean")
_DEFAULT = "mean"  # what sentence-transformers takes for a model without its files
# Model classes whose pooler gives one vector an image, of the width that sentence-transformers asks for.
_IMAGES = ("ViT", "DeiT", "Dinov2", "ConvNext", "Swin")
_METHODS = {"text": "get_text_features", "image": "get_image_features"}


def pooling_of(plan: Plan, stated: str | None) -> tuple[str | None, list[Assumption]]:
    """How the tokens of a text become one vector: as stated, as the family does, or by sentence-transformers' default.

    Returns:
        "cls" or "mean", None for a model without texts or with features of its own; and what was assumed.
    """
    if plan.texts is None or plan.architecture.startswith("CLIP"):
        return None, []
    if stated or plan.texts.pooling:
        return stated or plan.texts.pooling, []
    what = f"{_DEFAULT} pooling of a text's tokens in sentence-transformers"
    return _DEFAULT, [Assumption("pooling", what, ("--pooling",), of_network=False)]


def write_modules(repo: Path, plan: Plan, pooling: str | None, *, tokenizer: bool, images: bool) -> None:
    """Write modules.json, the settings of its modules and empty prompts, if sentence-transformers can load the model.

    Args:
        repo: folder with the model, its tokenizer and its image processor.
        plan: of the model.
        pooling: of a text model.
        tokenizer: whether the repo has one.
        images: whether the repo has an image processor.
    """
    if plan.architecture.startswith("CLIP"):
        present = {"text": tokenizer, "image": images}
        methods = {name: method for name, method in _METHODS.items() if present[name]}
        if len(methods) == len(present):  # a processor of one of them alone is no processor of the model
            _write_transformer(repo, {name: (method, "pooler_output") for name, method in methods.items()})
            _write_list(repo, [("", _ANY_TRANSFORMER), ("1_Normalize", _NORMALIZE)])
    elif plan.texts is not None and tokenizer:
        width = plan.settings["hidden_size"]
        _write(repo / "1_Pooling" / "config.json", _pooling(width, str(pooling)))
        _write(repo / "sentence_bert_config.json", {"max_seq_length": plan.texts.max_length, "do_lower_case": False})
        _write_list(repo, [("", _TRANSFORMER), ("1_Pooling", _POOLING)])
    elif plan.texts is None and images and plan.architecture.startswith(_IMAGES):
        _write_transformer(repo, {"image": ("forward", "pooler_output")})
        _write_list(repo, [("", _ANY_TRANSFORMER)])


def _pooling(width: object, pooling: str) -> dict[str, object]:
    return {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


def _write_transformer(repo: Path, methods: dict[str, tuple[str, str]]) -> None:
    content = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            name: {"method": method, "method_output_name": output} for name, (method, output) in methods.items()
        },
        "module_output_name": "sentence_embedding",
    }
    _write(repo / "sentence_bert_config.json", content)


def _write_list(repo: Path, modules: list[tuple[str, str]]) -> None:
    content = [
        {"idx": number, "name": str(number), "path": path, "type": kind} for number, (path, kind) in enumerate(modules)
    ]
    _write(repo / "modules.json", content)
    _write(repo / PROMPTS_FILE, WITHOUT_PROMPTS)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
