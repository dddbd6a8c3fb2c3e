"""Accuracy of zero-shot classification."""

from collections.abc import Sequence
from typing import Any

import torch

from .checks import TIE, check_dimensions, check_positive, listed, unit_rows


@torch.no_grad()
def zero_shot_metrics(
    embeds: Any, class_embeds: Any, labels: Any, *, ks: Sequence[int] = (1, 5), chunk_size: int = 2048
) -> dict[str, float]:
    """Accuracy of taking the most similar classes for the answer.

    Args:
        embeds: [N, D], of images or depth maps.
        class_embeds: [C, D], such as `ZeroShotClassifier.label_embeds`.
        labels: N integers: the row of each one's class in `class_embeds`.
        ks: an answer counts in top-k if the right class is among the first k. It always is with k classes or fewer.
        chunk_size: so many rows are compared with all classes at a time. It does not change the result.

    Returns:
        `zero_shot_top{k}_accuracy` (from 0 to 1) for each k.

    Raises:
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or a label is no class.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be at least 1, got {ks!r}")
    check_positive(chunk_size, "chunk_size")
    rows, classes = unit_rows(embeds, "embeds"), unit_rows(class_embeds, "class_embeds")
    classes = classes.to(rows.device)
    check_dimensions(rows, classes, ("embeds", "class_embeds"))
    right = listed(labels, len(rows), "labels")
    for index, label in enumerate(right):
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise ValueError(f"labels[{index}]: {label!r} is not one of the classes 0 to {len(classes) - 1}")

    ranks = []
    for chunk, answers in zip(
        rows.split(chunk_size), torch.tensor(right, device=rows.device).split(chunk_size), strict=True
    ):
        similarities = chunk @ classes.T
        # The right class counts itself, which is the 1 of its rank.
        ranks.append((similarities >= similarities.gather(1, answers[:, None]) - TIE).sum(1))
    rank = torch.cat(ranks)
    return {f"zero_shot_top{k}_accuracy": float((rank <= k).double().mean()) for k in ks}
