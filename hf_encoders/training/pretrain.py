"""Train a multimodal encoder: texts, images and depth maps into one space, by a contrastive loss.

    accelerate launch -m hf_encoders.training.pretrain lit --dataset my-captions   # a recipe, with flags on top
    torchrun --nproc_per_node 8 -m hf_encoders.training.pretrain my_recipe.yaml
    accelerate launch -m hf_encoders.training.pretrain my_recipe.yaml --resume_from_checkpoint latest
    accelerate launch training/pretrain.py                                # in a clone: the sample recipe, its own data

A run that was killed and resumed ends with the same weights as one that was not. One that is resumed with other options
says of each what becomes of it: it is obeyed, refused, or kept from the checkpoint. `--output_dir` becomes a repo that
AutoModel loads; checkpoints and logs lie there too.
"""

import sys
from collections.abc import Sequence

from ..command_line import run as run_command
from ..command_line import started_as
from .multimodal.arguments import DataArguments, LossArguments, ModelArguments, RunArguments
from .recipe import check_ids, parse

KINDS = (DataArguments, ModelArguments, LossArguments, RunArguments)
DEFAULT_RECIPE = "sample"


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run_command(lambda: command(sys.argv[1:], f"accelerate launch {started_as()}"))


def command(argv: Sequence[str], prog: str = "hf-encoders train") -> None:
    """Train as the arguments say. Only once they are understood, torch is imported."""
    options = parse(argv, KINDS, DEFAULT_RECIPE, (__doc__ or "").partition("\n")[0], prog)
    check_ids(options)
    from ..progress import hide_library_bars
    from .multimodal.trainer import Trainer
    from .stopping import train_together

    hide_library_bars()  # the steps are the progress
    train_together(Trainer(*options))


if __name__ == "__main__":
    main()
