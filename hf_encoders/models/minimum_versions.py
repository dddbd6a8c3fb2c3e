"""The oldest versions that this code runs on; its import raises one line if one is older, or missing.

It comes before the first import of any of them. pyproject.toml names the same versions, and all others.
"""

import os
import re
import sys

MINIMUM_VERSIONS = {"transformers": "5.18", "huggingface_hub": "1.31", "torch": "2.7"}
_METADATA = ".dist-info"


def check_versions() -> None:
    """Compare the installed versions with the oldest ones, without importing anything.

    Raises:
        ImportError: if one is older or missing.
    """
    named = _named_versions()
    for name, minimum in MINIMUM_VERSIONS.items():
        # What tells it exactly takes longer to import than the rest of the package: only a refusal waits for it.
        if _numbers(named[name]) < _numbers(minimum) and _numbers(found := _version(name)) < _numbers(minimum):
            advice = f"pip install -U {name}"
            raise ImportError(f"hf_encoders needs {name} >= {minimum} (found {found}): {advice}", name=name)


def _named_versions() -> dict[str, str]:
    """The versions in the names of the first folders of metadata on the path; "" where there is no such folder."""
    found = dict.fromkeys(MINIMUM_VERSIONS, "")
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")
        except OSError:  # no folder, such as a zip file
            continue
        for entry in entries:
            name, _, rest = entry.partition("-")
            if rest.endswith(_METADATA) and found.get(name) == "":
                found[name] = rest.removesuffix(_METADATA)
    return found


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _numbers(version: str) -> list[int]:
    """Major and minor; the rest, as in 5.18.0.dev0 and 2.13.0+cpu, decides nothing here."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


check_versions()
