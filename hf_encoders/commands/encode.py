"""`hf-encoders encode`: images or depth maps into a .npz file."""

import argparse

from .options import (
    MODALITY_HELP,
    add_compute,
    add_depth_units,
    add_encoder,
    add_format,
    add_overwrite,
    depth_units,
    load_model,
    path,
    say_source,
    say_units,
)
from .runner import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    parser.add_argument("paths", nargs="+", type=path, help="images or depth maps, or folders of them")
    parser.add_argument("--output", type=path, default="embeddings.npz", help="default: %(default)s")
    parser.add_argument("--normalize", action="store_true", help="scale each embedding to length 1")
    parser.add_argument("--modality", choices=("image", "depth"), help=MODALITY_HELP)
    add_overwrite(parser)
    add_compute(parser)
    add_depth_units(parser)
    add_format(parser, "one document: output, modality, rows, dimensions; of depth maps also their units")


def run(args: argparse.Namespace) -> Result:
    """Embed the files and write them.

    Raises:
        ValueError: if the output is not a .npz file, or an input cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    if args.output.suffix != ".npz":
        raise ValueError(f"{args.output}: the output is a .npz file (arrays 'embeddings' and 'paths')")
    import numpy as np

    from ..data.location import left_out, list_files, list_pictures, locate
    from ..modalities import default_modality, encoder, files_modality
    from ..outputs import new_file

    model = load_model(args)
    if default_modality(model) == "text":
        raise ValueError(
            f"{args.model}: embeds texts, and this command files of images or depth maps; for texts run hf-encoders"
            " embed MODEL FILE --output FOLDER (rows of .txt, .jsonl, .csv, .parquet)"
        )
    modality = args.modality or files_modality(model, list_pictures(args.paths))
    paths = list_files(args.paths, modality)
    units = depth_units(args, modality)
    encode = encoder(model, modality, units)
    # The file is opened first, so that a place that cannot be written is known before the work.
    with new_file(args.output, args.overwrite) as partial, partial.open("wb") as file:
        embeddings = encode(
            paths,
            batch_size=args.batch_size,
            normalize=args.normalize,
            dtype=args.dtype,
            backend=args.backend,
            convert_to="numpy",
        )
        np.savez(file, embeddings=embeddings, paths=np.array([str(file) for file in paths]))
    folders = [locate(str(given)) for given in args.paths if given.is_dir()]
    lines = [line for folder in folders if (line := left_out(folder, modality))]
    say_source(model, ", ".join(map(str, args.paths)), modality, args.modality, "\n".join(lines))
    shown = say_units(model, units) if modality == "depth" else {}
    noun = "maps" if modality == "depth" else "images"
    rows, dimensions = embeddings.shape
    return Result(
        [f"{rows} {noun} → {args.output}: embeddings [{rows}, {dimensions}], paths"],
        {"output": str(args.output), "modality": modality, "rows": rows, "dimensions": dimensions, **shown},
    )
