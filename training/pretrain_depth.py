"""The door to `hf_encoders.training.pretrain_depth` for people in a clone."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this clone, installed or not
    from hf_encoders.training.pretrain_depth import main

    main()
