"""Teachers: the student also learns similarities that a trained model finds, or another of its own towers."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...any_encoder import AnyEncoder, load_encoder
from ...losses.contrastive import LossOutput
from ...losses.distillation import DistillationLoss
from ...losses.relations import RelationLoss
from ...losses.soft_targets import SoftTargetLoss
from ...modalities import MODALITIES, modalities
from ..checks import check_finite
from .arguments import LossArguments, pair_weights
from .model import load_multimodal, says_the_option
from .samples import Chunk, ModelInputs
from .text_checks import check_tokenizer
from .word_texts import WordTexts

# Divides similarities of texts: sentence encoders are trained at 0.05, as SimCSE (https://arxiv.org/abs/2104.08821) is.
_LIKENESS = 0.05
WORDS = "words"  # name of the embeddings of further texts
_MOST_KNOWN = 200_000  # captions whose embeddings are kept
# Embeds with a model: the inputs and the number of rows that count → modality → [rows, D].
Embeds = Callable[[nn.Module, Mapping[str, Tensor], int], dict[str, Tensor]]


class AddedLoss(Protocol):
    """A loss beside the contrastive one."""

    def targets(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """What the rows of all chunks are compared with, without gradient."""
        ...

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the loss of the rows' embeddings, and its parts."""
        ...


@says_the_option()
def make_added_losses(
    options: LossArguments, trained: Collection[str], accelerator: Accelerator, trust_remote_code: bool = False
) -> list[AddedLoss]:
    """The losses that the options add.

    Args:
        options: name teachers and weights.
        trained: the modalities.
        accelerator: of the run.
        trust_remote_code: run the code of the teachers' repos.

    Raises:
        ValueError, OSError: if a teacher cannot be loaded, or does not fit.
    """
    for name in ("distillation_weight", "text_teacher_weight", "soft_targets", "depth_follows_image"):
        if not 0 <= getattr(options, name) < math.inf:
            raise ValueError(f"--{name} {getattr(options, name)}: a weight is a number of 0 and more")
    added: list[AddedLoss] = []
    if options.teacher:
        added.append(Teacher(options, accelerator, trust_remote_code=trust_remote_code))
    if options.text_teacher:
        added.append(TextTeacher(options, accelerator, trust_remote_code=trust_remote_code))
    if options.soft_targets:
        added.append(SoftTargets(options))
    if options.depth_follows_image:
        if not {"image", "depth"} <= set(trained):
            raise ValueError(
                "--depth_follows_image needs images and depth maps: give --image_column and --depth_column"
            )
        added.append(DepthFollowsImage(options.depth_follows_image))
    return added


def make_words(options: LossArguments) -> WordTexts | None:
    """The further texts that a text teacher is asked about.

    Raises:
        ValueError: if there is no text teacher to ask, or see `WordTexts`.
    """
    if not options.text_teacher_words:
        if options.text_teacher_templates:
            raise ValueError("--text_teacher_templates are for --text_teacher_words, which are not given")
        return None
    if not options.text_teacher:
        raise ValueError("--text_teacher_words are for a --text_teacher, which is not given")
    return WordTexts(options.text_teacher_words, options.text_teacher_templates)


