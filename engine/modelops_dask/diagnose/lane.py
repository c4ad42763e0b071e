"""On a worker: the lanes of a trial, side by side, and what became of each task.

Trial -> an executor for each lane, or one for all (threads) -> run -> Seen, also written to a journal

A worker that dies or hangs with a trial leaves its journal: what ran until then is not lost. A worker in
which the model ran is used up: lab.py replaces it. Does not compare: tally.py does.
"""

import os
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelops_dask import venv
from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import packages
from modelops_dask.diagnose import probe as probes
from modelops_dask.diagnose.compare import Seen, seen
from modelops_dask.diagnose.probe import Ask, Probed
from modelops_dask.executors import Executor, Task, create
from modelops_dask.executors.process import Call
from modelops_dask.settings import Settings
from modelops_dask.shape import child_limit
from modelops_dask.study.batch import bundle_here

MEET_SECONDS = 60.0  # that a lane waits for the others to have imported the model
SWITCH_SECONDS = 1e-5  # how long a thread runs before another has its turn: races show sooner
KEPT, KEPT_BYTES = 8, 32 * 2**20  # outputs of so many tasks that differ are kept, and of so many bytes


@dataclass(frozen=True)
class Trial:
    """Lanes that begin together; a lane is numbers of `tasks`, which are (params, seed).

    `threads`: lanes are threads of this worker's process. No task is begun after `seconds`, nor after
    `busy_seconds` once a lane has run as many tasks as there are twice; one that takes longer than the
    settings' limit ends its lane. Outputs are returned only of tasks whose key is not as in `expected`.
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
    native_threads: int = 0
    runners: int = 1  # that share the worker's memory
    needed_bytes: int = 0

    @property
    def in_process(self) -> bool:
        return self.settings.executor_type == "direct"


def run(trial: Trial, journal: str) -> list[Seen]:
    """Run a trial on this Dask worker. Raises BadInput: no wire function, no environment."""
    from distributed import get_worker

    runtime = get_worker().modelops
    settings = here(trial.settings, runtime.settings)
    bundle = bundle_here(trial.bundle, settings.bundles_cache_dir)
    if trial.in_process:
        _quiet()
    if trial.threads:
        sys.setswitchinterval(SWITCH_SECONDS)
    limit_bytes = runtime.memory_limit_bytes
    share_bytes = max(0, child_limit(limit_bytes, settings.worker_memory_bytes, trial.runners))
    found: list[Seen] = []
    kept, path = _Kept(trial), _journal(journal)
    began = time.monotonic()
    meeting = threading.Barrier(len(trial.lanes))

    with ExitStack() as stack:
        file = stack.enter_context(path.open("ab"))
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
                    if one.reason == "TaskTimeout":
                        return
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
    path.unlink(missing_ok=True)
    return found


def here(settings: Settings, own: Settings) -> Settings:
    """The settings with this worker's folders."""
    return replace(settings, bundles_cache_dir=own.bundles_cache_dir, venvs_dir=own.venvs_dir)


def left_behind(journal: str) -> list[Seen]:
    """What the trial of a worker that is gone wrote down."""
    path = _journal(journal)
    found = []
    with suppress(FileNotFoundError), path.open("rb") as file, suppress(EOFError, pickle.UnpicklingError):
        while True:
            found.append(pickle.load(file))
    path.unlink(missing_ok=True)
    return found


def prepare(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """Build the bundle's environment; NAME-VERSION of what it has and this process has not, or otherwise.

    Raises BadInput.
    """
    from distributed import get_worker

    settings = here(settings, get_worker().modelops.settings)
    held = bundle_here(bundle, settings.bundles_cache_dir)
    python = venv.environment(held, settings).python
    if settings.executor_environment == "image":
        return ()
    there = {path.stem for path in python.parent.parent.glob("lib/python*/site-packages/*.dist-info")}
    ours = {path.stem for place in sys.path for path in Path(place).glob("*.dist-info")}
    return tuple(sorted(there - ours))


def changed(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """packages.changed on this worker."""
    from distributed import get_worker

    settings = here(settings, get_worker().modelops.settings)
    return packages.changed(bundle_here(bundle, settings.bundles_cache_dir), settings)


def probe(
    bundle: Bundle, settings: Settings, calls: Sequence[Call], ask: Ask, seconds: float, threads: int
) -> Probed:
    """probe.run on this worker."""
    from distributed import get_worker

    settings = here(settings, get_worker().modelops.settings)
    held = bundle_here(bundle, settings.bundles_cache_dir)
    return probes.run(held, settings, calls, ask, timeout_seconds=seconds, threads=threads)


def end_worker(dask_worker: Any) -> None:
    """On a nanny: end its worker process and all that it started; the nanny starts another."""
    import psutil

    with suppress(psutil.NoSuchProcess, AttributeError):
        process = psutil.Process(dask_worker.process.pid)
        family = [process, *process.children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()


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


def _journal(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"modelops-diagnose-{os.getuid()}-{name}"


def _quiet() -> None:
    """What a model prints in this process is for nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
