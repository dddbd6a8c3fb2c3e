"""The door to `hf_encoders.training.pretrain` for people in a clone: `accelerate launch training/pretrain.py`."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this clone, installed or not
    from hf_encoders.training.pretrain import main

    main()
