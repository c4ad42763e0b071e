"""Run trials on Dask workers, one at a time, until the deadline.

Trial -> a worker that never ran the model itself -> TrialResult: runs of tasks, and how the trial ended

A worker that dies, hangs or has run the model in its own process is ended, and its nanny starts another. At
the deadline all running work is ended, with all its processes. Arms are not known here: experiment.py knows
them.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from modelops_dask.diagnose.trials import work_folder, worker_calls
from modelops_dask.diagnose.trials.trial import Trial, read_journal, run_trial
from modelops_dask.diagnose.verdict.comparison import TaskRun
from modelops_dask.errors import ClusterFailed, MopsError
from modelops_dask.settings import Settings
from modelops_dask.shape import SUPERVISOR_BYTES, Shape

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

WORKERS = 2  # one runs a trial while the other is being replaced
POLL_SECONDS = 0.005
LOOK_SECONDS = 0.5  # between checks for the worker
START_SECONDS = 120.0  # for the start of a new worker, on a busy machine
LEAVE_SECONDS = 5.0  # for removing files
ANSWER_SECONDS = 10.0  # for fetching an available result
GRACE_SHARE = 0.03  # share of the budget, at most, that each of the two takes after the deadline


class OutOfTime(Exception):
    """The deadline has passed."""


class WorkerLost(Exception):
    """The worker died during a call."""


@dataclass(frozen=True)
class TrialResult:
    """The runs of a trial's tasks, and how it ended: done, lost (the worker died), late (out of time)."""

    task_runs: tuple[TaskRun, ...]
    ending: Literal["done", "lost", "late"]
    seconds: float


@contextmanager
def workers(
    shape: Shape,
    settings: Settings,
    dask_config: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator["Client"]:
    """Workers on this machine for diagnose(), each with the memory that `shape` gives a process of a pod.

    They have no executor: every trial brings its own. Raises ClusterFailed if none starts.
    """
    from modelops_dask.workers.local import local_cluster

    cluster_shape = Shape(1, WORKERS, 1, WORKERS * shape.process_memory_bytes + SUPERVISOR_BYTES)
    plain = replace(settings, preset="", executor_type="none", seed_globals=False)
    with local_cluster(cluster_shape, plain, dask_config, env) as client:
        yield client


class TrialWorkers:
    """Runs trials and calls on the workers of a client. Used in a `with`, after which nothing keeps running.

    Once stopped() is true, every call raises KeyboardInterrupt.
    """

    def __init__(self, client: "Client", budget_seconds: float, stopped: Callable[[], bool]) -> None:
        self._client = client
        self._is_stopped = stopped
        self.budget_seconds = budget_seconds
        self.started = time.monotonic()
        self.deadline = self.started + budget_seconds
        self._folder_name = uuid.uuid4().hex
        self._running: tuple[str, Future] | None = None

    def __enter__(self) -> "TrialWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = lambda: False  # leftovers are removed in any case
        if self._running:
            self._end(*self._running)
        with suppress(OutOfTime, TimeoutError, WorkerLost, ClusterFailed, OSError):
            grace_seconds = self._grace(LEAVE_SECONDS)
            self._call(grace_seconds, work_folder.leave, grace_seconds=self.elapsed_seconds() + grace_seconds)

    def _grace(self, seconds: float) -> float:
        return max(1.0, min(seconds, GRACE_SHARE * self.budget_seconds))

    def elapsed_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def remaining_seconds(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self.deadline - time.monotonic())

    def run(self, trial: Trial, limit_seconds: float) -> TrialResult:
        """Run a trial; after limit_seconds, or at the deadline, it is ended.

        Raises OutOfTime if nothing can start any longer, and BadInput as run_trial().
        """
        began = time.monotonic()
        ending: Literal["done", "lost", "late"] = "done"
        try:
            task_runs = self._call(limit_seconds, run_trial, trial)
        except TimeoutError:
            ending = "late"
        except WorkerLost:
            ending = "lost"
        except MopsError:
            raise
        except Exception:  # the model may have damaged its own process
            if not trial.in_process:
                raise
            ending = "lost"
        seconds = time.monotonic() - began
        if ending != "done":
            grace_seconds = self._grace(ANSWER_SECONDS)
            try:
                task_runs = self._call(grace_seconds, read_journal, grace_seconds=grace_seconds)
            except (OutOfTime, TimeoutError, WorkerLost):
                task_runs = []
        return TrialResult(tuple(task_runs), ending, seconds)

    def call(
        self, function: Callable[..., T], *arguments: object, limit_seconds: float, **keywords: object
    ) -> T:
        """Run function(folder name, *arguments, **keywords) on a worker.

        Raises OutOfTime, TimeoutError after limit_seconds, WorkerLost, and errors of the function.
        """
        return self._call(limit_seconds, partial(function, **keywords) if keywords else function, *arguments)

    def _call(
        self, limit_seconds: float, function: Callable[..., T], *arguments: object, grace_seconds: float = 0.0
    ) -> T:
        """Call a worker; grace_seconds: how long after the deadline it may still end."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        deadline = self.deadline + grace_seconds
        address = self._wait_for_worker(deadline)
        until = min(time.monotonic() + limit_seconds, deadline)
        future = self._client.submit(
            function,
            self._folder_name,
            *arguments,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._running = address, future
        looked = time.monotonic()
        while not future.done():
            self._wait(POLL_SECONDS)
            now = time.monotonic()
            if now > until:
                self._end(address, future)
                raise TimeoutError(f"the call took longer than {limit_seconds:.0f} s")
            if now - looked > LOOK_SECONDS:
                looked = now
                if address not in self._addresses():
                    self._end(address, future)
                    raise WorkerLost(address)
        try:
            return future.result(timeout=ANSWER_SECONDS)
        except (TimeoutError, CancelledError, KilledWorker):
            raise WorkerLost(address) from None
        finally:
            self._running = None
            if any(isinstance(argument, Trial) and argument.in_process for argument in arguments):
                # The model ran in the worker's own process.
                self._end(address, future)

    def _wait_for_worker(self, deadline: float) -> str:
        """Wait for a worker and return it. Raises OutOfTime, ClusterFailed."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if addresses := self._addresses():
                return addresses[0]
            if time.monotonic() > until:
                raise ClusterFailed(f"no Dask worker started within {START_SECONDS:.0f} seconds")
            self._wait(10 * POLL_SECONDS)
        raise OutOfTime

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._is_stopped():
            raise KeyboardInterrupt

    def _addresses(self) -> list[str]:
        return list(self._client.nthreads())

    def _end(self, address: str, future: "Future") -> None:
        """End a worker and all its processes; return when the scheduler knows."""
        self._running = None
        future.release()
        if address in self._addresses():
            with suppress(KeyError):  # it has just left
                self._client.run(worker_calls.end_worker, nanny=True, workers=[address], on_error="ignore")
        until = time.monotonic() + LOOK_SECONDS
        while address in self._addresses() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
