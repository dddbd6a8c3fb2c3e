"""Towers whose embeddings are computed by the modules of sentence-transformers."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .models.encoding import BackendName, DtypeName, Encoded, encode_method
from .models.image_files import read_images
from .models.input_batches import Batch, Skipped, prepared_batches
from .models.pixel_towers import ImageTower
from .models.text_tower import (
    BATCHES_PER_WINDOW,
    TOKENIZING,
    TextTower,
    Truncation,
    checked_texts,
    note_cut_texts,
)
from .towers import Given

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceNetwork(nn.Module):
    """The modules of sentence-transformers as a network of which towers are made."""

    def __init__(self, sentence: "SentenceTransformer", config: PreTrainedConfig):
        super().__init__()
        self.sentence, self.config = sentence, config

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.sentence.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.sentence.dtype or torch.float32

    @property
    def dimensions(self) -> int:
        """D."""
        size = self.sentence.get_embedding_dimension()
        if size is None:
            raise ValueError("its modules do not say how many dimensions an embedding has")
        return size

    def num_parameters(self) -> int:
        """How many weights there are."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, features: dict[str, Any], task: str | None = None) -> Tensor:
        """What `preprocess` of sentence-transformers made of a batch → [B, D]."""
        return cast(Tensor, self.outputs(features, task).pooler_output)

    def outputs(self, features: dict[str, Any], task: str | None = None) -> Outputs:
        """What `preprocess` made of a batch → its embeddings [B, D], and those of its tokens where there are any."""
        outputs = self.sentence(features, **({"task": task} if task else {}))
        embeddings = outputs["sentence_embedding"][:, : self.sentence.truncate_dim]
        return Outputs(last_hidden_state=outputs.get("token_embeddings"), pooler_output=embeddings)


class SentenceTextTower(TextTower):
    """Texts → embeddings, by the modules of sentence-transformers.

    Args:
        network: whose modules count.
        prompt: before each text.
        task: "query" or "document", for modules that tell them apart.
    """

    def __init__(self, network: SentenceNetwork, prompt: str = "", task: str | None = None):
        transformer = cast(PreTrainedModel, network.sentence.transformers_model)
        reader = getattr(transformer, "text_model", transformer)
        tokenizer = cast(PreTrainedTokenizerBase, network.sentence.tokenizer)
        model = cast(PreTrainedModel, network)
        super().__init__(model, network, Given(tokenizer), network.dimensions, reader)
        self.prompt, self._task, self._sentence = prompt, task, network.sentence
        self.limit = None  # but for the tokenizer's, which is max_seq_length
        self.limit = self.reading.most_tokens(tokenizer)
        # What `preprocess` says beside tensors: the modality, and the length of the prompt.
        self._about: dict[str, Any] = {"modality": "text"}

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`."""
        return *super().function, self._task

    def with_prompt(self, prompt: str) -> Self:
        """See `TextTower`."""
        tower = super().with_prompt(prompt)
        tower._about = {"modality": "text"}
        return tower

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Strings → what sentence-transformers makes of them [B, L]."""
        texts = checked_texts(items, first_index, None)
        with TOKENIZING:
            return self._preprocess(texts, Truncation())

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Tower`."""
        self.check(batch)
        return cast(Tensor, self.model({**batch, **self._about}, self._task))

    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """See `Tower`."""
        self.check(batch)
        return cast(SentenceNetwork, self.model).outputs({**batch, **self._about}, self._task)

    def check_compiled(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Tower`; a program would pool the prompt too."""
        if self.prompt and any(getattr(module, "include_prompt", True) is False for module in self._sentence):
            raise ValueError("its pooling leaves the prompt out, which a compiled program does not; use torch")
        return super().check_compiled(batch)

    def _window(
        self, start: int, items: Sequence[object], *, size: int, skipped: Skipped | None, truncation: Truncation
    ) -> list[Batch]:
        texts = checked_texts(items, start, skipped)
        indices = sorted(texts, key=lambda index: -len(texts[index]))
        batches: list[Batch] = []
        for first in range(0, len(indices), size):
            part = indices[first : first + size]
            with TOKENIZING:
                batches.append((part, self._preprocess({index: texts[index] for index in part}, truncation)))
        return batches

    def _preprocess(self, texts: Mapping[int, str], truncation: Truncation) -> dict[str, Tensor]:
        options = {"task": self._task} if self._task else {}
        features = self._sentence.preprocess(list(texts.values()), prompt=self.prompt or None, **options)
        tensors, self._about = _split(features, len(texts))
        mask = tensors.get("attention_mask")
        if self.limit is not None and mask is not None:
            whole = {index: self.prompt + text for index, text in texts.items()}
            note_cut_texts(self.processor, whole, features, mask.sum(1).tolist(), self.limit, truncation)
        return tensors


