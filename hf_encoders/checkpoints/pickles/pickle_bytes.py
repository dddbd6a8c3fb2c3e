"""The bytes of a pickle, taken piece by piece: nothing is allocated that the bytes left do not hold."""

import mmap
import re
import struct
from pathlib import Path

from ..checkpoint import Stub
from ..errors import CheckpointError

# Python writes an integer of more than 4,300 digits only where its limit is lifted.
_LARGEST_INTEGER = 1024
_LONGEST_NAME = 4096
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.|\n)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\n": b""}


class PickleBytes:
    """A pickle in memory or in a mapped file.

    Args:
        buffer: what holds the pickle.
        place: where the pickle begins.
        end: where it must have ended.
        path: the file, for errors.
    """

    def __init__(self, buffer: bytes | mmap.mmap, place: int, end: int, path: Path):
        self.buffer, self.path, self.place, self.end = buffer, path, place, end

    def error(self, why: str) -> CheckpointError:
        """What is raised for a pickle that cannot be read."""
        return CheckpointError(f"{self.path}: damaged, or not a PyTorch checkpoint ({why}); copy or download it again")

    def take(self, count: int) -> bytes:
        """The next bytes."""
        place = self.place
        if count < 0 or count > self.end - place:
            raise self.error("the pickle ends early")
        self.place = place + count
        return self.buffer[place : self.place]

    def byte(self) -> int:
        """The next byte."""
        place = self.place
        if place >= self.end:
            raise self.error("the pickle ends early")
        self.place = place + 1
        return self.buffer[place]

    def number(self, count: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def signed(self) -> int:
        """A signed number of four bytes."""
        return int.from_bytes(self.take(4), "little", signed=True)

    def double(self) -> float:
        """A number of eight bytes, the highest first."""
        value: float = struct.unpack(">d", self.take(8))[0]
        return value

    def long(self, count: int) -> int | Stub:
        """A signed number of so many bytes; one that Python does not print becomes a stub."""
        data = self.take(count)
        if count > _LARGEST_INTEGER:
            return Stub("builtins.int", (data,))
        return int.from_bytes(data, "little", signed=True)

    def line(self) -> bytes:
        """The rest of the line, without its end."""
        end = self.buffer.find(b"\n", self.place, self.end)
        if end < 0:
            raise self.error("the pickle ends early")
        line = self.buffer[self.place : end]
        self.place = end + 1
        return line

    def name(self) -> str:
        """A line that names a module or a class."""
        return self.checked_name(self.line())

    def checked_name(self, data: bytes | str) -> str:
        """A name of a length that names have."""
        if len(data) > _LONGEST_NAME:
            raise self.error(f"a name of {len(data):,} bytes")
        return data if isinstance(data, str) else self.text(data)

    def text(self, data: bytes) -> str:
        """Decode UTF-8, as pickle does."""
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self.error("a text is not UTF-8") from None

    def old_text(self, data: bytes) -> str | bytes:
        """A string of Python 2: a text, or the bytes of an array."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data

    def raw_unicode(self) -> str:
        """A line with letters beyond Latin-1 as escapes."""
        try:
            return self.line().decode("raw-unicode-escape")
        except UnicodeDecodeError:
            raise self.error("a text is not escaped rightly") from None

    def quoted(self) -> str | bytes:
        """A line with a string of Python 2 in quotes."""
        line = self.line().strip()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise self.error("a string without quotes")
        return self.old_text(_ESCAPE.sub(_unescape, line[1:-1]))

    def decimal(self) -> int | bool | Stub:
        """A line with an integer; 00 and 01 are booleans."""
        line = self.line().strip()
        if line in (b"00", b"01"):
            return line == b"01"
        return self._integer(line)

    def decimal_long(self) -> int | Stub:
        """A line with an integer that ends with L."""
        return self._integer(self.line().strip().removesuffix(b"L"))

    def decimal_index(self) -> int:
        """A line with the number of something remembered."""
        line = self.line()
        if not re.fullmatch(rb"\d{1,18}", line):
            raise self.error("a reference that is no number")
        return int(line)

    def decimal_float(self) -> float:
        """A line with a floating-point number."""
        try:
            return float(self.line())
        except ValueError:
            raise self.error("a number that is none") from None

    def _integer(self, line: bytes) -> int | Stub:
        if not re.fullmatch(rb"[+-]?\d+", line):
            raise self.error("an integer that is none")
        return int(line) if len(line) <= 2 * _LARGEST_INTEGER else Stub("builtins.int", (line,))


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if code[:1] == b"x":
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit():
        return bytes([int(code, 8) & 0xFF])
    return _ESCAPES.get(code, code)
