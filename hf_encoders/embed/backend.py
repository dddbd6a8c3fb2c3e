"""The backend of a whole folder or table of embeddings: chosen once, so that all its shards agree."""

import json
from pathlib import Path
from typing import cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..data.collection import Collection
from ..models.backend import chosen_backend
from ..models.encoding import BackendName
from ..models.tower import Tower
from .folder import PLAN
from .lance_table import is_lance, manifest_of, open_table

_ROWS_A_PART = 10_000


def choose_for_all(
    output: Path | str, tower: Tower, dtype: str | None, collection: Collection, processes: PartialState
) -> BackendName:
    """What `auto` means for an output: the backend that an earlier run began with, else the one that is fastest here.

    Args:
        output: the folder, or a Lance table.
        tower: what is computed.
        dtype: see `chosen_backend`.
        collection: what is embedded.
        processes: this process and the others, which get the choice of the main one.
    """
    choice: list[BackendName] = ["torch"]
    if processes.is_main_process:
        counts = [part.count for part in collection.parts(_ROWS_A_PART)]
        share = None if None in counts else sum(filter(None, counts)) // processes.num_processes
        choice[0] = _begun_with(output) or chosen_backend(tower, "auto", dtype, share)
    if processes.num_processes > 1:
        broadcast_object_list(choice)
    return choice[0]


def _begun_with(output: Path | str) -> BackendName | None:
    try:
        if is_lance(output):
            table = open_table(output)
            return None if table is None else cast(BackendName, manifest_of(output, table)["options"]["backend"])
        plan = json.loads((Path(output) / PLAN).read_text(encoding="utf-8"))
        return cast(BackendName, plan["options"]["backend"])
    except (OSError, ValueError, KeyError, TypeError):  # what is wrong with it is said when the plan is checked
        return None
