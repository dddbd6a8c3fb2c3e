"""What every tab of the page has at hand, and how its answers become errors that people can read."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..command_line import describe
from ..models.input_errors import InputError
from .markup import message
from .opening import Shown
from .uploads import Uploads
from .words import Words

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Page:
    """A page in one language.

    Args:
        shown: the model and the collection.
        words: the language.
        uploads: the files of people.
        pictures: the folder of addresses of the collection's pictures.
        downloads: the folder of addresses of results.
    """

    shown: Shown
    words: Words
    uploads: Uploads
    pictures: str
    downloads: str

    def answer(self, work: Callable[[], _Answer], otherwise: Callable[[str], _Answer]) -> _Answer:
        """Do some work; whatever goes wrong is an answer too, and the server goes on.

        Args:
            work: makes the answer.
            otherwise: makes one of a message, which is HTML.
        """
        try:
            return work()
        except (InputError, ValueError, OSError) as error:
            said = describe(error)
        except Exception as error:  # a person at a page sees no terminal: the terminal has the rest
            sys.stderr.write(traceback.format_exc())
            said = describe(error)
        return otherwise(message(self.uploads.without_places(said), lead=self.words.failed))
