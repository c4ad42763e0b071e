"""What a crashing process of a model still shows: faulthandler's report, and how much memory it had.

    faulthandler in the process -> a socket that holds a few words -> CrashReports.read() -> Crash, report

The kernel frees a process's memory before anybody hears that it ended. faulthandler writes its report in many
small pieces to a socket that holds about six of them, so the process waits until the worker reads, and /proc
shows it as it crashed. Linux only; elsewhere reports go to stderr. Does not judge: shortage.py does.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from modelops_dask.executors.mailbox import CREDENTIALS

FEW_BYTES, MANY_BYTES = 1, 1 << 20  # that the socket holds; the kernel makes about 4 KiB of the former
PIECE_BYTES = 1 << 16


class Crash(NamedTuple):
    """A process at the time of its crash.

    peak_bytes is the most memory that it had resident. data_bytes is what its limit of memory counts
    (RLIMIT_DATA), data_limit_bytes that limit; 0: none, or not known.
    """

    pid: int
    peak_bytes: int = 0
    data_bytes: int = 0
    data_limit_bytes: int = 0


class CrashReports:
    """The reports of a runner and of what it forks. `crash` is the last one's process, None before any."""

    def __init__(self) -> None:
        self.crash: Crash | None = None
        self._socket: socket.socket | None = None
        self._runner_socket: socket.socket | None = None
        if CREDENTIALS:
            self._socket, self._runner_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.setblocking(False)
            self._hold(FEW_BYTES)

    @property
    def descriptor(self) -> int:
        """Where reports can be read; -1 for nowhere."""
        return self._socket.fileno() if self._socket else -1

    @property
    def runner_descriptor(self) -> int:
        """Where the runner writes them; -1 for stderr."""
        return self._runner_socket.fileno() if self._runner_socket else -1

    def forget(self) -> None:
        """Make ready for another crash, without what is left of a report."""
        if self.crash:
            self.read()
            self.crash = None
            self._hold(FEW_BYTES)

    def read(self) -> bytes:
        """What is there of a report. At its first piece the process is looked at: it waits meanwhile."""
        report = bytearray()
        while self._socket:
            try:
                piece, ancillary, _, _ = self._socket.recvmsg(PIECE_BYTES, socket.CMSG_SPACE(12))
            except OSError:  # no more; or closed
                break
            report += piece
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else 0  # of struct ucred
            if self.crash is None or self.crash.pid != pid:
                self.crash = examine(pid)
                self._hold(MANY_BYTES)
        return bytes(report)

    def close(self) -> None:
        """Let nobody wait any longer: what is written from now on is lost."""
        for end in (self._socket, self._runner_socket):
            if end:
                end.close()

    def _hold(self, size_bytes: int) -> None:
        if self._runner_socket:
            with suppress(OSError):  # closed
                self._runner_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


def examine(pid: int) -> Crash:
    """A process as /proc shows it now; only its number when that shows nothing."""
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text()
        soft = limits.partition("Max data size")[2].split()[0]
        return Crash(
            pid,
            peak_bytes=_field(status, "VmHWM"),
            data_bytes=_field(status, "VmData"),
            data_limit_bytes=0 if soft == "unlimited" else int(soft),
        )
    return Crash(pid)


def _field(status: str, name: str) -> int:
    """A size of /proc/PID/status in bytes."""
    return int(status.partition(f"\n{name}:")[2].split()[0]) * 1024
