"""Where a person drops a picture, and says what it is."""

from collections.abc import Sequence

import gradio as gr

from ...modalities import Modality
from ..queries import AUTOMATIC
from ..words import Words

_HEIGHT = 170  # pixels


def add_dropped_picture(words: Words, label: str, reads: Sequence[Modality]) -> tuple[gr.File, gr.Radio]:
    """Add a field for a file, and one for what it is read as where a model reads several kinds.

    Args:
        words: the language.
        label: what stands above the file.
        reads: "image", "depth" or both.
    """
    file = gr.File(label=label, height=_HEIGHT)
    kinds = [(words.automatic, AUTOMATIC), *((words.one_of[name], name) for name in reads)]
    return file, gr.Radio(kinds, value=AUTOMATIC, label=words.read_as, visible=len(reads) > 1)
