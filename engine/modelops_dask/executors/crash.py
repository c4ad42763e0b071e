"""Facts about a crashing process of a model: faulthandler's report, and its memory.

    faulthandler in the process -> a socket that holds a few words -> CrashReports.read() -> Crash, report

The kernel frees a process's memory before its end is reported. faulthandler writes its report in many small
pieces to a socket that holds about six of them, so the process waits until the worker reads, and /proc shows
its state at the crash. Linux only; on other systems reports go to stderr. Reports are judged in shortage.py.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from modelops_dask.executors.mailbox import CREDENTIALS

FEW_BYTES, MANY_BYTES = 1, 1 << 20  # size of the socket; the kernel makes about 4 KiB of the former
PIECE_BYTES = 1 << 16


class Crash(NamedTuple):
    """A process at the time of its crash.

    peak_bytes is its peak resident memory. data_bytes is the memory that its limit counts (RLIMIT_DATA),
    data_limit_bytes that limit; 0: none, or not known.
    """

    pid: int
    peak_bytes: int = 0
    data_bytes: int = 0
    data_limit_bytes: int = 0


class CrashReports:
    """The reports of a runner and its forks. `crash` is the process of the last one, None before any."""

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
        """The descriptor to read reports from; -1 for none."""
        return self._socket.fileno() if self._socket else -1

    @property
    def runner_descriptor(self) -> int:
        """The descriptor to which the runner writes them; -1 for stderr."""
        return self._runner_socket.fileno() if self._runner_socket else -1

    def forget(self) -> None:
        """Prepare for another crash by discarding the rest of a report."""
        if self.crash:
            self.read()
            self.crash = None
            self._hold(FEW_BYTES)

    def read(self) -> bytes:
        """Read the available part of a report. The process, which waits, is examined at the first piece."""
        report = bytearray()
        while self._socket:
            try:
                piece, ancillary, _, _ = self._socket.recvmsg(PIECE_BYTES, socket.CMSG_SPACE(12))
            except OSError:  # no more data; or closed
                break
            report += piece
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else 0  # of struct ucred
            if self.crash is None or self.crash.pid != pid:
                self.crash = examine(pid)
                self._hold(MANY_BYTES)
        return bytes(report)

    def close(self) -> None:
        """Release waiting processes: later reports are lost."""
        for end in (self._socket, self._runner_socket):
            if end:
                end.close()

    def _hold(self, size_bytes: int) -> None:
        if self._runner_socket:
            with suppress(OSError):  # closed
                self._runner_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


def examine(pid: int) -> Crash:
    """The state of a process in /proc; only its number if that is not available."""
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
