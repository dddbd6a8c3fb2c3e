"""Texts of words that no caption has, so that a text tower keeps or learns what they mean."""

from collections.abc import Sequence

import numpy as np

from ...data.text_files import read_text

_PIECE = "##"  # begins tokens that are a part of a word


class WordTexts:
    """Fills words into templates.

    Args:
        files: text files of words or sentences, one per line.
        templates: each with one {} or more, every one of which gets a word of its own; none: the word alone.

    Raises:
        ValueError: if a file holds no word, or a template has no {}.
        OSError: if a file cannot be read.
    """

    def __init__(self, files: Sequence[str], templates: Sequence[str] = ()):
        lines = [line.strip() for file in files for line in read_text(file).splitlines()]
        self._words = [line for line in dict.fromkeys(lines) if line and not line.startswith(_PIECE)]
        self._templates = list(templates) or ["{}"]
        if not self._words:
            raise ValueError(f"--text_teacher_words {' '.join(files)}: no words")
        for template in self._templates:
            if "{}" not in template or set("{}") & set(template.replace("{}", "")):
                raise ValueError(
                    f"--text_teacher_templates {template!r}: expected {{}} where a word goes, and no brace"
                )

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """So many texts."""
        return [self._text(rng) for _ in range(count)]

    def _text(self, rng: np.random.Generator) -> str:
        first, *others = self._templates[rng.integers(len(self._templates))].split("{}")
        return first + "".join(self._words[rng.integers(len(self._words))] + rest for rest in others)
