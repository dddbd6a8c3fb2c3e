"""The families of encoders that transformers loads by itself, by name."""

from .bert import BERT
from .clip import CLIP
from .convnext import CONVNEXT
from .convnextv2 import CONVNEXTV2
from .dinov2 import DINOV2
from .family import Family
from .resnet import RESNET
from .roberta import ROBERTA
from .swin import SWIN
from .vit import VIT

_ALL = (BERT, CLIP, CONVNEXT, CONVNEXTV2, DINOV2, RESNET, ROBERTA, SWIN, VIT)
ENCODERS: dict[str, Family] = {family.name: family for family in _ALL}
