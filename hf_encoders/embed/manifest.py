"""What made a folder of embeddings: a plan before the work, which a later run must share, and a manifest after it."""

import json
from collections.abc import Container, Iterator, Mapping, Sequence

from .._version import __version__
from ..data.parts import Collection
from ..data.remote_path import Place
from ..maker import maker
from ..modalities import Encoder, Modality
from ..outputs import new_file
from ..plurals import counted
from ..versions import library_versions
from .folder import MANIFEST, PLAN, BadRow, FolderManifest, Plan
from .rows import RowEmbedder
from .shards import ShardRecord

_FORMAT = 2
# The number of bad rows that the manifest lists; it counts all.
LISTED = 1000
LIBRARIES = ("torch", "transformers", "datasets", "pyarrow", "pillow", "numpy")
# Entries of a plan that may differ: fingerprints and digests decide. Messages name them beside a digest that differs.
_NAMES = {"model.name_or_path": "the model", "model.revision": "its revision", "dataset.source": "the data set"}


def make_plan(
    model: Encoder,
    collection: Collection,
    modality: Modality,
    embedder: RowEmbedder,
    *,
    shard_rows: int,
    options: Mapping[str, object],
) -> Plan:
    """Write down everything that the result depends on, as plain JSON.

    Args:
        model: what embeds.
        collection: what is embedded.
        modality: "text", "image" or "depth".
        embedder: what makes rows of the result.
        shard_rows: input rows in each shard but the last ones.
        options: the options of the model's `encode...` that change the embeddings.

    Raises:
        ValueError: for a shard of no rows.
    """
    if shard_rows < 1:
        raise ValueError(f"a shard has at least 1 row, got {shard_rows}")
    return {
        "format": _FORMAT,
        "model": maker(model, [modality]),
        "dataset": {"source": collection.name, **collection.identity},
        "modality": modality,
        "column": collection.column,
        "id_column": embedder.id_column,
        "columns": embedder.kept,
        "dtype": embedder.dtype,
        "dimensions": embedder.dimensions,
        "shard_rows": shard_rows,
        "options": {name: None if value is None else str(value) for name, value in options.items()},
    }


def check_plan(output: Place, plan: Plan, is_main: bool = True, unless: Container[str] = ()) -> None:
    """Start an output folder with this plan, or check that it was started with it.

    Args:
        output: the folder.
        plan: see `make_plan`.
        is_main: whether this process may start it.
        unless: entries that may differ, such as "dataset.digest".

    Raises:
        ValueError: if it was started with another plan, whose differences are named, or its plan is damaged.
        OSError: if there is something else, or it cannot be written.
    """
    path = output / PLAN
    if path.is_file():
        _check_same_plan(path, plan, unless)
        return
    if not is_main:
        raise ValueError(f"{output}: the main process started there, and this one does not see it; share the folder")
    if output.exists() and (not output.is_dir() or any(file.name[0] != "." for file in output.iterdir())):
        raise FileExistsError(f"{output}: exists already, with something else; choose another --output")
    with new_file(path) as partial:
        partial.write_text(_to_json(plan), encoding="utf-8")


def follow_plan(output: Place, plan: Plan) -> None:
    """Write down that the data are others now; a folder whose plan has them already is left alone."""
    before = json.loads((output / PLAN).read_text(encoding="utf-8"))
    if before["dataset"].get("digest") != plan["dataset"].get("digest"):
        with new_file(output / PLAN, overwrite=True) as partial:
            partial.write_text(_to_json({**before, "dataset": plan["dataset"]}), encoding="utf-8")


def write_manifest(
    output: Place, plan: Plan, records: Sequence[ShardRecord], max_bad_rows: int | None
) -> FolderManifest:
    """Write `manifest.json`.

    Returns:
        The plan, and counts, shards, bad rows and the versions of the libraries.

    Raises:
        ValueError: if more rows than `max_bad_rows` cannot be embedded.
    """
    bad_count = sum(record.bad_count for record in records)
    bad: list[BadRow] = [{"id": name, "reason": reason} for record in records for name, reason in record.bad]
    if bad:
        check_bad_rows(bad_count, max_bad_rows, bad[0])
    manifest: FolderManifest = {
        **plan,
        "rows": sum(record.rows for record in records),
        "bad_rows": {"count": bad_count, "first": bad[:LISTED]},
        "shards": [
            {"file": record.file, "rows": record.rows, "bytes": record.size, "sha256": record.sha256}
            for record in records
        ],
        "versions": {"hf_encoders": __version__} | library_versions(LIBRARIES),
    }
    with new_file(output / MANIFEST, overwrite=True) as partial:
        partial.write_text(_to_json(manifest), encoding="utf-8")
    return manifest


def check_bad_rows(count: int, maximum: int | None, first: BadRow) -> None:
    """Raise ValueError if there are too many."""
    if maximum is not None and count > maximum:
        limit = f", more than the {maximum} of --max-bad-rows" if maximum else ""
        raise ValueError(
            f"{counted(count, 'row')} cannot be embedded{limit}; the first: {first['id']}: {first['reason']};"
            " --on-error skip leaves such rows out"
        )


def _check_same_plan(path: Place, plan: Plan, unless: Container[str]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        version = before.get("format")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error}); choose another --output") from error
    if version != _FORMAT:
        raise ValueError(
            f"{path.parent}: was started by an older hf_encoders, which did not write down all that it depends on;"
            " choose another --output"
        )
    check_same_plan(path.parent, before, plan, unless)


def check_same_plan(
    output: Place | str, content: Mapping[str, object], plan: Plan, unless: Container[str] = ()
) -> None:
    """Check that an output was started with a plan.

    Args:
        output: what messages begin with.
        content: what the output says of itself: a plan, and perhaps more.
        plan: see `make_plan`.
        unless: entries that may differ.

    Raises:
        ValueError: if it was started with another one; the differences are named.
    """
    before = dict(_flat({name: content.get(name) for name in plan}))
    now = dict(_flat(json.loads(_to_json(plan))))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in unless]
    differences = [f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in differing if name not in _NAMES]
    if not differences:
        return
    sections = {text.partition(".")[0] for text in differences}
    for name, noun in _NAMES.items():  # they tell a person more than digests
        if name in differing and name.partition(".")[0] in sections:
            differences.append(f"{noun} was {before.get(name)}, is {now.get(name)}")
    if sections == {"dataset"}:
        raise ValueError(
            f"{output}: was started with other files or rows of the data ({'; '.join(differences)}); embed these"
            " into another --output"
        )
    raise ValueError(f"{output}: was started with other settings ({'; '.join(differences)}); choose another --output")


def _flat(content: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _to_json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
