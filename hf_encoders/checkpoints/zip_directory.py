"""The directory of a zip archive, read strictly: programs differ in what they take from a doubtful one.

Source: APPNOTE.TXT of PKWARE, 4.3 to 4.5. PyTorch writes the zip64 form always.
"""

import struct
from dataclasses import dataclass

from .errors import CheckpointError
from .mapped_file import FileBytes

LOCAL, ENTRY, END, END64, LOCATOR64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR_FOLLOWS, UTF8 = 1, 8, 0x800
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_IN_ZIP64, _NONE16 = 0xFFFFFFFF, 0xFFFF
_LARGEST_DIRECTORY = 32 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """A file in an archive, as the directory has it.

    Args:
        name: with the folders before it.
        raw_name: the name's bytes.
        method: how it is compressed.
        flags: the general purpose bits.
        crc: the CRC-32 of its content; 0 if it was not computed.
        compressed: the bytes that it has in the archive.
        size: the bytes of its content.
        header: where its local header begins.
        limit: where the next record or the directory begins.
    """

    name: str
    raw_name: bytes
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    header: int
    limit: int


def read_directory(file: FileBytes) -> tuple[dict[str, Record], int]:
    """Read the directory of an archive.

    Returns:
        The records by name, and the bytes that were read.

    Raises:
        CheckpointError: if it is damaged, or programs could differ in what they read.
    """
    count, size, start = _find(file)
    if size > _LARGEST_DIRECTORY:
        raise CheckpointError(f"{file.path}: a zip archive with a directory of {size:,} bytes, more than is read")
    data, records, names, place = file.read(start, size), [], set(), 0
    while place < size:
        if place + _ENTRY.size > size:
            raise _damaged(file)
        entry = _ENTRY.unpack_from(data, place)
        (magic, _, _, flags, method, _, _, crc, compressed, full, name_size, extra_size, note_size, *_, header) = entry
        end = place + _ENTRY.size + name_size + extra_size + note_size
        if magic != ENTRY or end > size:
            raise _damaged(file)
        raw = data[place + _ENTRY.size : place + _ENTRY.size + name_size]
        extra = data[place + _ENTRY.size + name_size : end - note_size]
        full, compressed, header = _wide(file, extra, full, compressed, header)
        name = raw.decode("utf-8", "replace") if flags & UTF8 else raw.decode("cp437")
        # PyTorch finds records whatever their letters' case. Files of code and arrays may differ in it alone.
        key = name if "/code/" in name or name.endswith(".npy") else name.lower()
        if key in names:
            raise CheckpointError(
                f"{file.path}: holds {name!r} twice, and programs differ in which one they read; it is refused"
            )
        names.add(key)
        records.append(Record(name, raw, method, flags, crc, compressed, full, header, 0))
        place = end
    if len(records) != count:
        raise _damaged(file)
    return _without_overlaps(file, records, start), size


def _find(file: FileBytes) -> tuple[int, int, int]:
    """The number of records, the size and the place of the directory."""
    tail_start = max(0, file.size - _END.size - 0xFFFF)
    tail = file.read(tail_start, file.size - tail_start)
    place = tail.rfind(END)
    if place < 0 or place + _END.size > len(tail):
        raise _damaged(file, "no zip directory")
    _, disk, first_disk, here, count, size, start, note = _END.unpack_from(tail, place)
    at = tail_start + place
    if at + _END.size + note != file.size:
        raise _damaged(file)
    end = at
    locator = file.read(at - _LOCATOR64.size, _LOCATOR64.size) if at >= _LOCATOR64.size else b""
    if locator.startswith(LOCATOR64):
        _, _, end, _ = _LOCATOR64.unpack(locator)
        data = file.read(end, _END64.size)
        if not data.startswith(END64) or len(data) < _END64.size or end + _END64.size > at:
            raise _damaged(file)
        *_, disk, first_disk, here, count64, size64, start64 = _END64.unpack(data)
        for narrow, wide, most in ((count, count64, _NONE16), (size, size64, _IN_ZIP64), (start, start64, _IN_ZIP64)):
            if narrow not in (wide, most):
                raise _damaged(file, "its two directories differ")
        count, size, start = count64, size64, start64
    if (disk, first_disk) != (0, 0) or here != count:
        raise CheckpointError(f"{file.path}: one part of a zip archive of several; put them together first")
    if start + size != end:
        raise _damaged(file, "something stands before the archive or in it")
    return count, size, start


def _wide(file: FileBytes, extra: bytes, full: int, compressed: int, header: int) -> tuple[int, int, int]:
    """Sizes and place of a record, out of its extra field of 64 bits where they do not fit into 32."""
    values = [full, compressed, header]
    if _IN_ZIP64 not in values:
        return full, compressed, header
    place = 0
    while place + 4 <= len(extra):
        tag, size = struct.unpack_from("<2H", extra, place)
        if tag == 1 and place + 4 + size <= len(extra):
            wide = list(struct.unpack_from(f"<{size // 8}Q", extra, place + 4))
            for index, value in enumerate(values):
                if value == _IN_ZIP64:
                    if not wide:
                        raise _damaged(file)
                    values[index] = wide.pop(0)
            return values[0], values[1], values[2]
        place += 4 + size
    raise _damaged(file)


def _without_overlaps(file: FileBytes, records: list[Record], end: int) -> dict[str, Record]:
    """The records by name, each with the place where the next begins."""
    records.sort(key=lambda record: record.header)
    found = {}
    for record, limit in zip(records, [*(record.header for record in records[1:]), end], strict=True):
        if record.header + LOCAL_HEADER.size + len(record.raw_name) + record.compressed > limit:
            raise _damaged(file, f"{record.name!r} and the record after it overlap")
        found[record.name] = Record(
            record.name, record.raw_name, record.method, record.flags, record.crc, record.compressed, record.size,
            record.header, limit,
        )  # fmt: skip
    return found


def _damaged(file: FileBytes, why: str = "its zip directory is wrong") -> CheckpointError:
    return CheckpointError(f"{file.path}: damaged or truncated ({why}); copy or download it again")
