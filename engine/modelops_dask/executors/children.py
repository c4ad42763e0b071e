"""The zygote's side of one forked child: send, receive, wait, signal, end.

The process that forks a child ends it with end(), which leaves no process of its group, no zombie and no
descriptor, and then the processes that the child started in other groups with Orphans.end(). Forking and
tasks are handled in zygote.py. This module uses only the standard library, because it is loaded by path.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelops_dask.executors.mailbox import Mailbox

LOOK_SECONDS = 0.5  # interval of checks on a silent child: one of its children may hold its socket open
GRACE_SECONDS = 1  # seconds between asking and killing
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class Overdue(Exception):
    """A child did not answer in time."""


class Child:
    """A forked process: its messages and its end."""

    def __init__(self, pid: int, connection: socket.socket, mail: Mailbox, lifeline_fd: int) -> None:
        """Take over a child; mail is the mailbox of the connection."""
        self.pid, self._connection, self._mail, self._lifeline_fd = pid, connection, mail, lifeline_fd

    def send(self, message: bytes, seconds: float | None) -> None:
        """Write a message after its length. Raises Overdue; receive() reports a child that has ended."""
        self._connection.settimeout(seconds)
        try:
            self._connection.sendall(len(message).to_bytes(8, "big") + message)
        except socket.timeout:  # noqa: UP041 (Python 3.9)
            raise Overdue from None
        except OSError:
            return

    def receive(self, its_turn: bytes, seconds: float) -> bytes | None:
        """Its answer of a turn, unparsed; None once it has ended or closed its socket.

        Raises Overdue, and OutOfTurn for anything else that arrives.
        """
        deadline = time.monotonic() + seconds
        while (frame := self._mail.frame(its_turn)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Overdue
            self._connection.settimeout(min(LOOK_SECONDS, left))
            try:
                if not self._mail.read():
                    return None
            except socket.timeout:  # noqa: UP041 (Python 3.9)
                if self.has_ended():
                    return None
            except OSError:
                return None
        return frame

    def wait(self, seconds: float) -> bool:
        """Whether it ends on its own within this time."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> tuple[int, int]:
        """Kill the rest of its group. Returns (exit status, or minus the signal; highest resident bytes)."""
        self.signal(signal.SIGKILL)  # before it is reaped, while its number cannot be reused
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may have joined another group
        _, status, usage = os.wait4(self.pid, 0)
        self.forget()
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024

    def forget(self) -> None:
        """Close this process's descriptors of it; another child does only this with inherited ones."""
        self._connection.close()
        os.close(self._lifeline_fd)

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class Orphans:
    """Processes that children leave running in their own groups; they become children of this process."""

    def __init__(self) -> None:
        """Call it while there is one thread. It has no effect if the kernel does not list children."""
        self._list = Path(f"/proc/self/task/{os.getpid()}/children")
        self._expected: set[int] = set()
        if self._list.exists():
            with contextlib.suppress(ImportError, OSError):
                importlib.import_module("ctypes").CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)

    def expect(self) -> None:
        """Ignore the current processes: importing the model started them."""
        self._expected = self._found()

    def end(self, spare: int | None) -> None:
        """Kill and reap all except the spare child, and repeatedly what that leaves behind."""
        deadline = time.monotonic() + GRACE_SECONDS
        while (pids := self._found() - self._expected - {spare}) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _found(self) -> set[int]:
        try:
            return set(map(int, self._list.read_text().split()))
        except OSError:
            return set()
