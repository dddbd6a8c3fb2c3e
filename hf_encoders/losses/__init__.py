"""Contrastive losses over texts, images and depth maps, with gradients equal on any number of processes."""

from .cached import cached_backward
from .contrastive import InfoNCELoss, LossOutput, SigmoidLoss, stable_ids
from .distillation import DistillationLoss
from .matryoshka import MatryoshkaLoss
from .relations import RelationLoss
from .soft_targets import SoftTargetLoss

__all__ = [
    "DistillationLoss",
    "InfoNCELoss",
    "LossOutput",
    "MatryoshkaLoss",
    "RelationLoss",
    "SigmoidLoss",
    "SoftTargetLoss",
    "cached_backward",
    "stable_ids",
]
