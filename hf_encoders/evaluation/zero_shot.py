"""Zero-shot classification by embeddings: its accuracy, and its answers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arrays import Indices, Numbers
from .checks import TIE, Items, check_dimensions, check_positive, listed, normalized_rows


@torch.no_grad()
def zero_shot_metrics(
    embeds: Numbers, class_embeds: Numbers, labels: Items, *, ks: Sequence[int] = (1, 5), chunk_size: int = 2048
) -> dict[str, float]:
    """Accuracy of the most similar classes as answers.

    Ties count against the model: among equally similar classes the right one comes last.

    Args:
        embeds: [N, D], the images or depth maps.
        class_embeds: [C, D], such as `ZeroShotClassifier.label_embeds`.
        labels: N integers: the row in `class_embeds` of the right class of each.
        ks: each k of top-k: whether the right class is among the first k. With k classes or fewer it always is.
        chunk_size: how many rows are compared with all classes at a time. It does not change the result.

    Returns:
        `zero_shot_top{k}_accuracy` (from 0 to 1) for each k.

    Raises:
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or a label is not a class.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be at least 1, got {ks!r}")
    check_positive(chunk_size, "chunk_size")
    rows, classes, right = _checked(embeds, class_embeds, labels)
    ranks = []
    for chunk, answers in zip(rows.split(chunk_size), right.split(chunk_size), strict=True):
        similarities = chunk @ classes.T
        # The right class counts itself: ranks begin at 1.
        ranks.append((similarities >= similarities.gather(1, answers[:, None]) - TIE).sum(1))
    rank = torch.cat(ranks)
    return {f"zero_shot_top{k}_accuracy": float((rank <= k).double().mean()) for k in ks}


@torch.no_grad()
def zero_shot_answers(embeds: Numbers, class_embeds: Numbers, labels: Items, *, chunk_size: int = 2048) -> Indices:
    """The most similar class of each row; where the right one is no more similar than another, the other.

    So the share of right answers is the top-1 accuracy of `zero_shot_metrics`, whose arguments these are.

    Returns:
        [N] rows of `class_embeds`.

    Raises:
        ValueError: see `zero_shot_metrics`.
    """
    check_positive(chunk_size, "chunk_size")
    rows, classes, right = _checked(embeds, class_embeds, labels)
    given = []
    for chunk, answers in zip(rows.split(chunk_size), right.split(chunk_size), strict=True):
        similarities = chunk @ classes.T
        place = answers[:, None]
        least = similarities.gather(1, place) - TIE
        best, other = similarities.scatter(1, place, -torch.inf).max(dim=1)
        given.append(torch.where(best >= least[:, 0], other, answers))
    return torch.cat(given).cpu().numpy()


def _checked(embeds: Numbers, class_embeds: Numbers, labels: Items) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows, unit classes, and the number of each row's right class."""
    rows = normalized_rows(embeds, "embeds")
    classes = normalized_rows(class_embeds, "class_embeds").to(rows.device)
    check_dimensions(rows, classes, ("embeds", "class_embeds"))
    right: list[int] = []
    for index, label in enumerate(listed(labels, len(rows), "labels")):
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise ValueError(f"labels[{index}]: {label!r} is not one of the classes 0 to {len(classes) - 1}")
        right.append(label)
    return rows, classes, torch.tensor(right, device=rows.device)
