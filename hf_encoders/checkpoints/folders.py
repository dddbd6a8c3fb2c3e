"""Folders that are one checkpoint: shards with their index, DeepSpeed's and torch.distributed.checkpoint's folders."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from .distributed import METADATA, read_distributed
from .errors import CheckpointError
from .mapped_file import MappedFile
from .pickles.limits import Limits
from .torch_files import Content

ReadFile = Callable[[Path], Content]

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pkl", ".npz", ".tar", ".pth.tar")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_LISTED = 5  # names of files in a message
_LARGEST_INDEX = 64 << 20
_OF_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_ZERO_TO_FP32 = (
    "run DeepSpeed's `python zero_to_fp32.py . pytorch_model.bin` in the folder, and give the file that it writes"
)


def read_folder(folder: Path, limits: Limits, read_file: ReadFile) -> Content:
    """Read a folder that is one checkpoint.

    Args:
        folder: the folder.
        limits: what the checkpoint may take.
        read_file: reads one file of it.

    Returns:
        What the parts hold together.

    Raises:
        CheckpointError: if it is none, or a part is missing or damaged; the message lists the files that are there.
    """
    names = sorted(path.name for path in folder.iterdir())
    if METADATA in names:
        return read_distributed(folder, limits)
    index = _find_index(folder, names)
    if index is not None:
        return _read_shards(index, read_file)
    if "latest" in names or any(_is_deepspeed(name) for name in names):
        return _read_deepspeed(folder, names, read_file)
    if "data.pkl" in names:
        whole = folder.resolve()
        parent, target, name = map(shlex.quote, (str(whole.parent), f"{whole.name}.pth", whole.name))
        command = f"(cd {parent} && zip -0 -r {target} {name})"
        raise CheckpointError(
            f"{folder}: an unpacked checkpoint (a folder with data.pkl); pack it again without compression: `{command}`"
        )
    files = [name for name in names if name.endswith(SUFFIXES)]
    if len(files) == 1 and files[0] in _OF_TRANSFORMERS and "config.json" in names:
        return read_file(folder / files[0])
    if files:
        first = folder / files[0]
        raise CheckpointError(
            f"{folder}: a directory, expected a checkpoint file such as {first} (it has {_listed(files)})"
        )
    there = [f"{name}/" if (folder / name).is_dir() else name for name in names]
    raise CheckpointError(
        f"{folder}: no weights in this folder (looked for {', '.join(SUFFIXES)}, an index of shards, and the folders of"
        f" DeepSpeed and torch.distributed.checkpoint); it {f'has {_listed(there)}' if there else 'is empty'}"
    )


def _listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def refuse_shard(path: Path) -> None:
    """Refuse one file of a checkpoint of several.

    Raises:
        CheckpointError: if its name says that it is one.
    """
    match = _SHARD.fullmatch(path.name)
    if match and int(match[3]) > 1:
        folder = path.parent
        names = sorted(entry.name for entry in folder.iterdir())
        index = _find_index(folder, names)
        what = f"give its folder {folder}, which has their index" if index else "give the folder with their index"
        raise CheckpointError(f"{path}: one shard of {int(match[3])}; {what}")


def _find_index(folder: Path, names: list[str]) -> Path | None:
    found = [name for name in names if name.endswith(".index.json")]
    usual = next((name for name in _INDEXES if name in found), None)
    if usual is None and len(found) > 1:
        raise CheckpointError(f"{folder}: has several indexes of shards ({', '.join(found)}); leave one in the folder")
    name = usual or (found[0] if found else None)
    return folder / name if name else None


def _read_shards(index: Path, read_file: ReadFile) -> Content:
    file = MappedFile(index)
    if file.size > _LARGEST_INDEX:
        raise CheckpointError(f"{index}: an index of {file.size:,} bytes, more than is read")
    try:
        content = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{index}: not JSON, so it is no index of shards; copy or download it again") from None
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise CheckpointError(f"{index}: has no weight_map, so it is no index of shards; copy or download it again")
    shards: dict[str, dict[object, object]] = {}
    classes: set[str] = set()
    bytes_read = file.size
    for shard in dict.fromkeys(names.values()):
        if Path(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{index}: names the file {shard!r}, which is not in its folder; it is refused")
        if not (index.parent / shard).exists():
            raise CheckpointError(f"{index.parent}: the shard {shard} is missing; copy or download it again")
        part = read_file(index.parent / shard)
        if not isinstance(part.value, dict):
            raise CheckpointError(f"{index.parent / shard}: no shard of weights; copy or download it again")
        shards[shard] = part.value
        classes |= part.classes
        bytes_read += part.bytes_read
    missing = [f"{name!r} ({shard})" for name, shard in names.items() if name not in shards[shard]]
    if missing:
        raise CheckpointError(f"{index}: names {missing[0]}, which is not in that file; copy or download them again")
    value: dict[object, object] = {name: shards[shard][name] for name, shard in names.items()}
    return Content("folder of shards", value, frozenset(classes), bytes_read)


def _is_deepspeed(name: str) -> bool:
    return bool(re.fullmatch(r"(zero_pp_rank_\d+_)?mp_rank_\d+_(model|optim)_states\.pt", name))


def _read_deepspeed(folder: Path, names: list[str], read_file: ReadFile) -> Content:
    if not any(_is_deepspeed(name) for name in names):
        tag = MappedFile(folder / "latest").read(0, 256).decode("utf-8", "replace").strip()
        inner = folder / tag
        if not tag or Path(tag).name != tag or not inner.is_dir():
            raise CheckpointError(f"{folder}: its file `latest` names {tag!r}, which is not there; copy it again")
        folder, names = inner, sorted(path.name for path in inner.iterdir())
    if any(re.fullmatch(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt", name) for name in names):
        raise CheckpointError(f"{folder}: DeepSpeed's ZeRO stage 3, whose weights lie in parts; {_ZERO_TO_FP32}")
    ranks = [name for name in names if re.fullmatch(r"mp_rank_\d+_model_states\.pt", name)]
    if not ranks:
        raise CheckpointError(f"{folder}: a folder of DeepSpeed without mp_rank_00_model_states.pt; copy it again")
    if len(ranks) > 1:
        raise CheckpointError(
            f"{folder}: the weights of {len(ranks)} model-parallel processes ({', '.join(ranks[:3])}); {_ZERO_TO_FP32}"
        )
    content = read_file(folder / ranks[0])
    return Content("DeepSpeed folder", content.value, content.classes, content.bytes_read)
