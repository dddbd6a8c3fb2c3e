"""The records of a zip archive: checked against their local headers and CRC-32, mapped or inflated within bounds."""

import mmap
import zlib

import torch

from .errors import CheckpointError
from .mapped_file import FileBytes, crc32
from .zip_directory import DEFLATED, DESCRIPTOR_FOLLOWS, ENCRYPTED, LOCAL, LOCAL_HEADER, STORED, Record, read_directory

# Weights hardly compress, and no honest pickle shrinks to a hundredth. A small archive may be of zeros.
_MOST_INFLATED, _MOST_RATIO = 128 << 20, 100
_CHUNK = 1 << 20
_LARGE = 64 << 20  # arrays that are pickled lie in the pickle itself


class ZipRecords:
    """The records of an archive.

    Args:
        file: the archive.

    Raises:
        CheckpointError: if its directory is damaged or doubtful.
    """

    def __init__(self, file: FileBytes):
        self.file = file
        self.records, self.bytes_read = read_directory(file)
        self._checked: dict[str, int] = {}
        self._inflated: dict[str, tuple[int, int]] = {}
        self._last: tuple[str, torch.Tensor] | None = None

    def read(self, name: str) -> bytes:
        """The content of a record, for its structure."""
        record = self.records[name]
        start = self._start(record)
        self.bytes_read += record.compressed
        if record.method == DEFLATED:
            return bytes(self._inflate(record, start))
        return self.file.read(start, record.size)

    def pickle(self, name: str) -> tuple[bytes | mmap.mmap, int, int]:
        """What holds the content of a record, with its begin and end there: the mapped file, if the record is large."""
        record = self.records[name]
        if record.method != STORED or record.size < _LARGE:
            content = self.read(name)
            return content, 0, len(content)
        start = self._start(record)
        self.bytes_read += record.size
        return self.file.map(), start, start + record.size

    def tensor(self, name: str, start: int, count: int, alignment: int) -> torch.Tensor:
        """Bytes of a record as a tensor of uint8, mapped where it is not compressed."""
        record = self.records[name]
        place = self._start(record)
        if record.method == STORED:
            return self.file.tensor(place + start, count, alignment)
        if self._last is None or self._last[0] != name:
            self._last = None  # one record is kept inflated, not two
            self._last = name, torch.frombuffer(self._inflate(record, place), dtype=torch.uint8)
        return self._last[1][start : start + count]

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a record, before its CRC-32 is checked."""
        record = self.records[name]
        start = self._place(record)
        self.bytes_read += min(count, record.compressed)
        if record.method == STORED:
            return self.file.read(start, min(count, record.size))
        try:
            # The first block begins with its code, of some hundred bytes.
            data = self.file.read(start, min(record.compressed, 2 * count + 1024))
            return zlib.decompressobj(-15).decompress(data, count)
        except zlib.error:
            raise self._damaged(record, "it cannot be inflated") from None

    def _start(self, record: Record) -> int:
        """Where the bytes of a record begin, after its CRC-32 was checked once; that of a deflated one comes later."""
        if record.name not in self._checked:
            start = self._place(record)
            if record.method == STORED and record.crc and crc32(self.file, start, record.size) != record.crc:
                raise self._wrong_crc(record)
            self._checked[record.name] = start
        return self._checked[record.name]

    def _place(self, record: Record) -> int:
        """Where the bytes of a record begin, after its local header was checked."""
        header = self.file.read(record.header, LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or record.flags & ENCRYPTED:
            raise self._damaged(record, "it is encrypted" if record.flags & ENCRYPTED else "no header")
        magic, _, flags, method, _, _, crc, compressed, size, name_size, extra_size = LOCAL_HEADER.unpack(header)
        name = self.file.read(record.header + LOCAL_HEADER.size, name_size)
        start: int = record.header + LOCAL_HEADER.size + name_size + extra_size
        wide = 0xFFFFFFFF  # stands for a size of 64 bits
        agrees = all(
            mine in (wide, theirs) or (mine == 0 and flags & DESCRIPTOR_FOLLOWS)
            for mine, theirs in ((crc, record.crc), (compressed, record.compressed), (size, record.size))
        )
        if magic != LOCAL or name != record.raw_name or method != record.method or not agrees:
            raise self._damaged(record, "its header and the directory differ")
        if start + record.compressed > record.limit:
            raise self._damaged(record, "it runs into the next record")
        if method not in (STORED, DEFLATED):
            raise CheckpointError(
                f"{self.file.path}: {record.name} is compressed in a way that PyTorch does not write (method {method});"
                " unpack the archive, and pack it again with zip -0 -r"
            )
        if method == STORED and record.size != record.compressed:
            raise self._damaged(record, "its two sizes differ")
        return start

    def _inflate(self, record: Record, start: int) -> bytearray:
        """The content of a deflated record, in steps: never more than the directory says, and not out of nothing."""
        self._inflated[record.name] = record.size, record.compressed
        total, compressed = (sum(sizes) for sizes in zip(*self._inflated.values(), strict=True))
        if total > _MOST_INFLATED and total > _MOST_RATIO * compressed:
            raise CheckpointError(
                f"{self.file.path}: {record.name} would grow from {record.compressed:,} to {record.size:,} bytes, which"
                " no weights do; it is refused"
            )
        inflater, content, crc, place = zlib.decompressobj(-15), bytearray(), 0, start
        try:
            while not inflater.eof and len(content) <= record.size:
                data = inflater.unconsumed_tail
                if not data:
                    data = self.file.read(place, min(_CHUNK, start + record.compressed - place))
                    place += len(data)
                part = inflater.decompress(data, _CHUNK)
                if not part and not data:
                    break
                content += part
                crc = zlib.crc32(part, crc)
        except zlib.error:
            raise self._damaged(record, "it cannot be inflated") from None
        if len(content) != record.size or not inflater.eof:
            raise self._damaged(record, "it has another size than the directory says")
        if record.crc not in (0, crc):
            raise self._wrong_crc(record)
        return content

    def _damaged(self, record: Record, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.file.path}: damaged or truncated ({record.name}: {why}); copy or download it again"
        )

    def _wrong_crc(self, record: Record) -> CheckpointError:
        return CheckpointError(
            f"{self.file.path}: damaged: the CRC-32 of {record.name} is wrong, so its bytes changed on the way; copy or"
            " download it again"
        )
