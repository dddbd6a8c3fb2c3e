"""Turn a repo back into a legacy .pth file, with equal tensors.

    python conversion/export_legacy.py depth-semantic-encoder encoder.pth
    python conversion/export_legacy.py depth-autoencoder best_model.pth --autoencoder

Without an option it writes the extracted-encoder dictionary; with --autoencoder, from a repo that has the decoder, the
training-checkpoint dictionary. What a repo does not hold (optimizer and scheduler states) is left out.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from hf_encoders import DepthSemanticEncoderConfig
from hf_encoders.command_line import OneLineArgumentParser, run
from hf_encoders.legacy.depth_layouts import MODEL_TYPE
from hf_encoders.outputs import new_file
from report import REPORT_NAME, read_report
from repos import read_repo, repo_folder


def export(repo: str, output: Path, *, autoencoder: bool = False, overwrite: bool = False) -> None:
    """Write a legacy file from a repo.

    Args:
        repo: a folder or a Hub id, from the converter or from `save_pretrained`.
        output: the file to write.
        autoencoder: write the whole network as a training checkpoint, not the encoder alone.
        overwrite: replace an existing file.

    Raises:
        ValueError: if the repo holds no depth model, or no decoder where one is asked for.
        OSError: if the output exists already or cannot be written.
    """
    folder = repo_folder(repo)
    config, tensors = read_repo(folder)
    if autoencoder and not any(name.startswith("decoder.") for name in tensors):
        raise ValueError(f"{repo}: has no decoder; leave --autoencoder out, or convert with --include-decoder")
    content = _training_checkpoint(folder, config, tensors) if autoencoder else _extracted(repo, config, tensors)
    with new_file(output, overwrite) as partial, partial.open("wb") as file:
        torch.save(content, file)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = OneLineArgumentParser(prog="export_legacy.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repo", help="folder or Hub id")
    parser.add_argument("output", type=Path, help="the .pth file to write")
    parser.add_argument("--autoencoder", action="store_true", help="write the training-checkpoint dictionary")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)
    logging.set_verbosity_error()
    export(args.repo, args.output, autoencoder=args.autoencoder, overwrite=args.overwrite)
    print(f"{args.repo} → {args.output}")


def _extracted(repo: str, config: DepthSemanticEncoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    encoder = {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(tensor.numel() for name, tensor in encoder.items() if not name.endswith(statistics))
    return {
        "encoder_state_dict": encoder,
        "model_config": {
            "input_channels": config.num_channels,
            "latent_dim": config.hidden_size,
            "model_type": MODEL_TYPE,
        },
        "extracted_from": repo,
        "extraction_info": {
            "total_params": parameters,
            "trainable_params": parameters,
            "num_weights": len(encoder),
        },
    }


def _training_checkpoint(
    folder: Path, config: DepthSemanticEncoderConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    # What the source said of its training, where the repo was converted and still has the report.
    known = read_report(folder)["source"]["metadata"] if (folder / REPORT_NAME).is_file() else {}
    sizes = {
        "image_size": config.image_size,
        "latent_dim": config.hidden_size,
        "input_channels": config.num_channels,
    }
    return {**known, "model_state_dict": dict(tensors), "config": {**known.get("config", {}), **sizes}}


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
