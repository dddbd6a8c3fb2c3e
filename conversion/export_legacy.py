"""The door to `hf-encoders export-legacy` for people in a clone."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this clone, installed or not
    from hf_encoders.commands.export_legacy import main

    main()
