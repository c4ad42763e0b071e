"""driver.json: the process that runs a study, for `status`, and to refuse a second run.

    a run -> Presence: driver.json written, refreshed every few seconds, removed at its end
                           (of a chunk: driver-I.json)
    another shell -> find_running() -> RunningDriver;   a second run on the same machine -> AlreadyRunning

A killed run leaves its record. If it was merging parts or writing tables then, memory is the likely reason,
and the next run reads that: Presence.killed.

It is advisory: two concurrent runs of one study end with correct results, they only do some work twice. So
nothing here is a lock; a driver on another machine is not refused, because its clock and its end cannot be
judged from here; and an unreadable file means that no driver is running.
"""

import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from types import TracebackType

import psutil

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.limits import cgroup
from modelops_dask.store.files import Store
from modelops_dask.study.progress import Progress

FILE = "driver.json"
REFRESH_SECONDS = 5.0
STALE_SECONDS = 60.0  # without a refresh: paused, disconnected, or ended
GONE_SECONDS = 3 * REFRESH_SECONDS  # interval in which a live run on another machine shows itself
WRITING = ("merging", "compacting")  # phases whose memory grows with the study
BEGAN_SECONDS = 5.0  # by which setting the clock may move the start of a process


@dataclass(frozen=True)
class RunningDriver:
    """A process that runs a study. Times are seconds since the epoch, by its own clock.

    `began` is when the process itself started, because process numbers are reused. The fields are keys of
    driver.json and of `study status -o json`.
    """

    host: str
    pid: int
    began: float
    started: float  # the run
    seen: float
    phase: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0  # tasks per second
    eta_seconds: float | None = None
    memory_bytes: int = 0  # its memory limit; 0: not known
    stopping: bool = False  # asked to end

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """As far as can be determined: refreshed recently and, on this machine, an existing process."""
        if time.time() - self.seen > STALE_SECONDS:
            return False
        began = _read_start_time(self.pid) if self.here else self.began
        return began is not None and abs(began - self.began) < BEGAN_SECONDS


class AlreadyRunning(BadInput):
    """Another process of this machine runs the study."""

    def __init__(self, store_location: str, driver: RunningDriver) -> None:
        self.store_location, self.driver = store_location, driver
        super().__init__(store_location, driver)

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.driver.started))
        pid = self.driver.pid
        return (
            f"{self.store_location} is being run by process {pid} of this machine, since {since}. "
            f"Watch it:  mops-helm study status {shlex.quote(self.store_location)}\n"
            "To run it here instead, end that process first (Ctrl-C, or kill): stored results are safe."
        )


def find_running(store: Store, file: str = FILE) -> RunningDriver | None:
    """Return the process that runs the study of a store now."""
    driver = read_record(store, file)
    return driver if driver and driver.alive else None


def read_record(store: Store, file: str = FILE) -> RunningDriver | None:
    """Return the process that runs the study of a store, or that was killed while it did; else None."""
    names = {field.name for field in fields(RunningDriver)}
    try:
        content = json.loads(store.read(file)).items()
        return RunningDriver(**{name: value for name, value in content if name in names})
    except (OSError, MopsError, ValueError, TypeError, AttributeError):
        return None


def memory_bytes() -> int:
    """The memory limit of this process; 0 if not known."""
    try:
        return cgroup.memory().limit_bytes if sys.platform == "linux" else 0
    except OSError:
        return 0


class Presence:
    """Keeps driver.json during a `with`; AlreadyRunning if a process of this machine has it.

    Chunks of a study, by number, do not exclude each other. A store that cannot be written is not an error
    here: later writes report it.

    Attributes:
        killed: The record of an earlier run that was killed while it merged or wrote tables, or None.
        note: Receives a message on a run on another machine.
        stopping: Returns whether this run was asked to end.
        waits: Whether to wait to find out if a run on another machine is alive.
    """

    def __init__(
        self,
        store: Store,
        note: Callable[[str], None] = lambda _: None,
        chunk: int | None = None,
        *,
        stopping: Callable[[], bool] = lambda: False,
        waits: bool = False,
    ) -> None:
        self._store, self._note, self._stopping, self._waits = store, note, stopping, waits
        self.killed: RunningDriver | None = None
        self._lock = threading.Lock()
        self._file = FILE if chunk is None else f"driver-{chunk}.json"
        now = time.time()
        pid = os.getpid()
        began = _read_start_time(pid)
        assert began is not None, "of this process"
        self.driver = RunningDriver(
            host=socket.gethostname(),
            pid=pid,
            began=began,
            started=now,
            seen=now,
            memory_bytes=memory_bytes(),
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="modelops-presence", daemon=True)

    def __enter__(self) -> "Presence":
        before = read_record(self._store, self._file)
        other = before if before and before.alive else None
        if other and other.here:
            raise AlreadyRunning(self._store.location(), other)
        if before and before.phase in WRITING and not before.stopping and self._is_gone(before):
            self.killed, other = before, None
        if other:
            seconds_ago = max(0.0, time.time() - other.seen)
            self._note(
                f"{other.host} ran this study {seconds_ago:.0f} s ago. If it is still running, both "
                "runs end with correct results, but some tasks run twice"
            )
        self._put()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        last = find_running(self._store, self._file)
        if last is None or (last.here and last.pid == self.driver.pid):
            with suppress(OSError, MopsError):
                self._store.remove(self._file)

    def phase(self, name: str) -> None:
        """The current phase of the run."""
        self.driver = replace(self.driver, phase=name)
        if name in WRITING:  # it may be killed before the next refresh
            self._put()

    def _is_gone(self, before: RunningDriver) -> bool:
        """Whether a run has ended, as far as can be determined; another machine's clock is not enough."""
        if not before.alive:
            return True
        deadline = time.monotonic() + (GONE_SECONDS if self._waits else 0)
        while time.monotonic() < deadline:
            time.sleep(REFRESH_SECONDS / 5)
            now = read_record(self._store, self._file)
            if now is None or now.seen != before.seen:
                return False
        return self._waits

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        self.driver = replace(
            self.driver,
            done=progress.done,
            total=progress.total,
            rate=progress.rate,
            eta_seconds=progress.eta_seconds,
        )

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            self._put()

    def _put(self) -> None:
        with self._lock, suppress(OSError, MopsError):
            now = replace(self.driver, seen=time.time(), stopping=self._stopping())
            self._store.put(self._file, json.dumps(asdict(now), indent=1).encode())


def _read_start_time(pid: int) -> float | None:
    """When a process started; None if it does not exist."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
