"""The families of encoders that transformers loads by itself, by name."""

from .clip import CLIP
from .family import Family
from .resnet import RESNET

ENCODERS: dict[str, Family] = {family.name: family for family in (CLIP, RESNET)}
