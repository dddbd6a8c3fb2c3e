"""`hf-encoders train`: train by a recipe, on one process.

    hf-encoders train sample
    hf-encoders train lit --dataset my-captions --learning_rate 3e-4
    hf-encoders train depth_sample
    hf-encoders train my_recipe.yaml --resume_from_checkpoint latest

Many processes train by `accelerate launch -m hf_encoders.training.pretrain lit ...`.
"""

import argparse
from collections.abc import Sequence


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `command` parses the options."""


def command(argv: Sequence[str]) -> None:
    """Train by the recipe. The options are those of the training scripts (see `train RECIPE --help`).

    Raises:
        ValueError: if the recipe or an option cannot be used.
    """
    from ..training.recipe import trained_model

    trained = trained_model(argv)
    from ..training import pretrain
    from ..training.multimodal.arguments import ModelArguments

    if trained in (None, ModelArguments.model_type):
        pretrain.command(argv)
    else:  # the other one refuses a third kind
        from ..training import pretrain_depth

        pretrain_depth.command(argv)
