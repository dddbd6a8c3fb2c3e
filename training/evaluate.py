"""The door to `hf-encoders evaluate` for people in a clone: `accelerate launch training/evaluate.py`."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this clone, installed or not
    from hf_encoders.commands.evaluate import main

    main()
