"""Writes a model's card, README.md: generated from the files of the repo, around the text that people wrote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader

from ..any_encoder import load_encoder
from ..fingerprint import fingerprint, sha256
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.input_errors import InputError, one_line
from ..models.repo_code import installed_config
from ..outputs import new_file
from .card_curves import Curves, draw_curves
from .card_edits import EMPTY_CARD
from .card_eval_results import write_eval_results
from .card_figures import Figure, read_figures
from .card_merging import inline, merge, split
from .card_metrics import (
    Evaluation,
    check_fingerprint,
    check_versions,
    compare,
    in_order,
    is_measured,
    read_evaluations,
)
from .card_widget import widget_metadata
from .endpoint_handler import has_handler
from .kind import ADOPTED, DEPTH, ENCODER, MULTIMODAL, REPORT_NAME, is_joined, repo_kind
from .reports import ConversionReport
from .requirements import model_requirements, sentence_transformers_requirement

CARD_NAME, RECIPE_NAME, CURVES_NAME, EXAMPLE_NAME = (
    "README.md", "training_recipe.yaml", "training_curves.png", "example.png",
)  # fmt: skip
# Kind of model → the pipeline tag and the tags by which the Hub finds it.
_KINDS = {
    DEPTH: ("image-feature-extraction", ["depth", "feature-extraction", "image-similarity"]),
    MULTIMODAL: ("zero-shot-image-classification", ["clip", "feature-extraction", "multimodal"]),
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["inline"] = inline
_TEMPLATES.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)


class CardOptions(TypedDict, total=False):
    """The arguments of `write_card` beside the folder."""

    name: str | None
    license: str | None
    datasets: Sequence[str]
    base_model: Sequence[str]
    metrics: Sequence[Path | Mapping[str, object]]
    recipe: Mapping[str, object] | None
    curves: Curves | None
    trust_remote_code: bool


def write_card(
    repo: Path,
    *,
    name: str | None = None,
    license: str | None = None,
    datasets: Sequence[str] = (),
    base_model: Sequence[str] = (),
    metrics: Sequence[Path | Mapping[str, object]] = (),
    recipe: Mapping[str, object] | None = None,
    curves: Curves | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write README.md of a repo: what the model is and how it is used.

    The card shows these files of the repo, where they exist: config.json, which selects the template,
    conversion_report.json, metrics*.json as `hf-encoders evaluate` writes them, the pictures of its `--figures` in
    figures/, training_recipe.yaml, training_curves.png and example.png.

    An existing card keeps what a person wrote: the text outside of the generated sections, each key of the header
    (lists gain new entries, and `license` is replaced if given), and entries of the model-index without a fingerprint.
    Text inside of the generated sections is replaced. Numbers on data sets of the Hub are written to `.eval_results/`
    as well.

    Args:
        repo: folder of the model.
        name: the title, and the name that the code on the card loads: a Hub id, or by default the folder's name.
        license: the Hub's identifier, such as "apache-2.0".
        datasets: the data sets that it was trained on. Only Hub ids are listed.
        base_model: the models that it was made from. Only Hub ids are listed.
        metrics: reports of `hf-encoders evaluate`, in addition to those in the repo.
        recipe: options of the training, to be written as training_recipe.yaml.
        curves: name → pairs of step and value, to be drawn as training_curves.png if there is matplotlib.
        trust_remote_code: run the repo's own code where it has metrics, to compare the weights that they are of.

    Returns:
        The path of the card.

    Raises:
        InputError: if this is not a repo of this project, a file or card cannot be read, or metrics, a picture or a
            conversion report are of other weights than those in the repo.
    """
    kind = repo_kind(repo)
    name = name or repo.resolve().name
    evaluations = _evaluations(repo, metrics)
    figures = read_figures(repo)
    _check_weights(repo, [*evaluations, *figures], trust_remote_code)
    report = _conversion_report(repo)
    old, old_text = read_card(repo / CARD_NAME)
    pipeline_tag, tags = _encoder_tags(report) if kind in (ENCODER, ADOPTED) and report else _KINDS[kind]
    in_sentence_transformers = (repo / "modules.json").is_file()
    tags = [*tags, "hf-encoders"]
    if report:
        tags.append("adopted" if kind == ADOPTED else "converted")
    if in_sentence_transformers:
        tags.append("sentence-transformers")
    if EMPTY_CARD in old_text:
        tags += old.tags or []  # the tags that push_to_hub was given
        old, old_text = ModelCardData(), ""
    if recipe is not None:
        _write(repo / RECIPE_NAME, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
    if curves:
        draw_curves(repo / CURVES_NAME, curves)

    own_code = kind == ADOPTED or is_joined(repo)  # which is not run for a card
    config = _plain_config(repo) if own_code else installed_config(repo)
    has_tokenizer = any(repo.glob("tokenizer*"))
    has_images = any((repo / file).is_file() for file in ("preprocessor_config.json", "processor_config.json"))
    recipe_file = repo / RECIPE_NAME
    written = _TEMPLATES.get_template(f"{kind}_template.md").render(
        name=name,
        requirements=model_requirements(has_package=kind not in (ENCODER, ADOPTED)),
        sentence_transformers=sentence_transformers_requirement(),
        config=config,
        report=report,
        depth=_depth_settings(repo),
        has_tokenizer=has_tokenizer,
        has_images=has_images,
        license=license or old.license,
        own_code=own_code,
        has_code=any(repo.glob("modeling_*.py")),
        has_handler=has_handler(repo),
        in_sentence_transformers=in_sentence_transformers,
        evaluations=evaluations,
        tables=compare(evaluations),
        figures=figures,
        recipe=recipe_file.read_text(encoding="utf-8").strip() if recipe_file.is_file() else None,
        curves=CURVES_NAME if (repo / CURVES_NAME).is_file() else None,
        example=EXAMPLE_NAME if (repo / EXAMPLE_NAME).is_file() else None,
    )
    data = _header(
        old,
        {
            "license": license,
            "library_name": "transformers",
            "pipeline_tag": pipeline_tag,
            "tags": tags,
            "datasets": _hub_ids(datasets),
            "base_model": _hub_ids(base_model),
            **widget_metadata(kind, pipeline_tag, has_tokenizer=has_tokenizer, has_images=has_images),
        },
    )
    results = [result for result in old.eval_results or [] if not is_measured(result)]
    for evaluation in evaluations:
        results += evaluation.results()
    check_versions(results)
    write_eval_results(repo, evaluations)
    header = ModelCardData(**data, model_name=name if results else None, eval_results=results or None)
    _write(repo / CARD_NAME, f"---\n{header.to_yaml()}\n---\n\n{merge(old_text, written).lstrip()}")
    return repo / CARD_NAME


def _encoder_tags(report: ConversionReport) -> tuple[str, list[str]]:
    """The pipeline tag and the tags of a converted encoder of another family."""
    architecture, family = report["architecture"], report["source"]["layout"]
    reads_texts = "tokenizer" in report.get("parts", {})
    if architecture == "CLIPModel":
        pipeline_tag = "zero-shot-image-classification"
    elif "ForImageClassification" in architecture:
        pipeline_tag = "image-classification"
    elif "ForSequenceClassification" in architecture:
        pipeline_tag = "text-classification"
    else:
        reads_pictures = not reads_texts and ("adopted" not in report or bool(report.get("parts")))
        pipeline_tag = "image-feature-extraction" if reads_pictures else "feature-extraction"
    return pipeline_tag, [family, "feature-extraction"]


def _evaluations(repo: Path, metrics: Sequence[Path | Mapping[str, object]]) -> list[Evaluation]:
    """The evaluations in the repo and those given."""
    in_repo = [path for path in sorted(repo.glob("metrics*.json")) if path not in metrics]
    evaluations: list[Evaluation] = []
    for one in [*in_repo, *metrics]:
        evaluations += read_evaluations(one) if isinstance(one, Path) else [Evaluation(one)]
    return in_order(evaluations)


def _check_weights(repo: Path, measured: Sequence[Evaluation | Figure], trust_remote_code: bool) -> None:
    """Refuse what was measured on other weights than those of the repo."""
    if not measured:
        return
    own = fingerprint(load_encoder(repo, trust_remote_code=trust_remote_code))  # as hf-encoders evaluate loads it
    for one in measured:
        check_fingerprint(one, own)


def _conversion_report(repo: Path) -> ConversionReport | None:
    """The report of the conversion that wrote the weights, or None."""
    path = repo / REPORT_NAME
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        stated = report["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path=path, reason=f"no report of a conversion ({one_line(error)})") from None
    if any(not (repo / file).is_file() or sha256(repo / file) != digest for file, digest in stated.items()):
        raise InputError(path=path, reason="of other weights than those beside it", hint="remove it")
    return cast(ConversionReport, report)


def read_card(path: Path) -> tuple[ModelCardData, str]:
    """Header and text of the present card; both are empty where there is none.

    Raises:
        InputError: if it cannot be read.
    """
    if not path.is_file():
        return ModelCardData(), ""
    try:
        card = ModelCard.load(path)
        split(card.text)
        return ModelCardData(**card.data.to_dict()), card.text
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(path=path, reason=f"its header or a mark cannot be read ({one_line(error)})") from None


def _header(old: ModelCardData, new: Mapping[str, object]) -> dict[str, Any]:
    """The header without the model-index: first the present keys, in their order."""
    kept = {name: value for name, value in old.to_dict().items() if name != "model-index"}
    for name, value in new.items():
        if isinstance(value, list):
            present = kept.get(name, [])
            present = present if isinstance(present, list) else [present]
            # Tags that a person removed stay away, and examples.
            is_settled = name in ("tags", "widget") and name in kept
            gained = [] if is_settled else [entry for entry in value if entry not in present]
            if present or gained:
                kept[name] = present + gained
        elif value is not None and (name == "license" or name not in kept):
            kept[name] = value
    return kept


def _hub_ids(names: Sequence[str]) -> list[str]:
    """The names that are Hub ids, not files or folders."""
    ids = []
    for name in names:
        try:
            validate_repo_id(name)
        except HFValidationError:
            continue
        if not Path(name).exists():
            ids.append(name)
    return ids


def _plain_config(repo: Path) -> dict[str, object]:
    """What config.json says, and what it leaves out of a multimodal encoder's."""
    written = json.loads((repo / "config.json").read_text(encoding="utf-8"))
    return MultimodalEncoderConfig().to_dict() | written


def _depth_settings(repo: Path) -> dict[str, object]:
    """The settings of the depth maps' processor; empty if the repo has none."""
    for file in ("processor_config.json", "preprocessor_config.json"):
        if (repo / file).is_file():
            settings = json.loads((repo / file).read_text(encoding="utf-8"))
            return dict(settings.get("depth_image_processor") or settings)
    return {}


def _write(path: Path, text: str) -> None:
    with new_file(path, overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")
