"""Further texts for a text teacher."""

import numpy as np
import pytest

from hf_encoders.training.multimodal.arguments import LossArguments
from hf_encoders.training.multimodal.teacher import make_words
from hf_encoders.training.multimodal.word_texts import WordTexts


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.txt").write_text("stool\n\n##ing\nottoman\nstool\n")
    return [str(tmp_path / "words.txt")]


def drawn(*options):
    return set(WordTexts(*options).draw(200, np.random.default_rng(0)))


def test_words_are_filled_into_templates(words):
    assert drawn(words) == {"stool", "ottoman"}
    assert drawn(words, ["a red {}"]) == {"a red stool", "a red ottoman"}
    pairs = {f"{one} by {other}" for one in ("stool", "ottoman") for other in ("stool", "ottoman")}
    assert drawn(words, ["{} by {}", "a {}"]) == pairs | {"a stool", "a ottoman"}


@pytest.mark.parametrize("template", ["a chair", "a {word}", "{{}} {}", "a {} {"])
def test_templates_without_a_place_for_a_word_are_refused(template, words):
    with pytest.raises(ValueError, match=r"--text_teacher_templates .*: expected \{\} where a word goes, and no brace"):
        WordTexts(words, [template])


def test_files_without_words_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n##a\n")
    with pytest.raises(ValueError, match="--text_teacher_words .*empty.txt: no words"):
        WordTexts([str(tmp_path / "empty.txt")])


def test_words_without_a_teacher_are_refused(words):
    with pytest.raises(ValueError, match="--text_teacher_words are for a --text_teacher"):
        make_words(LossArguments(text_teacher_words=words))
    with pytest.raises(ValueError, match="--text_teacher_templates are for --text_teacher_words"):
        make_words(LossArguments(text_teacher="x/y", text_teacher_templates=["{}"]))
    assert make_words(LossArguments(text_teacher="x/y")) is None
