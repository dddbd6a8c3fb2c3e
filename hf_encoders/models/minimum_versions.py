"""The oldest versions that this code runs on; its import raises one line if one is older, or missing.

It comes before the first import of any of them. pyproject.toml names the same versions, and all others.
"""

import re
from importlib.metadata import PackageNotFoundError, version

MINIMUM_VERSIONS = {"transformers": "5.18", "huggingface_hub": "1.31", "torch": "2.7"}


def check_versions() -> None:
    """Compare the installed versions with the oldest ones, without importing anything.

    Raises:
        ImportError: if one is older or missing.
    """
    for name, minimum in MINIMUM_VERSIONS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if _numbers(found) < _numbers(minimum):
            advice = f"pip install -U {name}"
            raise ImportError(f"hf_encoders needs {name} >= {minimum} (found {found}): {advice}", name=name)


def _numbers(version: str) -> list[int]:
    """Major and minor; the rest, as in 5.18.0.dev0 and 2.13.0+cpu, decides nothing here."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


check_versions()
