"""The methods that encoders of other libraries share: raw inputs → embeddings, by the towers of the encoder."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Unpack, cast

import torch

from .models.depth_units import DepthEncodeOptions, encode_depth_method
from .models.encoding import BackendName, DtypeName, Encoded, EncodeOptions, Pictures, Texts, encode_method
from .models.encoding_multimodal import encode_any
from .models.pixel_towers import DepthTower, ImageTower
from .models.text_tower import TextTower
from .models.tower import Encoder, Modality, prepare_towers


class EncodeMethods:
    """Adds the `encode...` methods to a class with towers; see `MultimodalEncodingMixin`."""

    @abstractmethod
    def tower(self, name: str) -> TextTower | ImageTower | DepthTower:
        """The tower of a modality; ValueError if there is none."""

    @abstractmethod
    def prompted_tower(self, name: str) -> TextTower:
        """The tower of texts with the prompt of a name, "query" or "document", before them."""

    @encode_depth_method
    def encode(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded:
        """Embed texts, images or depth maps, by what they are; see `MultimodalEncoderModel.encode`."""
        return encode_any(cast(Encoder, cast(Any, self)), inputs, batch_size, options)

    @encode_method
    def encode_text(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed texts: [N, D]; see `MultimodalEncoderModel.encode_text`."""
        return self.tower("text").encode(inputs, batch_size, **options)

    @encode_method
    def encode_query(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed what is searched for: as `encode_text`, with the prompt "query" before each text."""
        return self.prompted_tower("query").encode(inputs, batch_size, **options)

    @encode_method
    def encode_document(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed what is found: as `encode_text`, with the prompt "document" before each text."""
        return self.prompted_tower("document").encode(inputs, batch_size, **options)

    @encode_method
    def encode_image(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed images: [N, D]; see `MultimodalEncoderModel.encode_image`."""
        return self.tower("image").encode(inputs, batch_size, **options)

    @encode_depth_method
    def encode_depth(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded:
        """Embed depth maps: [N, D]; see `MultimodalEncoderModel.encode_depth`."""
        return cast(DepthTower, self.tower("depth")).encode(inputs, batch_size, **options)

    def prepare(
        self,
        modalities: Modality | Sequence[Modality] | None = None,
        *,
        backend: BackendName = "openvino",
        dtype: DtypeName | torch.dtype | None = None,
    ) -> None:
        """Load and compile now, so that the first request does not wait for it."""
        prepare_towers(cast(Encoder, cast(Any, self)), modalities, backend, dtype)
