"""One tower on several devices at a time: a process for each, with a copy of the model, which waits for the next call.

The caller reads raw inputs and hands them out in parts; each process prepares and embeds its own. Python's lock makes
threads too slow for that.
"""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn

from ..models.encoding import BackendName, DtypeName
from ..models.input_batches import Skipped, read_batches, slices
from ..models.text_tower import TextTower, Truncation
from ..models.tower import Tower
from .device_worker import Done, Failed, Work, work
from .sent_tower import SentTower

# A part has so many batches: texts of like length find each other, and the messages between processes do not count.
_BATCHES_PER_PART = 8


class DevicePool:
    """Processes that embed what they are sent. One call at a time may use them.

    Args:
        tower: what they compute; a copy of its model goes to each.
        devices: one process for each; a device may be named several times.

    Raises:
        ValueError: if the model cannot be sent to other processes.
    """

    def __init__(self, tower: Tower, devices: Sequence[str]):
        self._sent = SentTower(tower.model)
        self._tower = self._sent.without_weights(tower)
        self.devices, self._owner = list(devices), os.getpid()
        self._lock = threading.Lock()
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection] = []
        on_cpu = [device for device in devices if torch.device(device).type == "cpu"]
        threads = max(1, torch.get_num_threads() // max(len(on_cpu), 1))
        spawning = multiprocessing.get_context("spawn")
        for device in devices:
            ours, theirs = spawning.Pipe()
            process = spawning.Process(target=work, args=(theirs, device, threads), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        self._tell(self._sent.weights())
        self._tell(self._tower)

    @property
    def is_usable(self) -> bool:
        """Whether the processes are there: not in a forked process, nor after one has ended."""
        return os.getpid() == self._owner and all(process.is_alive() for process in self._processes)

    def serves(self, tower: Tower) -> bool:
        """Whether the processes can compute a tower, once they are told what has changed but weights."""
        return self.is_usable and self._sent.has_weights_of(tower.model)

    def close(self) -> None:
        """End the processes, after the call that they work for."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            for connection in self._connections:
                connection.close()
            for process in self._processes:
                process.terminate()

    def run(self, tower: Tower, parts: Iterator[Work]) -> Iterator[Done]:
        """Parts → what came of them, in any order.

        Args:
            tower: what is computed; processors and settings may be others than in earlier calls.
            parts: of the inputs.

        Raises:
            ValueError: if the tower cannot be sent.
            Exception: the first that a process raised; the others' work is waited for, and dropped.
            RuntimeError: if a process ended.
        """
        sent = self._sent.without_weights(tower)
        with self._lock:
            if sent != self._tower:
                self._tell(sent)
                self._tower = sent
            running: dict[Connection, int] = dict.fromkeys(self._connections, 0)
            # One part at a time for each. Where one side sends a part and the other rows, and both are larger than a
            # pipe holds, both wait for ever.
            idle = deque(self._connections)
            try:
                for part in parts:
                    if not idle:
                        for connection, done in self._finished(running):
                            idle.append(connection)
                            yield done
                    connection = idle.popleft()
                    self._send(connection, part)
                    running[connection] += 1
                while any(running.values()):
                    for _, done in self._finished(running):
                        yield done
            finally:  # where the caller stops early, or a part failed
                with contextlib.suppress(RuntimeError):
                    while any(running.values()):
                        self._drop(running)

    def _tell(self, message: bytes) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):  # one that ended is told of when its answer is waited for
                connection.send(message)

    def _send(self, connection: Connection, part: Work) -> None:
        try:
            connection.send(part)
        except OSError as error:
            raise self._ended(connection) from error

    def _finished(self, running: dict[Connection, int]) -> Iterator[tuple[Connection, Done]]:
        """What has been done by now; waits for one at least."""
        for connection in self._ready(running):
            answer = self._receive(connection, running)
            if isinstance(answer, Failed):
                raise answer.error
            yield connection, answer

    def _drop(self, running: dict[Connection, int]) -> None:
        for connection in self._ready(running):
            self._receive(connection, running)

    def _ready(self, running: dict[Connection, int]) -> list[Connection]:
        ready = wait([connection for connection, count in running.items() if count])
        return [connection for connection in self._connections if connection in ready]

    def _receive(self, connection: Connection, running: dict[Connection, int]) -> "Done | Failed":
        try:
            answer: Done | Failed = connection.recv()
        except (EOFError, OSError) as error:
            running[connection] = 0
            raise self._ended(connection) from error
        running[connection] -= 1
        return answer

    def _ended(self, connection: Connection) -> RuntimeError:
        number = self._connections.index(connection)
        process = self._processes[number]
        process.join(timeout=5)
        return RuntimeError(
            f"the process of device {self.devices[number]!r} ended (exit code {process.exitcode}): is there too little"
            ' memory for a copy of the model, or does the script lack `if __name__ == "__main__":`?'
        )


# Model → tower → its processes. A pool ends when its model goes.
_POOLS: "WeakKeyDictionary[nn.Module, dict[str, DevicePool]]" = WeakKeyDictionary()
_LOCK = threading.RLock()


def spread(tower: Tower, devices: Sequence[str]) -> "Spread":
    """What computes a tower on several devices at a time: with the processes of an earlier call, or new ones.

    Args:
        tower: of the model.
        devices: their names.
    """
    with _LOCK:
        pools = _POOLS.setdefault(tower.model, {})
        pool = pools.get(tower.name)
        if pool is None or pool.devices != list(devices) or not pool.serves(tower):
            if pool is not None:
                pool.close()
            pool = pools[tower.name] = DevicePool(tower, devices)
            finalize(tower.model, pool.close).atexit = False  # they are daemons
        return Spread(tower, pool)


class Spread:
    """Computes a tower by the processes of a pool; see `Tower.computed`."""

    def __init__(self, tower: Tower, pool: DevicePool):
        self._tower, self._pool = tower, pool

    def __call__(
        self,
        inputs: object,
        batch_size: int,
        *,
        backend: BackendName,
        dtype: DtypeName | torch.dtype | None,
        skipped: Skipped | None,
        progress: Callable[[int], object],
    ) -> tuple[list[int], list[Tensor]]:
        """See `Tower.computed`."""
        indices: list[int] = []
        rows: list[Tensor] = []
        tower = self._tower
        truncation = Truncation()
        options = {"batch_size": batch_size, "backend": backend, "dtype": dtype, "skips": skipped is not None}
        parts = (Work(start, items, options) for start, items in self._parts(inputs, batch_size * _BATCHES_PER_PART))
        for done in self._pool.run(tower, parts):
            indices += done.indices
            rows.append(torch.from_numpy(done.rows))
            progress(len(done.indices))
            if skipped is not None:
                skipped.update(done.skipped)
            truncation.add(done.truncation)
        if isinstance(tower, TextTower) and tower.truncation is not None:
            tower.truncation.add(truncation)
        else:
            truncation.warn()
        return indices, rows

    def _parts(self, inputs: object, size: int) -> Iterator[tuple[int, object]]:
        """The index of the first input of each part, and its inputs: raw ones, or tensors."""
        ready = self._tower.processed(inputs)
        if ready is None:
            return iter(read_batches(inputs, size, self._tower.is_single))
        total = len(next(iter(ready.values())))
        return ((numbers[0], tensors) for numbers, tensors in slices(ready, total, size))
