"""What a card's header says to the widget of the model's page on the Hub: examples, or that there is nothing to run.

The widget asks a host to run the model. Hosts run classes of transformers with their tokenizer or image processor, and
no code of a repo. Examples are in the form of huggingface.co/docs/hub/models-widgets-examples.
"""

from collections.abc import Mapping, Sequence

from .kind import ENCODER

_HUB = "https://huggingface.co"
# The pictures of the Hub's own examples.
_SAMPLES = f"{_HUB}/datasets/mishig/sample_images/resolve/main"
_TEXTS = (
    {"text": "a red chair beside a table", "example_title": "A chair"},
    {"text": "a lamp on a desk", "example_title": "A lamp"},
)
_PICTURES = (
    {"src": f"{_SAMPLES}/tiger.jpg", "example_title": "A tiger"},
    {"src": f"{_SAMPLES}/teapot.jpg", "example_title": "A teapot"},
)
_LABELS = {"candidate_labels": "tiger, teapot, chair"}
# Tag of the pipeline → examples. The page of another task has no widget.
_EXAMPLES: Mapping[str, Sequence[Mapping[str, str]]] = {
    "feature-extraction": _TEXTS,
    "text-classification": _TEXTS,
    "image-classification": _PICTURES,
    "zero-shot-image-classification": [{**picture, **_LABELS} for picture in _PICTURES],
}
_READS_TEXTS = ("feature-extraction", "text-classification", "zero-shot-image-classification")


def widget_metadata(kind: str, pipeline_tag: str, *, has_tokenizer: bool, has_images: bool) -> dict[str, object]:
    """The keys of the header for the widget.

    Args:
        kind: see `repo_kind`.
        pipeline_tag: the task, of which the page has the widget.
        has_tokenizer: whether the repo has one.
        has_images: whether it has an image processor.

    Returns:
        `inference: false` for models whose code no host runs; else `widget`, where the repo has what the task needs.
    """
    if kind != ENCODER:
        return {"inference": False}
    examples = _EXAMPLES.get(pipeline_tag, ())
    needs_texts = pipeline_tag in _READS_TEXTS
    needs_images = any("src" in example for example in examples)
    if not examples or (needs_texts and not has_tokenizer) or (needs_images and not has_images):
        return {}
    return {"widget": [dict(example) for example in examples]}


def is_generated(key: str, value: object) -> bool:
    """Whether an entry of a header is one that `widget_metadata` gives, and no person's."""
    if key == "inference":
        return value is False
    return key == "widget" and any(value == [*examples] for examples in _EXAMPLES.values())
