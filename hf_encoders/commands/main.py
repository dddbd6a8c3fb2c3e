"""The `hf-encoders` command: what one does with an encoder, from a terminal."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .. import __version__
from ..command_line import OneLineArgumentParser, add_compute, add_destination, run
from . import embed as embedding

_MODALITY_HELP = "default: image, where the model embeds images, else depth"


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and call what they name."""
    parser = OneLineArgumentParser(prog="hf-encoders", description=(__doc__ or "").partition(":")[2].strip())
    parser.add_argument("--version", action="version", version=f"hf-encoders {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    encode = commands.add_parser("encode", help="embed images or depth maps into a .npz file")
    encode.add_argument("model", help="folder or Hub id of an encoder")
    encode.add_argument("paths", nargs="+", type=Path, help="images or depth maps, or folders of them")
    encode.add_argument("--output", type=Path, default=Path("embeddings.npz"), help="default: %(default)s")
    encode.add_argument("--normalize", action="store_true", help="scale each embedding to length 1")
    encode.add_argument("--modality", choices=("image", "depth"), help=_MODALITY_HELP)
    _add_shared_options(encode)
    encode.set_defaults(run=_encode)

    search = commands.add_parser("search", help="find images, depth maps or texts by words or by example")
    _add_collection(search)
    search.add_argument("queries", nargs="+", metavar="query", help="a text, or with --by a file")
    search.add_argument("--by", choices=("text", "image", "depth"), help="what the queries are (default: text)")
    search.add_argument("--modality", choices=("image", "depth", "text"), help=f"what is searched; {_MODALITY_HELP}")
    search.add_argument("-k", type=_count, default=5, help="results for each query (default: %(default)s)")
    search.set_defaults(run=lambda args: print(_commands().search(args)))

    classify = commands.add_parser("classify", help="label images or depth maps with words, without training")
    _add_collection(classify)
    classify.add_argument("--labels", required=True, help="such as chair,table,lamp, or @FILE with one a line")
    classify.add_argument(
        "--template",
        action="append",
        help="a prompt with {} for the label; several are averaged (default: a photo of a {}.)",
    )
    classify.add_argument("--modality", choices=("image", "depth"), help=_MODALITY_HELP)
    classify.add_argument("--top-k", type=_count, default=3, help="labels for each (default: %(default)s)")
    classify.set_defaults(run=lambda args: print(_commands().classify(args)))

    embed = commands.add_parser("embed", help="embed a data set of any size into parquet shards, resumably")
    embedding.add_options(embed)
    embed.set_defaults(run=embedding.embed)

    push = commands.add_parser("push", help="upload a model's folder to the Hub, with its card and code, in one commit")
    push.add_argument("folder", type=Path, help="of a model that was converted, trained or saved here")
    push.add_argument("repo_id", help="such as org/name")
    add_destination(push)
    push.set_defaults(run=_push)

    export = commands.add_parser("export", help="compile a model's towers for encode(backend=...)")
    export.add_argument("model", help="folder or Hub id of an encoder")
    export.add_argument("--to", required=True, choices=("onnx", "openvino"), help="what for")
    export.add_argument("--output", type=Path, help="folder of the new repo (default: MODEL's name with -onnx, ...)")
    export.add_argument("--tower", action="append", choices=("text", "image", "depth"), help="default: all of them")
    export.add_argument("--int8", action="store_true", help="in 8 bits too; needs --calibration")
    export.add_argument("--calibration", metavar="DATA", help="folder, parquet file or Hub data set of real inputs")
    export.add_argument("--overwrite", action="store_true", help="replace an existing output")
    export.set_defaults(run=_export)

    args = parser.parse_args(argv)
    args.run(args)


def _export(args: argparse.Namespace) -> None:
    if args.int8 != bool(args.calibration):
        raise ValueError("--int8 and --calibration go together: 8 bits need the ranges of real inputs")
    from transformers.utils import logging

    from ..export.towers import export

    logging.disable_progress_bar()
    output = args.output or Path(f"{Path(args.model).name}-{args.to}")
    report = export(
        args.model,
        output,
        args.to,
        towers=args.tower or (),
        calibration=args.calibration,
        overwrite=args.overwrite,
    )
    for tower, precisions in report["towers"].items():
        for precision, measured in precisions.items():
            difference, cosine = measured["relative_difference"], measured["least_cosine"]
            print(f"{tower} in {precision}: differs by {difference:.1e} of the largest number, cosine ≥ {cosine:.5f}")
    print(f'use it: AutoModel.from_pretrained("{output}").encode...(..., backend="{args.to}")')


def _push(args: argparse.Namespace) -> None:
    from ..hub.push import Destination, push_model

    destination = Destination(args.repo_id, args.private, args.revision, args.create_pr)
    print(f"pushed to {push_model(args.folder, destination, remote_code=args.with_remote_code is not False)}")


def _add_collection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id of an encoder")
    parser.add_argument("source", help="folder of files, parquet file, or Hub id of a data set")
    parser.add_argument("--column", help="of a parquet file or data set; default: the one of that kind")
    parser.add_argument("--split", help="of a data set on the Hub; default: its only one")
    parser.add_argument(
        "--output", type=Path, default=Path("-"), help="results.jsonl, sheet.png (thumbnails), or - (default): a table"
    )
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with files that cannot be read"
    )
    _add_shared_options(parser)


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", help="such as cuda; default: the model's")
    add_compute(parser)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _commands() -> ModuleType:
    """What works on collections, without the bars of loading; the bar of encoding stays."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    from . import collections

    logging.disable_progress_bar()
    disable_progress_bars()
    return collections


def _encode(args: argparse.Namespace) -> None:
    import numpy as np
    from transformers import AutoModel
    from transformers.utils import logging

    from ..data.source import list_files
    from ..modalities import default_modality, encoder
    from ..outputs import new_file

    if args.output.suffix != ".npz":
        raise ValueError(f"{args.output}: the output is a .npz file (arrays 'embeddings' and 'paths')")
    logging.disable_progress_bar()  # of loading; the bar of encoding stays
    model = AutoModel.from_pretrained(args.model)
    modality = args.modality or default_modality(model)
    encode = encoder(model, modality)
    paths = list_files(args.paths, modality)
    # Opened before the work, so that a place that cannot be written is known at once.
    with new_file(args.output, args.overwrite) as partial, partial.open("wb") as file:
        embeddings = encode(
            paths,
            batch_size=args.batch_size,
            normalize=args.normalize,
            device=args.device,
            dtype=args.dtype,
            backend=args.backend,
            convert_to="numpy",
        )
        np.savez(file, embeddings=embeddings, paths=np.array([str(path) for path in paths]))
    noun = "maps" if modality == "depth" else "images"
    print(f"{len(paths)} {noun} → {args.output}: embeddings {list(embeddings.shape)}, paths")


if __name__ == "__main__":
    main()
