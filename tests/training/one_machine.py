"""A training on one of two machines; with LOST_AFTER=STEP, the second and its launcher get a signal, LOST_BY."""

import os
import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from unittest.mock import patch


def main():
    from hf_encoders.training import accelerator, checkpoints, pretrain
    from hf_encoders.training.multimodal.step import Step

    plain = Step.__call__

    def step(self, micro_batches, finished=0):
        if os.environ["RANK"] == "1" and os.environ.get("LOST_AFTER") == str(finished):
            os.kill(os.getppid(), signal.Signals[os.environ["LOST_BY"]])
            os.kill(os.getpid(), signal.Signals[os.environ["LOST_BY"]])
        return plain(self, micro_batches, finished)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Step, "__call__", step))
        # No file system here shows a file a minute after it is there.
        stack.enter_context(patch.object(checkpoints, "_SEEN_AFTER", 0.5))
        if os.environ.get("LOST_BY") == "SIGSTOP":
            stack.enter_context(patch.object(accelerator, "ANSWER", timedelta(seconds=5)))
        pretrain.main()


if __name__ == "__main__":
    sys.argv[0] = __file__
    main()
