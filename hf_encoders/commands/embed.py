"""Embeds a data set of any size into parquet shards, on one process or many: `python -m hf_encoders.embed`.

```sh
hf-encoders embed org/encoder org/maps --output embeddings
accelerate launch -m hf_encoders.embed org/encoder 'shards/*.tar' --output embeddings
hf-encoders embed org/encoder maps --output maps.lance
accelerate launch --multi_gpu --num_processes 8 -m hf_encoders.embed ...  # on CPUs too: --cpu starts only one
hf-encoders embed org/encoder s3://bucket/maps --output s3://bucket/embeddings --engine ray --address auto
```

`accelerate launch` is for the devices of one machine, Ray for those of a cluster; without `--address` Ray starts here.
Its workers get the model from this process, which writes the shards; so they must see the data alone, in a shared
folder or at a URL. Keys and endpoints of stores come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
HF_TOKEN, ...) and reach the workers. Pictures are decoded on CPUs, of which `--workers` leave at least half. The shards
have the same bytes by either engine and any number of processes, if each computes with as many threads
(OMP_NUM_THREADS).

The folder holds `data/*.parquet` (id, the columns kept, embedding) and `manifest.json` (model, counts, hashes, bad
rows). `load_dataset("embeddings/data")` and `EmbeddingIndex.from_folder("embeddings")` read it. After an interruption
the same command goes on, with more or fewer processes too, and with the other engine.

Over a folder of files, or parquet files, that grew, the same command embeds what is new, into shards that come after
the others: rows are in the order in which they became known. A shard whose files changed or went is embedded again.
Data that have nothing in common with what was embedded ask for another --output.

With `--output maps.lance`, or `s3://bucket/maps.lance`, the rows go into a Lance table, where
`EmbeddingIndex.from_lance` searches them. The same command again goes on, and follows data of any kind row by row: it
embeds rows that are new or whose files changed, and takes out those that went. `--shard-rows` is how many are written
at a time. Streams are read again to see which rows they have.

Going on with a folder costs:

- for files in a folder and local parquet files: the unfinished shards, one per process, are embedded again.
- for WebDataset shards and streams of the Hub: the same. Each process also reads its unfinished part (a tar shard or a
  parquet row group) again from its start, without decoding it. Finished parts are not read.
- for all: the finished shards of the output are read once for their hashes.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from .. import command_line
from ..data.names import is_lance, is_url
from ..plurals import counted
from .options import (
    DATA_HELP,
    MODALITY_HELP,
    SPLIT_HELP,
    add_compute,
    add_depth_units,
    add_encoder,
    add_format,
    add_truncate_dim,
    count,
    depth_units,
    load_model,
    place,
    say_backend,
    say_source,
    say_units,
)
from .runner import Result, perform_alone
from .skipping import STOP, add_on_error, say_skipped

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from ..data.remote_path import Place
    from ..embed.lance_run import EmbeddedTable
    from ..embed.work import EmbeddedFolder

    Embed = Callable[..., EmbeddedFolder | EmbeddedTable | None]

LOCAL, RAY = "local", "ray"
_DATA_HELP = f"{DATA_HELP}, which is streamed; or a folder or pattern in a bucket, such as s3://bucket/maps"


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and embed."""
    perform_alone("python -m hf_encoders.embed", __doc__, add_options, run, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    parser.add_argument("dataset", help=_DATA_HELP)
    parser.add_argument(
        "--output",
        required=True,
        type=_output,
        help="folder to write, or its URL, such as s3://bucket/folder; or a Lance table, whose path or URL ends in"
        " .lance; one that is there is gone on with",
    )
    parser.add_argument("--split", help=SPLIT_HELP)
    parser.add_argument("--column", help="what is embedded; default: the column of that kind")
    parser.add_argument("--modality", choices=("image", "depth", "text"), help=MODALITY_HELP)
    parser.add_argument(
        "--id-column",
        help="names the rows; default: the file's path, WebDataset's __key__, a column id, or the row number",
    )
    parser.add_argument(
        "--columns",
        nargs="*",
        metavar="COLUMN",
        help="columns to keep beside the embedding; default: all except media, binary data and lists of floats",
    )
    parser.add_argument(
        "--embedding-dtype", choices=("float32", "float16"), default="float32", help="precision of the stored vectors"
    )
    add_compute(parser)
    add_depth_units(parser)
    parser.add_argument("--normalize", action="store_true", help="scale each embedding to length 1")
    add_truncate_dim(parser)
    parser.add_argument("--shard-rows", type=int, default=10_000, help="input rows per shard (default: %(default)s)")
    add_on_error(parser, "rows")
    parser.add_argument(
        "--max-bad-rows",
        type=int,
        metavar="N",
        help="leave out so many rows that cannot be embedded, and stop with one more (default: 0; with --on-error skip,"
        " any number)",
    )
    add_ray(parser)
    add_format(
        parser,
        "one document: output, rows, shards, dimensions, dtype, bad_rows, changed_rows, new_rows,"
        " removed_rows, seconds",
    )


def _output(text: str) -> str:
    return text if is_url(text) and is_lance(text) else place(text)  # Lance opens URLs by itself


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add what says where the work is done."""
    group = parser.add_argument_group("a cluster", "by Ray: pip install 'hf-encoders[ray]'")
    group.add_argument(
        "--engine",
        choices=(LOCAL, RAY),
        default=LOCAL,
        help="what does the work: this process and those that accelerate launch starts beside it, or Ray (default:"
        " %(default)s)",
    )
    group.add_argument(
        "--address",
        help="of a Ray cluster: auto, or HOST:PORT of its head; default: RAY_ADDRESS, or Ray is started here",
    )
    group.add_argument(
        "--workers", type=count, metavar="N", help="how many compute; default: one per GPU, or per two CPUs without any"
    )
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="N",
        help="default: 1, or 0 where there is none; 0.5 lets two share one",
    )


def check_ray_options(args: argparse.Namespace) -> None:
    """Refuse options of Ray without it, and what does not go with it.

    Raises:
        ValueError: names the option.
        ImportError: if Ray is not installed.
    """
    given = {"--address": args.address, "--workers": args.workers, "--gpus-per-worker": args.gpus_per_worker}
    if args.engine == LOCAL:
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option}: for --engine ray alone")
        return
    if is_lance(args.output):
        raise ValueError(f"{args.output}: a Lance table is written by --engine local; with Ray name a folder")
    if "://" in (args.address or ""):
        raise ValueError(f"--address {args.address}: run this on a machine of the cluster, with --address auto")
    if args.gpus_per_worker is not None and args.gpus_per_worker < 0:
        raise ValueError(f"--gpus-per-worker {args.gpus_per_worker:g}: must be 0 or more")
    if args.device not in (None, "cpu"):
        raise ValueError(f"--device {args.device}: with --engine ray, --gpus-per-worker says what computes")
    if args.device == "cpu" and args.gpus_per_worker:
        raise ValueError("--device cpu: its workers have no GPU; leave --gpus-per-worker out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("--engine ray starts its own workers: run it without accelerate launch")

    from ..embed.ray_cluster import check_ray

    check_ray()


def run(args: argparse.Namespace) -> Result | None:
    """Embed the data set; the main process returns the result.

    Raises:
        ValueError: if the model, the data set and the options do not fit together, or too many rows cannot be embedded.
        OSError: if the output cannot be written, or holds something else.
        KeyboardInterrupt: says how to go on.
    """
    check_ray_options(args)
    from ..data.collection import open_pictures
    from ..embed.backend import choose_for_all
    from ..embed.folder import MANIFEST
    from ..embed.manifest import LISTED, make_plan
    from ..embed.rows import RowEmbedder

    if is_lance(args.output):
        from ..embed.lance_table import need_lance

        need_lance(args.output)
    device, embed, processes = _engine(args)
    model = load_model(args, device)
    collection, modality = open_pictures(model, args.dataset, args.modality, args.column, args.split)
    units = depth_units(args, modality)
    backend = args.backend
    if backend == "auto":
        backend = choose_for_all(args.output, model.tower(modality), args.dtype, collection, processes)
    options = {"dtype": args.dtype, "backend": backend, "truncate_dim": args.truncate_dim, **units}
    if args.normalize:
        options["normalize"] = True
    embedder = RowEmbedder(
        model,
        collection,
        modality,
        id_column=args.id_column,
        keep=args.columns,
        dtype=args.embedding_dtype,
        options={**options, "batch_size": args.batch_size},
    )
    plan = make_plan(model, collection, modality, embedder, shard_rows=args.shard_rows, options=options)
    start = time.perf_counter()
    max_bad_rows = 0 if args.max_bad_rows is None and args.on_error == STOP else args.max_bad_rows
    try:
        done = embed(embedder, collection, args.output, plan, max_bad_rows=max_bad_rows)
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(f"the same command goes on in {args.output}") from None
    if done:
        say_source(model, args.dataset, modality, args.modality, collection.left_out)
        if modality == "depth":
            say_units(model, units)
        say_backend(args, model, modality)
        bad = done.manifest["bad_rows"]
        listed = f"the metadata of {args.output}" if is_lance(args.output) else str(args.output / MANIFEST)
        say_skipped(
            [{"index": -1, "name": one["id"], "reason": one["reason"]} for one in bad["first"]],
            bad["count"],
            "row",
            f"{listed} (the first {LISTED})" if bad["count"] > LISTED else listed,
        )
    return _result(args.output, done, time.perf_counter() - start) if done else None


def _engine(args: argparse.Namespace) -> "tuple[torch.device, Embed, PartialState | None]":
    """The device of the model in this process, what embeds, and the processes of a launcher; None of Ray's."""
    import torch

    if args.engine == RAY:
        from ..embed.ray_engine import embed_with_ray

        gpus = 0 if args.device == "cpu" else args.gpus_per_worker
        ray = partial(embed_with_ray, address=args.address, workers=args.workers, gpus_per_worker=gpus)
        return torch.device("cpu"), ray, None  # the workers have copies of the model on their devices
    from datetime import timedelta

    from ..launched_processes import launched_processes

    # The processes wait for each other only at the end, and one may take much longer than the others.
    processes = launched_processes(args.device, timeout=timedelta(days=365))
    if is_lance(args.output):
        from ..embed.lance_run import embed_table

        return processes.device, partial(embed_table, processes=processes), processes
    from ..embed.run import embed_collection

    return processes.device, partial(embed_collection, processes=processes), processes


def _result(output: "str | Place", done: "EmbeddedFolder | EmbeddedTable", seconds: float) -> Result:
    manifest = done.manifest
    shards = cast("Sequence[object] | None", manifest.get("shards"))  # of a folder
    figures = {
        "output": str(output),
        "rows": manifest["rows"],
        **({} if shards is None else {"shards": len(shards)}),
        "dimensions": manifest["dimensions"],
        "dtype": manifest["dtype"],
        "bad_rows": manifest["bad_rows"]["count"],
        "changed_rows": done.changed_rows,
        "new_rows": done.growth.new_rows,
        "removed_rows": done.growth.removed_rows,
        "seconds": round(seconds, 1),
    }
    rows, dimensions, dtype = manifest["rows"], manifest["dimensions"], manifest["dtype"]
    changed = "rows whose files had changed" if shards is None else "rows in shards whose files had changed or gone"
    told = {
        f"{changed}, embedded again": done.changed_rows,
        "new rows": done.growth.new_rows,
        "removed rows": done.growth.removed_rows,
    }
    parts = [
        f"{'' if shards is None else counted(len(shards), 'shard') + ', '}embeddings [{rows}, {dimensions}] {dtype}",
        f"bad rows: {figures['bad_rows']}",
        *(f"{noun}: {count}" for noun, count in told.items() if count),
        f"{figures['seconds']} s",
    ]
    return Result([f"{counted(rows, 'row')} → {output}: {'; '.join(parts)}"], figures)