class Teacher:
    """Adds the distance between the student's and the teacher's similarities to a contrastive loss.

    Args:
        options: the teacher's repo, its weight, and the pairs that are compared.
        accelerator: gives the teacher's device and precision.
        trust_remote_code: run the code of the teacher's repo.

    Raises:
        ValueError: if the teacher's weights are no numbers, or its tokenizer does not fit them.
    """

    def __init__(self, options: LossArguments, accelerator: Accelerator, *, trust_remote_code: bool):
        model = load_multimodal(options.teacher, trust_remote_code=trust_remote_code).eval().requires_grad_(False)
        self.inputs = ModelInputs.of(model)
        check_tokenizer(model, options.teacher)
        check_finite(model, options.teacher, "give weights from before they diverged")
        self.weight = options.distillation_weight
        self.loss = DistillationLoss(float(model.clamped_temperature), pair_weights(options))
        self.model, self.accelerator = model.to(accelerator.device), accelerator

    @torch.no_grad()
    def targets(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """Embed all chunks: modality → [B, D of the teacher]."""
        with self.accelerator.autocast():
            parts = [embeds_of(self.model, chunk["teacher_inputs"], chunk["rows"]) for chunk in chunks]
        return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the teacher's loss, whose parts are called "distillation/PAIR"."""
        added = self.loss({name: rows for name, rows in embeds.items() if name in MODALITIES}, temperature, targets)
        parts = {f"distillation/{name}": part for name, part in added.parts.items()}
        return LossOutput(output.loss + self.weight * added.loss, output.parts | parts)


class TextTeacher:
    """Adds the divergence of the similarities of captions and further texts from those that a text encoder finds.

    Args:
        options: the encoder, any that `load_encoder` opens, and the weight of the loss.
        accelerator: gives its device and precision.
        trust_remote_code: run the code of its repo.

    Raises:
        ValueError, OSError: if it cannot be loaded, or embeds no texts.
    """

    def __init__(self, options: LossArguments, accelerator: Accelerator, *, trust_remote_code: bool):
        encoder = cast(AnyEncoder, load_encoder(options.text_teacher, trust_remote_code=trust_remote_code))
        if "text" not in modalities(encoder):
            raise ValueError(f"--text_teacher {options.text_teacher}: embeds no texts")
        self._tower = encoder.to(accelerator.device).tower("text")
        self._size = self._tower.encode(["a"]).shape[1]
        self._weight, self._loss, self._accelerator = options.text_teacher_weight, RelationLoss(), accelerator
        self._known: dict[str, Tensor] = {}  # captions come again in each epoch

    @torch.no_grad()
    def targets(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """Embed the captions, and after them the further texts: [B or 2 B, D of the teacher]."""
        captions = [caption for chunk in chunks for caption in chunk["captions"]]
        captions += [text for chunk in chunks for text in chunk["words"]]
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        if len(self._known) + len(new) > _MOST_KNOWN:
            self._known, new = {}, list(dict.fromkeys(captions))
        if new:
            self._known |= dict(zip(new, self._tower.encode(new).float().cpu(), strict=True))
        if not captions:
            return {"text": torch.empty(0, self._size, device=self._accelerator.device)}
        return {"text": torch.stack([self._known[caption] for caption in captions]).to(self._accelerator.device)}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the loss, whose part is called "text_teacher"."""
        texts = torch.cat([embeds["text"], embeds[WORDS]]) if WORDS in embeds else embeds["text"]
        added = self._loss(texts, _LIKENESS, targets["text"])
        return LossOutput(output.loss + self._weight * added, output.parts | {"text_teacher": added.detach()})


class DepthFollowsImage:
    """Adds the divergence of the depth maps' similarities from those of the images of the same rows.

    The image tower learns nothing from it.

    Args:
        weight: of the loss.
    """

    def __init__(self, weight: float):
        self._weight, self._loss = weight, RelationLoss()

    def targets(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """None: the images are embedded by the student."""
        return {}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the loss, whose part is called "depth_follows_image"."""
        added = self._loss(embeds["depth"], temperature.detach(), embeds["image"])
        return LossOutput(output.loss + self._weight * added, output.parts | {"depth_follows_image": added.detach()})


class SoftTargets:
    """Adds `SoftTargetLoss`: pictures are compared with the texts as those are like each other.

    Args:
        options: the weight of the loss, and its pairs.
    """

    def __init__(self, options: LossArguments):
        self._weight, self._loss = options.soft_targets, SoftTargetLoss(_LIKENESS, pair_weights(options))

    def targets(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """None: the texts are embedded by the student."""
        return {}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the loss, whose parts are called "soft_targets/PAIR"."""
        rows = {name: values for name, values in embeds.items() if name in MODALITIES}
        added = self._loss(rows, temperature)
        parts = {f"soft_targets/{name}": part for name, part in added.parts.items()}
        return LossOutput(output.loss + self._weight * added.loss, output.parts | parts)
