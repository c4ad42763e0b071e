"""On a worker: the lanes of a trial, side by side, and what became of each task.

Trial -> an executor for each lane, or one for all (threads) -> run -> Seen, also written to a journal

A worker that dies or hangs with a trial leaves its journal: what ran until then is not lost. A worker in
which the model ran is used up: lab.py replaces it. Does not compare: tally.py does.
"""

import os
import pickle
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose.compare import TIMEOUT, Seen, seen
from modelops_dask.diagnose.room import clear, enter
from modelops_dask.diagnose.room import folder as room_folder
from modelops_dask.executors import Executor, Task, create
from modelops_dask.settings import Settings
from modelops_dask.shape import child_limit

JOURNAL = "journal"  # a file in the room
MEET_SECONDS = 60.0  # that a lane waits for the others to have imported the model
SWITCH_SECONDS = 1e-5  # how long a thread runs before another has its turn: races show sooner
KEPT, KEPT_BYTES = 8, 32 * 2**20  # outputs of so many tasks that differ are kept, and of so many bytes


@dataclass(frozen=True)
class Trial:
    """Lanes that begin together; a lane is numbers of `tasks`, which are (params, seed).

    `threads`: lanes are threads of this worker's process. `clears`: the room is cleared before each task. No
    task is begun after `seconds`, nor after `busy_seconds` once a lane ran twice as many as there are. One
    that takes longer than the settings' limit ends its lane, but not one of cold. Outputs are returned of
    tasks whose key is not as in `expected`.
    """

    settings: Settings
    bundle: Bundle
    entrypoint: str
    tasks: tuple[tuple[dict[str, Any], int], ...]
    lanes: tuple[tuple[int, ...], ...]
    seconds: float
    busy_seconds: float
    expected: Mapping[int, tuple] = field(default_factory=dict)
    threads: bool = False
    clears: bool = False
    native_threads: int = 0
    runners: int = 1  # that share the worker's memory
    needed_bytes: int = 0

    @property
    def in_process(self) -> bool:
        return self.settings.executor_type == "direct"


def run(room: str, trial: Trial) -> list[Seen]:
    """Run a trial on this Dask worker, in a cleared room. Raises BadInput: no wire function, no
    environment.
    """
    from distributed import get_worker

    path = room_folder(room) / JOURNAL
    clear(room, trial.bundle, trial.settings)
    bundle, settings = enter(room, trial.bundle, trial.settings)
    if trial.in_process:
        _quiet()
    if trial.threads:
        sys.setswitchinterval(SWITCH_SECONDS)
    limit_bytes = get_worker().modelops.memory_limit_bytes
    share_bytes = max(0, child_limit(limit_bytes, settings.worker_memory_bytes, trial.runners))
    found: list[Seen] = []
    kept = _Kept(trial)
    began = time.monotonic()
    meeting = threading.Barrier(len(trial.lanes))

    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        lock = threading.Lock()

        def note(one: Seen) -> None:
            with lock:
                found.append(one)
                pickle.dump(one, file)
                file.flush()

        def executor() -> Executor:
            made = create(
                settings,
                limit_bytes or None,
                len(trial.lanes) if trial.threads else 1,
                share_bytes=share_bytes if limit_bytes else 0,
            )
            return stack.enter_context(made)

        shared = executor() if trial.threads else None
        executors = [shared or executor() for _ in trial.lanes]

        def lane(number: int) -> None:
            try:
                for position, at in enumerate(trial.lanes[number]):
                    twice = position >= 2 * len(trial.tasks)
                    if time.monotonic() - began > (trial.busy_seconds if twice else trial.seconds):
                        return
                    if trial.clears and position:
                        clear(room, trial.bundle, trial.settings)
                    params, seed = trial.tasks[at]
                    task = Task(
                        bundle,
                        trial.entrypoint,
                        params,
                        seed,
                        0,
                        trial.native_threads,
                        False,
                        trial.needed_bytes,
                    )
                    one = kept.some(seen(number, at, executors[number].run(task)))
                    note(one)
                    if one.reason == TIMEOUT and settings.executor_type != "cold":
                        return  # the next might wait for the same
                    if position == 0:  # the model is imported: from here on they run side by side
                        with suppress(threading.BrokenBarrierError):
                            meeting.wait(MEET_SECONDS)
            finally:
                meeting.abort()

        if len(trial.lanes) == 1:
            lane(0)
        else:
            with ThreadPoolExecutor(len(trial.lanes)) as pool:
                list(pool.map(lane, range(len(trial.lanes))))
    return found


def left_behind(room: str) -> list[Seen]:
    """What the latest trial wrote down, whose worker is gone."""
    found = []
    path = room_folder(room) / JOURNAL
    with suppress(FileNotFoundError), path.open("rb") as file, suppress(EOFError, pickle.UnpicklingError):
        while True:
            found.append(pickle.load(file))
    return found


class _Kept:
    """Drops outputs that nobody needs: those as expected, and what is too much."""

    def __init__(self, trial: Trial) -> None:
        self._expected = trial.expected
        self._left, self._left_bytes = KEPT, KEPT_BYTES
        self._lock = threading.Lock()

    def some(self, one: Seen) -> Seen:
        size = sum(map(len, (one.outputs or {}).values()))
        with self._lock:
            known = one.task in self._expected
            wanted = size <= self._left_bytes and (not known or self._left > 0)
            if one.key == self._expected.get(one.task) or not wanted:
                return one._replace(outputs=None)
            self._left -= known
            self._left_bytes -= size
        return one


def _quiet() -> None:
    """What a model prints in this process is for nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
