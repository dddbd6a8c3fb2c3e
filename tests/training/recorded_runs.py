"""Runs of both trainings that tell which rows each of their steps had; as a script, on each of several processes."""

import json
import sys
from pathlib import Path
from unittest.mock import patch


def recorded(name, words):
    """Run `pretrain` or `pretrain_depth`: the rows of each step, by micro-batch, and the losses; or why not."""
    from accelerate import Accelerator

    from hf_encoders.training import pretrain, pretrain_depth
    from hf_encoders.training.depth import trainer as depth
    from hf_encoders.training.multimodal import trainer as multimodal

    command, module, key = {
        "pretrain": (pretrain.command, multimodal, "rows"),
        "pretrain_depth": (pretrain_depth.command, depth, "indices"),
    }[name]
    steps, losses = [], []
    plain, log = module.steps_of_epoch, Accelerator.log

    def recording(*arguments):
        for micro_batches in plain(*arguments):
            steps.append([list(batch[key]) for batch in micro_batches])
            yield micro_batches

    def logging(self, values, **settings):
        losses.extend([values["loss"]] if "loss" in values else [])
        log(self, values, **settings)

    with patch.object(module, "steps_of_epoch", recording), patch.object(Accelerator, "log", logging):
        try:
            command([str(word) for word in words])
        except ValueError as error:
            return {"refused": str(error)}
    return {"steps": steps, "losses": losses}


def main(rank):
    """Each of the command lines in `calls.json`."""
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    PartialState.destroy_process_group = lambda self, group=None: None  # a run ends it, and the next one needs it
    results = []
    for name, words in json.loads((Path(sys.argv[1]) / "calls.json").read_text()):
        results.append(recorded(name, words))
        AcceleratorState._reset_state()  # the processes stay
    return results


if __name__ == "__main__":
    from tests.helpers.ranks import joined

    joined(main, join=False)
