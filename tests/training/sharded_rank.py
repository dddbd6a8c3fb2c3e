"""One process of `accelerate launch`: trains with each of the command lines in a JSON file, and prints refusals."""

import json
import os
import sys
from pathlib import Path


def main():
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    from hf_encoders.training import pretrain, pretrain_depth

    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # gloo does, and needs no compiler
    PartialState.destroy_process_group = lambda self, group=None: None  # a run ends it, and the next one needs it
    for script, arguments in json.loads(Path(sys.argv[1]).read_text()):
        try:
            {"pretrain": pretrain, "pretrain_depth": pretrain_depth}[script].command(arguments)
        except ValueError as error:
            print("refused:", error)
        AcceleratorState._reset_state()  # the plugin of DeepSpeed is for one run; the processes stay


if __name__ == "__main__":
    main()
