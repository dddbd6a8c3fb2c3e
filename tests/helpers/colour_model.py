"""A model whose space one can see: a text is its colour words, an image its mean colour, a map what its thirds say."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig

from hf_encoders.models.depth_map_files import read_depth
from hf_encoders.models.image_files import read_image
from hf_encoders.models.tower import MODALITIES, check_tower

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


class ColourModel(nn.Module):
    """Has the towers and the `encode_...` methods of the multimodal encoder, three dimensions, and no training."""

    def __init__(self, name="colours", revision=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.config = PreTrainedConfig()
        self.config.name_or_path, self.config._commit_hash, self.config.depth_config = name, revision, {}
        self.batch_sizes = []

    @property
    def device(self):
        return self.scale.device

    @property
    def towers(self):
        return MODALITIES

    def tower(self, name):
        check_tower(name, self.towers)
        processor = SimpleNamespace(to_dict=dict)
        return SimpleNamespace(name=name, model=self, encode=getattr(self, f"encode_{name}"), processor=processor)

    def encode_text(self, texts, **options):
        return self._encode(texts, lambda text: np.sum([COLOURS[word] for word in text.split()], axis=0), **options)

    def encode_image(self, images, **options):
        def colour(image):
            return np.asarray(read_image(image, str(image)), np.float32).mean((0, 1))

        return self._encode(images, colour, **options)

    def encode_depth(self, maps, **options):
        def thirds(depth):
            return [part.mean() for part in np.split(np.asarray(read_depth(depth, "a map"), np.float32), 3, axis=1)]

        return self._encode(maps, thirds, **options)

    def _encode(self, items, embed, *, batch_size=32, on_error="raise", convert_to="tensor", show_progress_bar=None):
        assert convert_to == "numpy"
        self.batch_sizes.append(batch_size)
        rows, kept = [], []
        for index in range(len(items)):
            try:
                rows.append(embed(items[index]))
                kept.append(True)
            except Exception as error:
                if on_error == "raise":
                    raise ValueError(f"item {index}: {error}") from error
                kept.append(False)
        rows = np.array(rows, np.float32).reshape(-1, 3) * self.scale.detach().numpy()
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows, np.array(kept)) if on_error == "skip" else rows
