"""What the worker processes of a pod share: a number, a file of locks, and marked processes.

Worker processes started by the same process (`dask worker`, or a LocalCluster's) form a pod, whose number is
that process's id. A runner, and every process that it starts, carries a mark in an environment variable; a
new session does not remove it. An empty environment does not either: a number derived from the mark is stored
as the soft limit of the time that a real-time process may compute without a pause. All children inherit it,
and a limit of centuries has no effect. Linux only.
"""

import fcntl
import os
import resource
import signal
import struct
import tempfile
import time
import uuid
import zlib
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path

POD = os.getppid()  # read now, because that process may end before us
MARK = "MODELOPS_RUNNER"
WORKERS = 1 << 31  # bytes of the pod's locks held by worker processes, at the offsets of their process ids
MOST_PROCESSES = 1 << 22  # the largest that Linux supports
_FLAG, _PID_BITS, _CHECK_BITS = 1 << 61, 22, 17  # microseconds: 73,000 years


class PodLocks:
    """Locks on ranges of bytes of the pod's file, which stays empty. The kernel releases those of a dead
    process.

    They belong to this object, not to the process (open file descriptions): threads also exclude each other.
    """

    TASK, PROCESS = fcntl.F_WRLCK, fcntl.F_RDLCK  # the purpose of a lock

    def __init__(self) -> None:
        """Open the file. Raises OSError if it cannot be created."""
        self._fd = os.open(_file(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._origin = POD << 32

    def lock(self, start: int, length: int = 1, kind: int = TASK) -> bool:
        """Lock a range; False if another process holds some of it."""
        try:
            self._call(fcntl.F_OFD_SETLK, kind, start, length)
        except BlockingIOError:
            return False
        return True

    def unlock(self, start: int, length: int = 1) -> None:
        self._call(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)

    def other(self, start: int, length: int) -> tuple[int, int, int] | None:
        """(kind, start, length) of an overlapping range that another process holds."""
        kind, start, length = self._call(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, start, length)
        return None if kind == fcntl.F_UNLCK else (kind, start, length)

    def register(self) -> None:
        """Announce this worker process to the pod for as long as this object is open."""
        self.lock(WORKERS + os.getpid(), kind=PodLocks.PROCESS)

    def workers(self) -> list[int]:
        """The process ids of the other registered worker processes of the pod."""
        pids: list[int] = []
        start = WORKERS
        while other := self.other(start, WORKERS + MOST_PROCESSES - start):
            _, other_start, length = other
            pids += range(other_start - WORKERS, other_start - WORKERS + length)
            start = other_start + length
        return pids

    def close(self) -> None:
        """Release all locks."""
        os.close(self._fd)

    def _call(self, command: int, kind: int, start: int, length: int) -> tuple[int, int, int]:
        flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, self._origin + start, length, 0)  # struct flock
        kind, _, start, length, _ = struct.unpack("hhqqi0q", fcntl.fcntl(self._fd, command, flock))
        return kind, start - self._origin, length


@cache
def _file() -> Path:
    namespace_id = Path("/proc/self/ns/pid").stat().st_ino  # systems on which a pod's number is defined
    return Path(tempfile.gettempdir()) / f"modelops-{os.getuid()}-{namespace_id}.locks"


def new_mark() -> str:
    """A mark for a runner of this process."""
    return f"{POD}-{os.getpid()}-{uuid.uuid4().hex}"


def brand(pid: int, mark: str) -> None:
    """Set the number of a mark on a process, which passes it to all its children in any environment."""
    with suppress(OSError, ValueError, AttributeError):  # the hard limit is lower, or this is not Linux
        _, hard = resource.prlimit(pid, resource.RLIMIT_RTTIME)
        resource.prlimit(pid, resource.RLIMIT_RTTIME, (_number(mark), hard))


def find_marked(mark: str = "") -> dict[str, list[int]]:
    """Find the processes with a mark, or with any mark of the pod: mark -> process ids."""
    prefix = f"{MARK}={mark or f'{POD}-'}".encode()
    pids_by_mark, pids_by_number = defaultdict(list), defaultdict(list)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended or belongs to another user
            environment = (process / "environ").read_bytes()
            offset = environment.find(prefix)
            if offset >= 0:
                full_mark = environment[offset + len(MARK) + 1 : environment.find(b"\0", offset)].decode()
                pids_by_mark[full_mark].append(int(process.name))
            elif number := _number_of(int(process.name)):
                pids_by_number[number].append(int(process.name))
    for full_mark in [mark] if mark else list(pids_by_mark):
        if branded_pids := pids_by_number.pop(_number(full_mark), None):
            pids_by_mark[full_mark] += branded_pids
    return dict(pids_by_mark)


def _number(mark: str) -> int:
    """The number of a mark: a flag, the pod, the worker process, and an index of the runner."""
    pod, worker = map(int, mark.split("-")[:2])
    check = zlib.crc32(mark.encode()) % (1 << _CHECK_BITS)
    return _FLAG | (pod << _PID_BITS | worker) << _CHECK_BITS | check


def _number_of(pid: int) -> int:
    """The number that brand() has set on a living process; 0 for none. Raises OSError."""
    limit = resource.prlimit(pid, resource.RLIMIT_RTTIME)[0] if hasattr(resource, "prlimit") else 0
    if limit < _FLAG or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        return 0
    return limit


def kill_marked(mark: str, timeout_seconds: float = 1.0) -> None:
    """End every process with this mark, including one that is just being started."""
    deadline = time.monotonic() + timeout_seconds
    while (pids := find_marked(mark).get(mark)) and time.monotonic() < deadline:
        kill(pids)
        time.sleep(0.001)


def kill_orphans() -> None:
    """End the runner processes of a worker process that was killed and could not end them itself."""
    for mark, pids in find_marked().items():
        if not Path("/proc", mark.split("-")[1]).exists():
            kill(pids)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pod, worker = divmod((_number_of(int(process.name)) ^ _FLAG) >> _CHECK_BITS, 1 << _PID_BITS)
            if pod == POD and not Path("/proc", str(worker)).exists():
                kill([int(process.name)])


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def held_bytes(pid: int) -> int:
    """Memory of a process, with shared memory divided among its users; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def own_bytes(pid: int) -> int:
    """Memory of a process that is not backed by files: a quick, rough held_bytes()."""
    with suppress(OSError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0
