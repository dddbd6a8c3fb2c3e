"""The door to `hf-encoders convert` for people in a clone: `python conversion/convert_ckpt.py`."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this clone, installed or not
    from hf_encoders.commands.convert import main

    main()
