"""The families of encoders that transformers loads by itself, by name."""

from .bert import BERT
from .clip import CLIP
from .family import Family
from .resnet import RESNET
from .roberta import ROBERTA

ENCODERS: dict[str, Family] = {family.name: family for family in (BERT, CLIP, RESNET, ROBERTA)}
