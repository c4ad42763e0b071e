"""The zygote's side of one forked child: send, receive, wait, signal, end.

Whoever forks a child ends it with end(), which leaves no process of its group, no zombie and no descriptor,
and then what the child started in other groups with Orphans.end().
Does not fork, and does not know tasks: zygote.py does. Standard library only: it is loaded by path.
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

LOOK_SECONDS = 0.5  # how often a silent child is looked after: a child of its may hold its socket open
GRACE_SECONDS = 1  # from asking to killing
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class Overdue(Exception):
    """A child did not say anything in time."""


class Child:
    """A forked process: what it says, and its end."""

    def __init__(self, pid: int, connection: socket.socket, mail: Mailbox, lifeline_fd: int) -> None:
        """mail is the mailbox of the connection."""
        self.pid, self._connection, self._mail, self._lifeline_fd = pid, connection, mail, lifeline_fd

    def send(self, message: bytes, seconds: float | None) -> None:
        """Write a message, its length in front. Raises Overdue; a child that is gone shows in receive()."""
        self._connection.settimeout(seconds)
        try:
            self._connection.sendall(len(message).to_bytes(8, "big") + message)
        except socket.timeout:  # noqa: UP041 (Python 3.9)
            raise Overdue from None
        except OSError:
            return

    def receive(self, its_turn: bytes, seconds: float) -> bytes | None:
        """Its answer of a turn, as it came; None once it has ended or closed its socket.

        Raises Overdue, and OutOfTurn for anything else that comes.
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
        """Whether it ends by itself within this time."""
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
        """Kill what is left of its group. (exit status, or less the signal; highest resident bytes)."""
        self.signal(signal.SIGKILL)  # before it is reaped: its number cannot belong to anybody else yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may have joined another group
        _, status, usage = os.wait4(self.pid, 0)
        self.forget()
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024

    def forget(self) -> None:
        """Close what this process has of it; all that another child does with what it inherited."""
        self._connection.close()
        os.close(self._lifeline_fd)

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class Orphans:
    """What children leave running in groups of their own; when they end, it becomes this process's."""

    def __init__(self) -> None:
        """Call it where there is one thread. Where the kernel does not list children, nothing is done."""
        self._list = Path(f"/proc/self/task/{os.getpid()}/children")
        self._expected: set[int] = set()
        if self._list.exists():
            with contextlib.suppress(ImportError, OSError):
                importlib.import_module("ctypes").CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)

    def expect(self) -> None:
        """Leave alone what there is now: importing the model started it."""
        self._expected = self._found()

    def end(self, spare: int | None) -> None:
        """Kill and reap all but the spare child, and what that leaves behind in turn."""
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
