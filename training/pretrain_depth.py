"""The door to `hf_encoders.training.pretrain_depth` for people in a clone."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this clone, whether it is installed or not
    from hf_encoders.training.pretrain_depth import main

    main()
