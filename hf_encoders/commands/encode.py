"""`hf-encoders encode`: images or depth maps into a .npz file."""

import argparse
from pathlib import Path

from ..progress import hide_library_bars
from .options import MODALITY_HELP, add_encoding, add_model


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_model(parser)
    parser.add_argument("paths", nargs="+", type=Path, help="images or depth maps, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("embeddings.npz"), help="default: %(default)s")
    parser.add_argument("--normalize", action="store_true", help="scale each embedding to length 1")
    parser.add_argument("--modality", choices=("image", "depth"), help=MODALITY_HELP)
    add_encoding(parser)


def run(args: argparse.Namespace) -> None:
    """Embed the files and write them.

    Raises:
        ValueError: if the output is no .npz file, or an input cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    import numpy as np
    from transformers import AutoModel

    from ..data.source import list_files
    from ..modalities import default_modality, encoder
    from ..outputs import new_file

    if args.output.suffix != ".npz":
        raise ValueError(f"{args.output}: the output is a .npz file (arrays 'embeddings' and 'paths')")
    hide_library_bars()
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
