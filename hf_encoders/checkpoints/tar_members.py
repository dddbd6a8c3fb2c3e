"""Lists what is in a tar archive, as far as it takes to say which file to unpack."""

import re
import shlex

from .mapped_file import FileBytes

_BLOCK = 512
_MOST_MEMBERS = 1000
_LONG_NAME, _EXTENDED, _FILES = b"L", b"x", b"0\0"
_LARGEST_NAME = 4096
_CHECKPOINT = re.compile(r"\.(pth|pt|bin|ckpt|safetensors|pkl|npz|tar)$")
# Records of the format of PyTorch before 0.1.10, which is a tar archive itself.
_OLD_RECORDS = {"sys_info", "pickle", "storages", "tensors"}


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar archive, by the checksum of its first header."""
    block = head[:_BLOCK]
    if len(block) < _BLOCK or not block.strip(b"\0"):
        return False
    told = _octal(block[148:156])
    return told is not None and told == sum(block[:148]) + 8 * 32 + sum(block[156:])


def name_tar(file: FileBytes) -> str:
    """What a tar archive is, with the command that unpacks the checkpoint in it."""
    names = _names(file)
    if set(names) >= _OLD_RECORDS:
        return "the tar format of PyTorch before 0.1.10; save it again with a newer PyTorch"
    inside = [name for name in names if _CHECKPOINT.search(name)] or names
    archive = shlex.quote(str(file.path))
    if not inside:
        return f"a tar archive; unpack it with `tar -xf {archive}`, and give the file in it"
    more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
    name = inside[0]
    return (
        f"a tar archive around {name!r}{more}; unpack it with `tar -xf {archive} {shlex.quote(name)}`, and give that"
        " file"
    )


def _names(file: FileBytes) -> list[str]:
    names: list[str] = []
    place, long_name = 0, ""
    for _ in range(_MOST_MEMBERS):
        block = file.read(place, _BLOCK)
        if not is_tar(block):
            break
        size, kind = _octal(block[124:136]) or 0, block[156:157]
        if kind == _LONG_NAME:
            long_name = _text(file.read(place + _BLOCK, min(size, _LARGEST_NAME)))
        elif kind == _EXTENDED:
            for line in file.read(place + _BLOCK, min(size, _LARGEST_NAME)).split(b"\n"):
                if record := re.match(rb"\d+ path=(.*)", line):
                    long_name = _text(record[1])
        elif kind in _FILES:
            folder = _text(block[345:500]) if block[257:262] == b"ustar" else ""
            name = _text(block[:100])
            names.append(long_name or (f"{folder}/{name}" if folder else name))
            long_name = ""
        place += _BLOCK + -(-size // _BLOCK) * _BLOCK
    return names


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
