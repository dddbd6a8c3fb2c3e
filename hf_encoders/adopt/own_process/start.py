"""Starts a module of this folder, whose `main` reads the other arguments: a script, `start.py MODULE ARGUMENT...`.

The folder becomes a package of its own name without a place in the path of modules, which is the project's.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Import the package and the module, and run it."""
    places = [str(FOLDER)]
    spec = importlib.util.spec_from_file_location(
        FOLDER.name, FOLDER / "__init__.py", submodule_search_locations=places
    )
    assert spec is not None and spec.loader is not None
    package = sys.modules[FOLDER.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    importlib.import_module(f"{FOLDER.name}.{sys.argv.pop(1)}").main()


if __name__ == "__main__":
    main()
