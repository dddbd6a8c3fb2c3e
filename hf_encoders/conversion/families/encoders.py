"""The families of encoders that transformers loads by itself, by name."""

from .convnext import CONVNEXT
from .convnextv2 import CONVNEXTV2
from .family import Family
from .resnet import RESNET
from .swin import SWIN

ENCODERS: dict[str, Family] = {family.name: family for family in (CONVNEXT, CONVNEXTV2, RESNET, SWIN)}
