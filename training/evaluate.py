"""The door to `hf-encoders evaluate` for people in a clone: `accelerate launch training/evaluate.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this clone, whether it is installed or not
    from hf_encoders.commands.evaluate import main

    main()