class SentenceImageTower(ImageTower):
    """Images → embeddings, by the modules of sentence-transformers.

    Args:
        network: whose modules count.
        task: "query" or "document", for modules that tell them apart.
    """

    def __init__(self, network: SentenceNetwork, task: str | None = None):
        processor = network.sentence[0].processor
        processor = getattr(processor, "image_processor", processor)
        model = cast(PreTrainedModel, network)
        super().__init__(model, network, Given(cast(BaseImageProcessor, processor)), network.dimensions)
        self._sentence, self._task = network.sentence, task

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`."""
        return *super().function, self._task

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Images that `read_image` reads → what sentence-transformers makes of them."""
        features = self._sentence.preprocess(cast(Any, read_images(items, first_index)))
        return _split(features, len(items))[0]

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Tower`."""
        return cast(Tensor, self.model({**batch, "modality": "image"}, self._task))

    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """See `Tower`."""
        return Outputs(pooler_output=cast(Any, self.embed(batch)))

    def check_compiled(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Tower`; a program takes pixels alone."""
        if others := batch.keys() - set(self.input_names):
            raise ValueError(f"{', '.join(sorted(others))}: a compiled program takes pixel_values alone; use torch")
        return super().check_compiled(batch)


class _Tokenizer:
    """The tokenizer of a model, if transformers knows it."""

    def __init__(self, sentence: "SentenceTransformer"):
        self._sentence = sentence

    def get(self) -> PreTrainedTokenizerBase:
        tokenizer = self._sentence.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise ValueError("its tokenizer is none of transformers'")
        return tokenizer

    def set(self, processor: PreTrainedTokenizerBase) -> None:
        self._sentence.tokenizer = processor


class DelegatingTextTower(TextTower):
    """Texts → embeddings, by `SentenceTransformer.encode` alone: for modules that do not take padded tokens.

    Such are tables of word vectors, and models that read chats. There is PyTorch alone, in the weights' precision.
    """

    def __init__(self, network: SentenceNetwork, prompt: str = "", task: str | None = None):
        self.model, self.dimensions, self.normalize = cast(PreTrainedModel, network), network.dimensions, False
        self._sentence, self.prompt, self._task = network.sentence, prompt, task
        self.processors = _Tokenizer(network.sentence)

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`."""
        return type(self), self._sentence, self._task

    @encode_method
    def encode(self, inputs: object, batch_size: int = 32, **options: Any) -> Encoded:
        """See `Tower`."""
        backend, dtype = options.get("backend", "torch"), options.get("dtype")
        if backend not in ("torch", "auto") or dtype is not None:
            what = f"backend={backend!r}" if backend not in ("torch", "auto") else f"dtype={dtype}"
            raise ValueError(f"{what}: its modules are computed by sentence-transformers alone; leave it out")
        return super().encode(inputs, batch_size, **{**options, "backend": "torch"})

    def processed(self, inputs: object) -> dict[str, Tensor] | None:
        """Raw texts alone are taken."""
        if isinstance(inputs, Mapping):
            raise ValueError("a mapping, expected texts: sentence-transformers tokenizes them itself")
        return None

    def batches(self, inputs: object, size: int, skipped: Skipped | None = None) -> Iterator[Batch]:
        """Strings → batches."""
        window = partial(self._window, size=size, skipped=skipped, truncation=Truncation())
        return prepared_batches(inputs, size * BATCHES_PER_WINDOW, self.is_single, window)

    def _window(
        self, start: int, items: Sequence[object], *, size: int, skipped: Skipped | None, truncation: Truncation
    ) -> list[Batch]:
        texts = checked_texts(items, start, skipped)
        parts = [list(texts)[first : first + size] for first in range(0, len(texts), size)]
        return [(part, self._rows([texts[index] for index in part])) for part in parts]

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Strings → their embeddings."""
        return self._rows(list(checked_texts(items, first_index, None).values()))

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Tower`."""
        return batch["rows"]

    def compile(self, backend: BackendName = "openvino", dtype: DtypeName | torch.dtype | None = None) -> None:
        """Refuse to: see the class."""
        raise ValueError(f"backend={backend!r}: its modules are computed by sentence-transformers alone")

    def _rows(self, texts: list[str]) -> dict[str, Tensor]:
        options: dict[str, Any] = {"prompt": self.prompt, "batch_size": len(texts), "show_progress_bar": False}
        if self._task:
            options["task"] = self._task
        with TOKENIZING:
            rows = self._sentence.encode(texts, convert_to_tensor=True, **options)
        return {"rows": rows}


def _split(features: Mapping[str, Any], count: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors [B, ...] of a batch, and what is said beside them."""
    tensors = {name: value for name, value in features.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if not tensor.ndim or len(tensor) != count:
            raise ValueError(f"its processor packs {name} of several inputs into one tensor, which is not supported")
    return tensors, {name: value for name, value in features.items() if name not in tensors}
