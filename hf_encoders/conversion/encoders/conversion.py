"""A checkpoint of a known family of encoders → a repo that transformers loads by itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPProcessor, PreTrainedModel

from ...checkpoints.errors import LayoutError
from ...checkpoints.state_dicts import check_values
from ...hub.reports import MovedTensors, PartsReport, Verification
from ..assumptions import Assumption, as_report
from ..families.family import EncoderOptions
from ..families.moves import apply
from ..plain_data import harmless
from ..report import file_name
from .heads import unused_head
from .images import ImageOptions, ImagePreparation, prepare_images
from .labels import labels_of
from .sentence_transformers import pooling_of, write_modules
from .source import EncoderSource, build, decided
from .texts import read_texts
from .verification import Witness, encoder_outputs, verify_encoder, witness_outputs


@dataclass(frozen=True)
class InputOptions:
    """What a person says about the inputs of an encoder.

    Args:
        images: of an image tower.
        tokenizer: folder or Hub id of a tokenizer, or a vocabulary; None to write a repo without one.
        pooling: how sentence-transformers makes one vector of a text's tokens: "cls" or "mean"; None: not said.
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    tokenizer: str | None = None
    pooling: str | None = None


class EncoderConversion:
    """A checkpoint of a known family on its way to a repo; see `write_repo.Conversion`.

    Args:
        source: the recognised file.
        options: what a person said about the network.
        inputs: what a person says about its inputs.
        witness: computes the expected outputs; by default the family's reference does.

    Raises:
        InputError: if an option does not fit the network, or its source cannot be used.
    """

    def __init__(
        self, source: EncoderSource, options: EncoderOptions, inputs: InputOptions, witness: Witness | None = None
    ):
        _check_options(source, inputs)
        self.source = source
        self.options = options
        self.witness, self.path = witness, source.path
        self.verified_inputs = source.plan.inputs
        self.wanted: Mapping[str, Tensor] = source.tensors
        self.labels = self._labels()
        self.images = self._images(inputs.images)
        plan = source.plan
        self.tokenizer = None
        if inputs.tokenizer and plan.texts is not None:
            self.tokenizer = read_texts("--tokenizer", inputs.tokenizer, plan.texts, build(plan).config)
        self.parts: dict[str, str | None] = {}
        if plan.texts is not None:
            self.parts["tokenizer"] = file_name(inputs.tokenizer) if inputs.tokenizer else None
        if self.images is not None and (self.images.source or self.images.processor is None):
            self.parts["image_processor"] = file_name(self.images.source) if self.images.source else None
        self.pooling, of_pooling = pooling_of(plan, inputs.pooling)
        of_images = self.images.assumed if self.images else ()
        self.assumed: list[Assumption] = [*plan.assumed, *of_images, *(of_pooling if self.tokenizer else ())]

    def check(self) -> None:
        """Refuse tensors with values that no network can hold."""
        check_values(self.source.path, self.wanted)

    def write(self, repo: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
        """Write the model, its processor, and what sentence-transformers reads."""
        plan = self.source.plan
        model = build(plan)
        if self.labels:
            model.config.id2label = dict(enumerate(self.labels))
            model.config.label2id = {label: number for number, label in enumerate(self.labels)}
        dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
        state_dict = {name: _of_type(tensor, dtype) for name, tensor in apply(plan.moves, tensors).items()}
        model.load_state_dict({name: state_dict[name] for name in model.state_dict()}, assign=True)
        # A pooler that only the headless class has is no parameter of this model; it is saved all the same.
        model.save_pretrained(repo, state_dict=state_dict)
        self._write_processors(repo)
        return model

    def expected(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the verification's inputs through the family's reference, or the witness over the file's own tensors."""
        if self.witness is not None:
            return witness_outputs(self.source.plan, self.path, self.witness)
        return encoder_outputs(self.source.plan, tensors)

    def verify(self, repo: Path, expected: Mapping[str, Tensor]) -> Verification:
        """Compare a repo's outputs with the expected ones."""
        against = self.witness.against(self.path) if self.witness is not None else None
        return verify_encoder(repo, self.verified_inputs, expected, against)

    def report(self, model: PreTrainedModel) -> PartsReport:
        """What was assumed, left out and made, and how each tensor was moved."""
        source, plan = self.source, self.source.plan
        keys = source.source_keys
        moved: list[MovedTensors] = [
            {
                "from": [harmless(keys[name]) for name in move.sources],
                "to": list(move.targets),
                "by": move.by,
                "shape": list(move.shape),
            }
            for move in plan.moves
        ]
        head = None if self.options.without_head else unused_head(source, model.config)
        report: PartsReport = {
            "parameters": {"total": model.num_parameters()},
            "parts": self.parts,
            "assumed": as_report(self.assumed),
            "dropped": [harmless(key) for key in (*source.dropped, *source.chosen.dropped)],
            "untrained": list(plan.untrained),
            "moved": moved,
            "container": [harmless(key) for key in source.chosen.network.container],
            "options": decided(source, self.options).as_report(),
            "labels": len(self.labels) if self.labels else 0,
        }
        if head:
            report["unused_head"] = head
        return report

    def keys(self) -> dict[str, str | None]:
        """Key in the file → names in the model, or None for what is not carried over."""
        kept: dict[str, str | None] = {}
        for move in self.source.plan.moves:
            for name in move.sources:
                kept[self.source.source_keys[name]] = " + ".join(move.targets) or None
        return kept | dict.fromkeys([*self.source.dropped, *self.source.chosen.dropped])

    def release(self) -> None:
        """Let go of the file's tensors."""
        del self.wanted, self.source

    def _labels(self) -> list[str] | None:
        count = self.source.plan.settings.get("num_labels")
        return labels_of(self.source.metadata, count) if isinstance(count, int) else None

    def _images(self, options: ImageOptions) -> ImagePreparation | None:
        source, plan = self.source, self.source.plan
        if plan.images is None:
            return None
        return prepare_images(source.path, plan.images, source.metadata, options, plan.architecture)

    def _write_processors(self, repo: Path) -> None:
        images = self.images.processor if self.images else None
        if images is not None and self.tokenizer is not None:
            CLIPProcessor(images, self.tokenizer).save_pretrained(repo)
        elif images is not None:
            images.save_pretrained(repo)
        elif self.tokenizer is not None:
            self.tokenizer.save_pretrained(repo)
        has_tokenizer, has_images = self.tokenizer is not None, images is not None
        write_modules(repo, self.source.plan, self.pooling, tokenizer=has_tokenizer, images=has_images)


def _check_options(source: EncoderSource, inputs: InputOptions) -> None:
    """Refuse what is said about inputs that the network does not take."""
    plan = source.plan
    given: list[tuple[str, object, bool]] = [
        ("--tokenizer", inputs.tokenizer, plan.texts is not None),
        ("--pooling", inputs.pooling, plan.texts is not None and not plan.architecture.startswith("CLIP")),
        *(
            (f"--{field.name.replace('_', '-')}", getattr(inputs.images, field.name), plan.images is not None)
            for field in dataclasses.fields(inputs.images)
        ),
    ]
    for option, value, fits in given:
        if value is not None and not fits:
            raise LayoutError(f"{source.path}: a {plan.architecture} has no use for {option}; leave it out")
    if inputs.pooling is not None and inputs.tokenizer is None:
        raise LayoutError(f"{source.path}: --pooling goes with --tokenizer: sentence-transformers reads texts")


def _of_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor.contiguous()
