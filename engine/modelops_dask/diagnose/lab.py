"""Where trials run: Dask workers, one trial at a time, until the deadline.

Trial -> a worker that never ran the model itself -> Ran: what was seen, and how it ended

A worker that dies, hangs or has run the model in its own process is ended, and its nanny starts another. At
the deadline whatever runs is ended, with all its processes. Does not know arms: experiment.py does.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from modelops_dask.diagnose import errands, lane, room
from modelops_dask.diagnose.compare import Seen
from modelops_dask.diagnose.lane import Trial
from modelops_dask.errors import ClusterFailed, MopsError
from modelops_dask.settings import Settings
from modelops_dask.shape import SUPERVISOR_BYTES, Shape

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

WORKERS = 2  # one runs a trial while the other is being replaced
POLL_SECONDS = 0.005
LOOK_SECONDS = 0.5  # between looks at whether the worker is still there
START_SECONDS = 120.0  # that a new worker may take, on a busy machine
LEAVE_SECONDS = 5.0  # to remove what was written
ANSWER_SECONDS = 10.0  # to fetch a result that is there


class OutOfTime(Exception):
    """The deadline has come."""


class Lost(Exception):
    """The worker died under a call."""


@dataclass(frozen=True)
class Ran:
    """What a trial came to. ended: done; lost (the worker died); late (it took longer than it might)."""

    seen: tuple[Seen, ...]
    ended: str
    seconds: float


@contextmanager
def workers(
    shape: Shape,
    settings: Settings,
    dask_config: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator["Client"]:
    """Workers on this machine for diagnose(), each with the memory that `shape` gives a process of a pod.

    They have no executor of their own: every trial brings its own. ClusterFailed when none starts.
    """
    from modelops_dask.local import local_cluster

    own = Shape(1, WORKERS, 1, WORKERS * shape.process_memory_bytes + SUPERVISOR_BYTES)
    plain = replace(settings, preset="", executor_type="none", seed_globals=False)
    with local_cluster(own, plain, dask_config, env) as client:
        yield client


class Lab:
    """Runs trials and calls on the workers of a client. Used as a `with`: nothing runs on afterwards.

    Once stopped() is true, every call raises KeyboardInterrupt.
    """

    def __init__(self, client: "Client", budget_seconds: float, stopped: Callable[[], bool]) -> None:
        self._client = client
        self._stopped = stopped
        self.started = time.monotonic()
        self.deadline = self.started + budget_seconds
        self._room = uuid.uuid4().hex
        self._running: tuple[str, Future] | None = None

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = lambda: False  # what is left behind is removed all the same
        if self._running:
            self._end(*self._running)
        with suppress(OutOfTime, TimeoutError, Lost, ClusterFailed, OSError):
            self._call(LEAVE_SECONDS, room.leave, grace_seconds=self.elapsed() + LEAVE_SECONDS)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self.deadline - time.monotonic())

    def run(self, trial: Trial, limit_seconds: float) -> Ran:
        """Run a trial; after limit_seconds, or at the deadline, it is ended. Raises OutOfTime when nothing
        can begin any more, and BadInput as lane.run.
        """
        began = time.monotonic()
        ended = "done"
        try:
            found = self._call(limit_seconds, lane.run, trial)
        except TimeoutError:
            ended = "late"
        except Lost:
            ended = "lost"
        except MopsError:
            raise
        except Exception:  # the model may have broken its own process
            if not trial.in_process:
                raise
            ended = "lost"
        seconds = time.monotonic() - began
        if ended != "done":
            try:
                found = self._call(ANSWER_SECONDS, lane.left_behind, grace_seconds=ANSWER_SECONDS)
            except (OutOfTime, TimeoutError, Lost):
                found = []
        return Ran(tuple(found), ended, seconds)

    def call(self, function: Callable[..., T], *args: Any, limit_seconds: float) -> T:
        """function(room, *args) on a worker. Raises OutOfTime, TimeoutError after limit_seconds, Lost, and
        what it raises.
        """
        return self._call(limit_seconds, function, *args)

    def _call(
        self, limit_seconds: float, function: Callable[..., T], *args: Any, grace_seconds: float = 0.0
    ) -> T:
        """grace_seconds: how long after the deadline it may still end."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        deadline = self.deadline + grace_seconds
        address = self._worker(deadline)
        until = min(time.monotonic() + limit_seconds, deadline)
        future = self._client.submit(
            function, self._room, *args, workers=[address], allow_other_workers=False, pure=False, retries=0
        )
        self._running = address, future
        looked = time.monotonic()
        while not future.done():
            self._wait(POLL_SECONDS)
            now = time.monotonic()
            if now > until:
                self._end(address, future)
                raise TimeoutError(f"{function.__name__} took longer than {limit_seconds:.0f} s")
            if now - looked > LOOK_SECONDS:
                looked = now
                if address not in self._addresses():
                    self._end(address, future)
                    raise Lost(address)
        try:
            return future.result(timeout=ANSWER_SECONDS)
        except (TimeoutError, CancelledError, KilledWorker):
            raise Lost(address) from None
        finally:
            self._running = None
            if args and getattr(args[0], "in_process", False):  # the model was here
                self._end(address, future)

    def _worker(self, deadline: float) -> str:
        """A worker, once there is one. Raises OutOfTime, ClusterFailed."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if found := self._addresses():
                return found[0]
            if time.monotonic() > until:
                raise ClusterFailed(f"no Dask worker started within {START_SECONDS:.0f} seconds")
            self._wait(10 * POLL_SECONDS)
        raise OutOfTime

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._stopped():
            raise KeyboardInterrupt

    def _addresses(self) -> list[str]:
        return list(self._client.nthreads())

    def _end(self, address: str, future: "Future") -> None:
        """End a worker and all that it runs; return when the scheduler knows."""
        self._running = None
        future.release()
        if address in self._addresses():
            with suppress(KeyError):  # it has left just now
                self._client.run(errands.end_worker, nanny=True, workers=[address], on_error="ignore")
        until = time.monotonic() + LOOK_SECONDS
        while address in self._addresses() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
