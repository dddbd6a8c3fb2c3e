"""The backend of a whole folder of embeddings: chosen once, so that all its shards agree."""

import json
from typing import cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..data.names import is_lance
from ..data.parts import Collection
from ..data.remote_path import Place
from ..models.backend import chosen_backend
from ..models.encoding import BackendName
from ..models.tower import Tower
from .folder import PLAN
from .lance_table import manifest_of, open_table

_ROWS_A_PART = 10_000


def choose_for_all(
    output: str | Place, tower: Tower, dtype: str | None, collection: Collection, processes: PartialState | None
) -> BackendName:
    """What `auto` means for an output: the backend that an earlier run began with, else the one that is fastest here.

    A stream, whose length is not known, is computed by PyTorch.

    Args:
        output: the folder, or a Lance table.
        tower: what is computed.
        dtype: see `chosen_backend`.
        collection: what is embedded.
        processes: this process and the others, which get the choice of the main one; None for workers elsewhere, whose
            machines are not this one: they get PyTorch.
    """
    if processes is None:
        return _begun_with(output) or "torch"
    choice: list[BackendName] = ["torch"]
    if processes.is_main_process:
        counts = [part.count for part in collection.parts(_ROWS_A_PART)]
        # Of a stream nobody knows whether it is long enough to pay for a trial.
        share = 0 if None in counts else sum(filter(None, counts)) // processes.num_processes
        choice[0] = _begun_with(output) or chosen_backend(tower, "auto", dtype, share)
    if processes.num_processes > 1:
        broadcast_object_list(choice)
    return choice[0]


def _begun_with(output: str | Place) -> BackendName | None:
    try:
        if is_lance(output):
            table = open_table(str(output))
            plan = None if table is None else manifest_of(str(output), table)
        else:
            assert not isinstance(output, str)
            plan = json.loads((output / PLAN).read_text(encoding="utf-8"))
        return plan and cast(BackendName, plan["options"]["backend"])
    except (OSError, ValueError, KeyError, TypeError):  # what is wrong with it is said when the plan is checked
        return None
