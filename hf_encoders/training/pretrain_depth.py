"""Train the depth autoencoder: its encoder becomes a depth semantic encoder.

    accelerate launch -m hf_encoders.training.pretrain_depth --dataset maps/ --depth_processor '{"unit_scale": 0.001}'
    accelerate launch -m hf_encoders.training.pretrain_depth my_recipe.yaml --init_from legacy.pth
    torchrun --nproc_per_node 8 -m hf_encoders.training.pretrain_depth my_recipe.yaml --mixed_precision bf16
    accelerate launch -m hf_encoders.training.pretrain_depth my_recipe.yaml --resume_from_checkpoint latest
    accelerate launch training/pretrain_depth.py                          # in a clone: the sample recipe, its own maps

A run that was killed and resumed ends with the same weights as one that was not. One that is resumed with other options
says of each what becomes of it: it is obeyed, refused, or kept from the checkpoint. `--output_dir` becomes a repo with
the best model so far: AutoModel loads the encoder, DepthAutoencoderModel the whole. Checkpoints and logs lie there too.
The weights of the loss are fields of `--model_config`.
"""

import sys
from collections.abc import Sequence

from ..command_line import run as run_command
from ..command_line import started_as
from .depth.arguments import DepthDataArguments, DepthModelArguments, DepthRunArguments
from .recipe import check_ids, parse

KINDS = (DepthDataArguments, DepthModelArguments, DepthRunArguments)
DEFAULT_RECIPE = "depth_sample"


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run_command(lambda: command(sys.argv[1:], f"accelerate launch {started_as()}"))


def command(argv: Sequence[str], prog: str = "hf-encoders train") -> None:
    """Train as the arguments say. Only once they are understood, torch is imported."""
    options = parse(argv, KINDS, DEFAULT_RECIPE, (__doc__ or "").partition("\n")[0], prog)
    check_ids(options)
    from ..progress import hide_library_bars
    from .depth.trainer import DepthTrainer
    from .stopping import train_together

    hide_library_bars()  # the epochs are the progress
    train_together(DepthTrainer(*options))


if __name__ == "__main__":
    main()
