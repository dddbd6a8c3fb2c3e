"""An output folder follows its data set: files that came, went or changed, and the places that all of them have."""

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import feather

from ..data.layout import Growth, Items, Layout
from ..data.parts import Collection
from ..data.remote_path import Place
from ..models.input_errors import one_line
from ..outputs import new_file
from .folder import MANIFEST, PLAN, Plan
from .manifest import check_plan, follow_plan

# Arrow's file format; `load_dataset` of the output folder takes no notice of the suffix.
ITEMS = "items.feather"
_DIGEST = "dataset.digest"


def start_or_follow(output: Place, plan: Plan, collection: Collection, is_main: bool = True) -> Growth:
    """Start an output folder with a plan, or go on in it; then read the collection in the order that the folder knows.

    Rows that were there before keep their places, and rows of new files come after them. The order is kept beside the
    plan. Whatever is about to change, `manifest.json` goes first: until the end of the run the folder is unfinished.

    Args:
        output: the folder.
        plan: what the result depends on, see `make_plan`.
        collection: what is embedded; see `Collection.arrange`.
        is_main: whether this process may write. The main process calls this before the others do.

    Returns:
        How the collection has grown; in the main process alone.

    Raises:
        ValueError: if the folder was started with another plan, or with data that have nothing in common with these;
            or if rows are named by their numbers, and files that came or went would change those of others.
        OSError: if there is something else, or it cannot be written.
    """
    items = collection.items()
    known = None if items is None else _read_layout(output)
    if items is None or known is None or not (output / PLAN).is_file():
        check_plan(output, plan, is_main)
        if items is not None and is_main:
            _write_layout(output, Layout.of(items))
        return Growth()
    layout, growth = known.follow(items)
    if growth:
        _check_growth(output, plan, collection, known, items)
    check_plan(output, plan, is_main, unless=[_DIGEST])
    if growth and is_main:
        (output / MANIFEST).unlink(missing_ok=True)
        _write_layout(output, layout)
    if is_main:  # also where a kill came between the layout and the plan
        follow_plan(output, plan)
    collection.arrange(layout)
    return growth


def _check_growth(output: Place, plan: Plan, collection: Collection, known: Layout, items: Items) -> None:
    before = set(zip(known.names, known.rows, strict=True))
    if before.isdisjoint(zip(items.names, items.rows, strict=True)):
        check_plan(output, plan)  # which says what differs
    is_numbered = plan["id_column"] is None and collection.id_type == "int64"
    if is_numbered and (name := known.first_moved(items)):
        raise ValueError(
            f"{output}: names rows by their numbers, and those of {name} are others now that files came or went before"
            " it; embed into another --output, with --id-column if the rows have names"
        )


def _read_layout(output: Place) -> Layout | None:
    path = output / ITEMS
    if not path.is_file():  # of an older release: the order of the data set
        return None
    try:
        table = feather.read_table(pa.BufferReader(path.read_bytes()))
        names = [name if name is None else name.decode(errors="surrogateescape") for name in table["name"].to_pylist()]
        starts = [int(start) for start in table.schema.metadata[b"starts"].split()]
        return Layout(names, table["rows"].to_pylist(), starts)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({one_line(error)}); choose another --output") from error


def _write_layout(output: Place, layout: Layout) -> None:
    names = [name if name is None else name.encode(errors="surrogateescape") for name in layout.names]
    schema = pa.schema({"name": pa.binary(), "rows": pa.int64()}, {"starts": " ".join(map(str, layout.starts))})
    table = pa.table([pa.array(names, pa.binary()), pa.array(layout.rows, pa.int64())], schema=schema)
    content = pa.BufferOutputStream()
    feather.write_feather(table, content, compression="zstd")
    with new_file(output / ITEMS, overwrite=True) as partial:
        partial.write_bytes(content.getvalue().to_pybytes())
