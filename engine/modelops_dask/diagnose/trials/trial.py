"""A trial: lanes of tasks that a worker runs at the same time, and the outcome of each task.

Trial -> an executor for each lane, or one for all (threads) -> run_trial() -> TaskRun, also written to a
journal

A worker that dies or hangs during a trial leaves its journal, so that earlier results are not lost. A worker
in which the model ran is used up: workers.py replaces it. tally.py compares results.
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
from modelops_dask.diagnose.trials.work_folder import clear, enter, path_of
from modelops_dask.diagnose.verdict.comparison import TIMEOUT, RunKey, TaskRun, record_outcome
from modelops_dask.executors import Executor, Task, create
from modelops_dask.settings import Settings
from modelops_dask.shape import runner_limit
from modelops_dask.study.batch import Pieces

JOURNAL = "journal"  # a file in the folder of the diagnosis
MEET_SECONDS = 60.0  # that a lane waits for the others to import the model
SWITCH_SECONDS = 1e-5  # how long a thread runs before another has its turn: races show sooner
KEPT, KEPT_BYTES = 8, 32 * 2**20  # differing outputs that are stored: their number, and their bytes


@dataclass(frozen=True)
class Trial:
    """Lanes that start together; a lane is numbers of `tasks`, which are (params, seed).

    As in a study, many short tasks are sent to a process in one message. A task that takes longer than the
    settings' limit ends its lane, but not one of cold.

    Attributes:
        threads: Lanes are threads of this worker's process.
        clears: The folder is cleared before each task.
        seconds: No task starts after this time.
        busy_seconds: No task starts after this time once a lane ran each of its tasks twice.
        expected: Outputs are returned of tasks whose key differs from this.
    """

    settings: Settings
    bundle: Bundle
    entrypoint: str
    tasks: tuple[tuple[dict[str, Any], int], ...]
    lanes: tuple[tuple[int, ...], ...]
    seconds: float
    busy_seconds: float
    expected: Mapping[int, RunKey] = field(default_factory=dict)
    threads: bool = False
    clears: bool = False
    volatile: tuple[str, ...] = ()  # names of outputs that are not compared
    native_threads: int = 0
    runners: int = 1  # that share the worker's memory
    needed_bytes: int = 0

    @property
    def in_process(self) -> bool:
        return self.settings.executor_type == "direct"


def run_trial(folder_name: str, trial: Trial) -> list[TaskRun]:
    """Run a trial on this Dask worker, in a cleared folder. Raises BadInput: no wire function, no
    environment.
    """
    from modelops_dask.workers.runtime import current_runtime

    path = path_of(folder_name) / JOURNAL
    clear(folder_name, trial.bundle, trial.settings)
    bundle, settings = enter(folder_name, trial.bundle, trial.settings)
    if trial.in_process:
        os.chdir(bundle.path)  # like a runner, not where the command was typed
        _silence_output()
    if trial.threads:
        sys.setswitchinterval(SWITCH_SECONDS)
    limit_bytes = current_runtime().memory_limit_bytes
    runner_limit_bytes = max(0, runner_limit(limit_bytes, settings.worker_memory_bytes, trial.runners))
    task_runs: list[TaskRun] = []
    output_filter = _OutputFilter(trial)
    began = time.monotonic()
    meeting = threading.Barrier(len(trial.lanes))

    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        lock = threading.Lock()

        def note(task_run: TaskRun) -> None:
            with lock:
                task_runs.append(task_run)
                pickle.dump(task_run, file)
                file.flush()

        def start_executor() -> Executor:
            executor = create(
                settings,
                limit_bytes or None,
                len(trial.lanes) if trial.threads else 1,
                runner_limit_bytes=runner_limit_bytes if limit_bytes else 0,
            )
            return stack.enter_context(executor)

        shared = start_executor() if trial.threads else None
        executors = [shared or start_executor() for _ in trial.lanes]

        def make_task(number: int) -> Task:
            params, seed = trial.tasks[number]
            return Task(
                bundle=bundle,
                entrypoint=trial.entrypoint,
                params=params,
                seed=seed,
                threads=trial.native_threads,
                needed_bytes=trial.needed_bytes,
            )

        def run_lane(number: int) -> None:
            try:
                lane, n_ended = trial.lanes[number], 0
                n_twice = 2 * len(set(lane))
                # A worker that the model ends must not lose the results of earlier tasks.
                single = trial.clears or trial.in_process
                pieces = Pieces(iter(lane), trial.seconds, single)
                while piece := pieces.take():
                    passed_seconds = time.monotonic() - began
                    if n_ended and passed_seconds > (
                        trial.busy_seconds if n_ended >= n_twice else trial.seconds
                    ):
                        return
                    if trial.clears and n_ended:
                        clear(folder_name, trial.bundle, trial.settings)
                    outcomes = executors[number].run_all([make_task(task_number) for task_number in piece])
                    pieces.record(len(piece), time.monotonic() - began - passed_seconds)
                    for task_number, outcome in zip(piece, outcomes, strict=True):
                        task_run = output_filter.filter(
                            record_outcome(number, task_number, outcome, trial.volatile)
                        )
                        note(task_run)
                        if task_run.reason == TIMEOUT and settings.executor_type != "cold":
                            return  # the next one might wait for the same
                    if not n_ended:  # the model is imported: from here on they run concurrently
                        with suppress(threading.BrokenBarrierError):
                            meeting.wait(MEET_SECONDS)
                    n_ended += len(piece)
            finally:
                meeting.abort()

        if len(trial.lanes) == 1:
            run_lane(0)
        else:
            with ThreadPoolExecutor(len(trial.lanes)) as pool:
                list(pool.map(run_lane, range(len(trial.lanes))))
    return task_runs


def read_journal(folder_name: str) -> list[TaskRun]:
    """The task runs of the latest trial of a worker that has ended."""
    task_runs: list[TaskRun] = []
    path = path_of(folder_name) / JOURNAL
    with suppress(FileNotFoundError), path.open("rb") as file, suppress(EOFError, pickle.UnpicklingError):
        while True:
            task_runs.append(pickle.load(file))
    return task_runs


class _OutputFilter:
    """Drops unneeded outputs: those as expected, and those that are too many or too large."""

    def __init__(self, trial: Trial) -> None:
        self._expected = trial.expected
        self._left, self._left_bytes = KEPT, KEPT_BYTES
        self._lock = threading.Lock()

    def filter(self, task_run: TaskRun) -> TaskRun:
        size = sum(map(len, (task_run.outputs or {}).values()))
        with self._lock:
            is_known = task_run.task in self._expected
            is_needed = size <= self._left_bytes and (not is_known or self._left > 0)
            if task_run.key == self._expected.get(task_run.task) or not is_needed:
                return task_run._replace(outputs=None)
            self._left -= is_known
            self._left_bytes -= size
        return task_run


def _silence_output() -> None:
    """Discard the output of a model in this process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
