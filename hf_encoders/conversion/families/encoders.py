"""The families of encoders that transformers loads by itself, by name."""

from .clip import CLIP
from .dinov2 import DINOV2
from .family import Family
from .resnet import RESNET
from .vit import VIT

ENCODERS: dict[str, Family] = {family.name: family for family in (CLIP, DINOV2, RESNET, VIT)}
