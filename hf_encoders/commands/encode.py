"""`hf-encoders encode`: images or depth maps into a .npz file."""

import argparse
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ..plurals import counted
from .options import (
    MODALITY_HELP,
    add_compute,
    add_depth_units,
    add_encoder,
    add_format,
    add_overwrite,
    add_truncate_dim,
    depth_units,
    load_model,
    path,
    say_backend,
    say_source,
    say_units,
)
from .runner import Result
from .skipping import SKIP, add_on_error, check_some_left, on_error, say_skipped

_ROWS = (".csv", ".json", ".jsonl", ".txt", ".parquet")

if TYPE_CHECKING:
    from ..arrays import AnyArray
    from ..models.encoding import EncodeOptions


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    parser.add_argument("paths", nargs="+", type=path, help="images or depth maps, or folders of them")
    parser.add_argument("--output", type=path, default="embeddings.npz", help="default: %(default)s")
    parser.add_argument(
        "--normalize",
        action="store_true",
        help="scale each embedding to length 1; in a shared space they have it",
    )
    add_truncate_dim(parser)
    parser.add_argument("--modality", choices=("image", "depth"), help=MODALITY_HELP)
    add_on_error(parser, "files")
    add_overwrite(parser)
    add_compute(parser)
    add_depth_units(parser)
    add_format(parser, "one document: output, modality, rows, dimensions, skipped; of depth maps also their units")


def run(args: argparse.Namespace) -> Result:
    """Embed the files and write them.

    Raises:
        ValueError: if the output is not a .npz file, or an input cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    if args.output.suffix != ".npz":
        raise ValueError(
            f"{args.output}: the output is a .npz file (arrays 'embeddings', 'paths', 'skipped', 'skipped_reasons')"
        )
    import numpy as np

    from ..data.location import left_out, list_files, list_pictures, locate
    from ..data.skipped import skipped_inputs
    from ..modalities import default_modality, encoder, files_modality
    from ..outputs import new_file

    model = load_model(args)
    if default_modality(model) == "text":
        raise ValueError(
            f"{args.model}: embeds texts, and this command files of images or depth maps; for texts run hf-encoders"
            " embed MODEL FILE --output FOLDER (rows of .txt, .jsonl, .csv, .parquet)"
        )
    for given in args.paths:
        if given.suffix.lower() in _ROWS and given.is_file():
            raise ValueError(
                f"{given}: rows, and this command embeds files; for rows run hf-encoders embed MODEL {given} --output"
                " FOLDER"
            )
    modality = args.modality or files_modality(model, list_pictures(args.paths))
    paths = list_files(args.paths, modality)
    units = depth_units(args, modality)
    options: EncodeOptions = {"dtype": args.dtype, "backend": args.backend, "truncate_dim": args.truncate_dim}
    if args.normalize:  # by default a model's own way, as in Python: of unit length in a shared space
        options["normalize"] = True
    encode = partial(encoder(model, modality, units), **options)
    # The file is opened first, so that a place that cannot be written is known before the work.
    with new_file(args.output, args.overwrite) as new, new.open("wb") as file:
        found = encode(paths, batch_size=args.batch_size, convert_to="numpy", on_error=on_error(args))
        embeddings, kept = found if isinstance(found, tuple) else (found, np.ones(len(paths), bool))
        skipped = skipped_inputs(
            encode, np.flatnonzero(~kept).tolist(), lambda index: [paths[index]], lambda index: str(paths[index])
        )
        check_some_left(skipped, len(paths), ", ".join(map(str, args.paths)))
        np.savez(
            file,
            embeddings=embeddings,
            paths=_texts(paths[index] for index in np.flatnonzero(kept)),
            skipped=_texts(one["name"] for one in skipped),
            skipped_reasons=_texts(one["reason"] for one in skipped),
        )
    folders = [locate(str(given)) for given in args.paths if given.is_dir()]
    lines = [line for folder in folders if (line := left_out(folder, modality))]
    say_source(model, ", ".join(map(str, args.paths)), modality, args.modality, "\n".join(lines))
    say_backend(args, model, modality)
    shown = say_units(model, units) if modality == "depth" else {}
    noun = "map" if modality == "depth" else "image"
    rows, dimensions = embeddings.shape
    say_skipped(skipped, len(skipped), noun, str(args.output))
    content: dict[str, object] = {
        "output": str(args.output),
        "modality": modality,
        "rows": rows,
        "dimensions": dimensions,
        "skipped": skipped,
        **shown,
    }
    line = f"{counted(rows, noun)} → {args.output}: embeddings [{rows}, {dimensions}], paths"
    if args.on_error == SKIP:
        line += f"; skipped: {len(skipped)}"
    return Result([line], content)


def _texts(texts: Iterable[object]) -> "AnyArray":
    import numpy as np

    return np.array([str(text) for text in texts], str)
