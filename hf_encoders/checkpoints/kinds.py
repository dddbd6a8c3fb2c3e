"""Says what a file is that is no checkpoint, and what to do about it."""

import re
import shlex
import zlib
from pathlib import Path

from .mapped_file import FileBytes
from .tar_members import is_tar, name_tar

HEAD = 4096
ZIP = b"PK\x03\x04"
# Pickles of protocols 0 and 1 begin with a container or a class.
OLD_PICKLE = re.compile(rb"[(\]}c]")

# Beginning → the name of what packs a file, and the command that unpacks it.
_PACKED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
}
_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": ("7z", "7z x"), b"Rar!": ("RAR", "unrar x")}
# Beginning → what has it.
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras writes such), not a PyTorch checkpoint",
    b"GGUF": "a GGUF file of llama.cpp; convert the model that it was made of",
    b"ggml": "a GGML file of llama.cpp; convert the model that it was made of",
    b"lmgg": "a GGML file of llama.cpp; convert the model that it was made of",
    b"tjgg": "a GGML file of llama.cpp; convert the model that it was made of",
    b"\x93NUMPY": "a single NumPy array; give the file with all weights, or save them with numpy.savez",
    b"PAR1": "a Parquet file, not a PyTorch checkpoint",
    b"SQLite format 3": "an SQLite database, not a PyTorch checkpoint",
    b"\x89PNG": "a PNG image, not a PyTorch checkpoint",
    b"\xff\xd8\xff": "a JPEG image, not a PyTorch checkpoint",
    b"%PDF": "a PDF document, not a PyTorch checkpoint",
    b"\x7fELF": "a program or library, not a PyTorch checkpoint",
}
_TENSORFLOW_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the end of a checkpoint's index
_LARGEST_TEXT = 200


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle of protocol 2 or newer."""
    return head[:1] == b"\x80" and head[1:2] <= b"\x09"


def name_kind(file: FileBytes) -> str:
    """What a file is, in words, with what to do: the part of an error after the file's name."""
    head, path = file.read(0, HEAD), file.path
    if len(head) == HEAD and not head.strip(b"\0") and not file.read(file.size // 2, HEAD).strip(b"\0"):
        return "holds zeros in place of data, as after a download that did not finish; download it again"
    for magic, (name, command) in _PACKED.items():
        if head.startswith(magic):
            return _packed(head, path, name, command)
    for magic, (name, command) in _ARCHIVES.items():
        if head.startswith(magic):
            return f"a {name} archive; unpack it with `{command} {_quoted(path)}`, and give the file in it"
    if is_tar(head):
        return name_tar(file)
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            return what
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, not a PyTorch checkpoint"
    if file.size > 48 and file.read(file.size - 8, 8) == _TENSORFLOW_TABLE:
        return "the index of a TensorFlow checkpoint, not a PyTorch checkpoint"
    if re.match(rb"\x08[\x01-\x14][\x12:B]", head) and (b"pytorch" in head or b"onnx" in head or b"tf2onnx" in head):
        return "an ONNX model, not a PyTorch checkpoint; convert the checkpoint that it was exported from"
    if re.match(rb"([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9]", head, re.DOTALL):
        return "a msgpack file (Flax writes such), not a PyTorch checkpoint"
    text = _text(head, file.size)
    if text is None:
        return "not a PyTorch checkpoint (neither a zip archive nor a pickle)"
    return _name_text(text.removeprefix("\ufeff"), path)


def name_parts(path: Path) -> str:
    """What to do with a file that is one of several parts: empty if its name does not say so, or it is alone."""
    match = re.fullmatch(r"(?s)(.+)\.(\d{2,3}|part\d+|part[a-z]{2}|[a-z]?a[a-z])", path.name)
    if not match:
        return ""
    stem, mark = match.groups()
    numbers = re.sub(r"\d+", r"\\d+", mark)
    alike = re.compile(re.escape(stem) + r"\." + re.sub(r"[a-z]{2}$", "[a-z]{2}", numbers))
    try:
        parts = sorted(other.name for other in path.parent.iterdir() if alike.fullmatch(other.name))
    except OSError:
        return ""
    if len(parts) < 2:
        return ""
    listed = " ".join(map(shlex.quote, parts[:20])) + (" ..." if len(parts) > 20 else "")
    target = shlex.quote(stem if Path(stem).suffix else f"{stem}.pth")
    command = f"(cd {_quoted(path.parent)} && cat {listed} > {target})"
    return f"one of {len(parts)} parts; put them together with `{command}`, and give that file"


def name_zip(names: list[str], path: Path) -> str:
    """What a zip archive is that is no checkpoint."""
    base = {name.rpartition("/")[2] for name in names}
    if "model.json" in base and any("/tensors/" in f"/{name}" for name in names):
        return "a TorchScript archive of PyTorch before 1.4; load it there, and save its state_dict()"
    if any(name.endswith(".data/extern_modules") for name in names):
        return "an archive of torch.package; load it there, and save the model's state_dict()"
    if "config.json" in base and "model.weights.h5" in base:
        return "a Keras model, not a PyTorch checkpoint"
    inside = [name for name in names if re.search(r"\.(pth|pt|bin|ckpt|safetensors|pkl|npz|tar)$", name)]
    if inside:
        return (
            f"a zip archive around {_short(inside[0])!r}{_more(inside)}; unpack it with `unzip {_quoted(path)}`, and"
            " give that file"
        )
    return "a zip archive but not a PyTorch checkpoint (it has no data.pkl)"


def _packed(head: bytes, path: Path, name: str, command: str) -> str:
    inner = b""
    if name == "gzip":
        try:
            inner = zlib.decompressobj(31).decompress(head, 1024)
        except zlib.error:
            pass
    if is_tar(inner) or path.name.endswith((".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")):
        return f"a tar archive packed with {name}; unpack it with `tar -xf {_quoted(path)}`, and give the file in it"
    target = path.stem if path.suffix in (".gz", ".xz", ".bz2", ".zst", ".lz4") else f"unpacked-{path.name}"
    return f"packed with {name}; unpack it with `{command} {_quoted(path)} > {shlex.quote(target)}`, and give that file"


def _name_text(text: str, path: Path) -> str:
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if re.match(r"\s*(<!doctype html|<html|<head|<!--)", text, re.IGNORECASE) or re.search("<html", text[:1000], re.I):
        title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
        words = " ".join(title[1].split()) if title else ""
        named = f" ({_short(words)!r})" if words else ""
        return f"a web page{named} in place of the file; download the file itself"
    if re.match(r"\s*(<\?xml|<Error>)", text):
        code = re.search(r"<Code>(.*?)</Code>", text, re.DOTALL)
        if code:
            return f"an error of an object store ({_short(code[1].strip())}) in place of the file; download it again"
        return "an XML file, not a PyTorch checkpoint"
    if re.match(r"(outs|deps|md5):", text):
        return "a DVC pointer, not the file itself; run `dvc pull`"
    if "/annex/objects/" in text:
        return "a git-annex pointer, not the file itself; run `git annex get`"
    named_file = re.fullmatch(r"\s*([^\s<>{}\"'|]+\.(?:pth|pt|bin|ckpt|safetensors|pkl|npz|tar))\s*", text)
    if named_file:
        return f"a text file that names another file; give that one: {_short(named_file[1])}"
    if re.match(r'\s*(\{\s*["}]|\[\s*[\[{"\d-])', text):
        if '"weight_map"' in text:
            return f"an index of shards; give its folder {path.parent}"
        return "a JSON file, not a PyTorch checkpoint"
    return "a text file, not a PyTorch checkpoint"


def _text(head: bytes, size: int) -> str | None:
    """The first letters of a text file, or None for another."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = size > len(head) and error.start > len(head) - 4  # the letter goes on after what was read
        if not cut:
            return None
        text = head[: error.start].decode("utf-8")
    return None if "\0" in text else text


def _short(text: str) -> str:
    return text if len(text) <= _LARGEST_TEXT else f"{text[:_LARGEST_TEXT]}..."


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
