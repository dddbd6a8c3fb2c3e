"""The page says the same in both languages."""

import re
from dataclasses import asdict
from typing import get_args

import pytest

from hf_encoders.demo.words import CHINESE, ENGLISH, LANGUAGES, Place, best_language

TEXTS = [name for name, value in asdict(ENGLISH).items() if isinstance(value, str)]


def places(text):
    return sorted(re.findall(r"\{\w*\}", text))


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_is_there_and_is_filled_in_alike(name):
    english, chinese = getattr(ENGLISH, name), getattr(CHINESE, name)
    assert english and chinese
    assert places(english) == places(chinese)


def test_every_modality_has_a_name():
    assert ENGLISH.modalities.keys() == CHINESE.modalities.keys() == {"image", "depth", "text"}


def test_every_place_is_told():
    assert ENGLISH.files_go.keys() == CHINESE.files_go.keys() == set(get_args(Place))


def test_chinese_is_chinese():
    alike = {name for name in TEXTS if getattr(ENGLISH, name) == getattr(CHINESE, name)}
    assert alike <= {"shows", "query_hint", "labels_hint"}  # what the model reads is in the language of its training


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.5", "en"),
        ("fr-FR,fr;q=0.9,zh-TW;q=0.4", "zh"),
        ("de", "en"),
        ("", "en"),
        ("zh;q=x,;q=,", "en"),
    ],
)
def test_a_browser_gets_its_language(accepted, language):
    assert best_language(accepted) is LANGUAGES[language]
