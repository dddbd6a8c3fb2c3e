"""The families of encoders that transformers loads by itself, by name."""

from .clip import CLIP
from .convnext import CONVNEXT
from .convnextv2 import CONVNEXTV2
from .dinov2 import DINOV2
from .family import Family
from .resnet import RESNET
from .swin import SWIN
from .vit import VIT

_ALL = (CLIP, CONVNEXT, CONVNEXTV2, DINOV2, RESNET, SWIN, VIT)
ENCODERS: dict[str, Family] = {family.name: family for family in _ALL}
