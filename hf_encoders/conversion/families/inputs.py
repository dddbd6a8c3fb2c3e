"""The inputs of a verification: fixed images and texts."""

import torch
from torch import Tensor

SEED = 0
LONGEST = 16  # tokens


def image_inputs(channels: int, height: int, width: int | None = None) -> dict[str, Tensor]:
    """Two images [2, C, H, W] in [-1, 1]: noise, and smooth hills."""
    width = width or height
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.rand(channels, height, width, generator=generator) * 2 - 1
    rows, columns = torch.linspace(-5, 5, height), torch.linspace(-3, 3, width)
    hills = (torch.sin(rows)[:, None] * torch.cos(columns)).expand(channels, height, width)
    return {"pixel_values": torch.stack([noise, hills])}


def text_inputs(vocab_size: int, max_length: int, pad_id: int = 0) -> dict[str, Tensor]:
    """Four texts [4, L] of different lengths, with the mask of what is no padding."""
    generator = torch.Generator().manual_seed(SEED)
    longest = min(LONGEST, max_length)
    lengths = torch.tensor([longest, max(1, longest // 2), min(2, longest), 1])
    ids = torch.randint(vocab_size, (4, longest), generator=generator)
    ids = torch.where(ids == pad_id, (pad_id + 1) % vocab_size, ids)
    mask = torch.arange(longest) < lengths[:, None]
    return {"input_ids": torch.where(mask, ids, pad_id), "attention_mask": mask.long()}
