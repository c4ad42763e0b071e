"""Find which changes that tasks left in this process affect a later task's result: undo one, and try.

    Changes(bundle, run, seconds) -> tasks run -> list_changes() -> [(holder, name, before, after, decides)]

A try is a fork of this process in which changes are undone and the later task, the victim, is run; the
process itself does not change. `decides` is None if a change cannot be undone, or if forks do not show the
differences between the experiment's processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from modelops_dask.diagnose.trials.inside import tracing
from modelops_dask.diagnose.trials.inside.process_state import ProcessState
from modelops_dask.diagnose.trials.inside.snapshot import Snapshot
from modelops_dask.diagnose.trials.inside.state_change import OF_PROCESS, OF_PYTHON, StateChange

LOOK_SECONDS = 5.0  # for a walk over all objects
MOST_TRIED, MOST_REPORTED = 24, 12
GRACE_SECONDS, TIMES = 5.0, 20  # limit of a try, and multiple of the first one

ChangeReport = tuple[str, str, str, str, "bool | None"]  # (holder, name, before, after, decides)


class Changes:
    """The changes by tasks that run between its creation and list_changes()."""

    def __init__(self, bundle: str, run: Callable[[], Any], seconds: float) -> None:
        """Prepare; run() runs the victim and returns its runner.Answer. list_changes() takes about
        `seconds`.
        """
        self._bundle, self._run, self._deadline = bundle, run, time.monotonic() + seconds
        self._limit_seconds = seconds / 4
        started = time.monotonic()
        reference = self._run_in_fork([])
        self._reference: bytes | None = reference[0] if reference else None
        self._limit_seconds = max(GRACE_SECONDS, TIMES * (time.monotonic() - started))
        for name in reference[1] if reference else ():  # otherwise their contents would be new
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
        self._snapshot = Snapshot(LOOK_SECONDS)
        self._process_state = ProcessState()
        self._files = self._watch_files()

    def list_changes(self) -> list[ChangeReport]:
        """The changes that decide, the bundle's own first. If none is known to decide, all that may."""
        changes = [
            *self._snapshot.list_changes(),
            *self._process_state.list_changes(),
            *self._find_file_changes(),
        ]
        changes.sort(key=lambda change: change.owner)
        decides = self._find_decisive(changes)
        if decisive := [number for number, alone in decides.items() if alone]:
            farthest = max(changes[decisive[0]].owner, OF_PROCESS)
            near = [number for number in decisive if changes[number].owner <= farthest]
            return [_report(changes[number], decides[number]) for number in near[:MOST_REPORTED]]
        of_model = [
            _report(change, decides.get(number))
            for number, change in enumerate(changes)
            if change.owner < OF_PYTHON
        ]
        native: list[ChangeReport] = [
            ("native code", description, "", "", None) for description in self._snapshot.describe_unreadable()
        ]
        return [*of_model[:MOST_REPORTED], *native[:MOST_REPORTED]]

    def _find_decisive(self, changes: list[StateChange]) -> dict[int, bool]:
        """By a change's number: whether the victim's result is that of a new process once it is undone, or is
        not once all others are undone.

        Empty if that cannot be determined.
        """
        undoable = [number for number, change in enumerate(changes) if change.undo][:MOST_TRIED]
        if self._reference is None or self._run_without([], changes) in (None, self._reference):
            return {}
        if self._run_without(undoable, changes) != self._reference:
            return {}
        alone = {number: self._run_without([number], changes) for number in undoable}
        decides = {number: result == self._reference for number, result in alone.items() if result}
        if not any(decides.values()):
            rests = {number: [other for other in undoable if other != number] for number in undoable}
            results = {number: self._run_without(rest, changes) for number, rest in rests.items()}
            decides = {number: result != self._reference for number, result in results.items() if result}
        return decides

    def _watch_files(self) -> tracing.Trace:
        trace = tracing.Trace(self._bundle, frozen=False, shifted="")
        sys.addaudithook(trace.audit)
        return trace

    def _find_file_changes(self) -> Iterator[StateChange]:
        """Files that were written, as changes."""
        for path, before in self._files.files_before().items():
            after = tracing.read_content(path)
            if after != before and (after is not None or not Path(path).exists()):
                yield StateChange(
                    holder="file",
                    name=path,
                    before=_describe_size(before),
                    after=_describe_size(after),
                    undo=partial(tracing.restore_files, {path: before}),
                    owner=OF_PROCESS,
                )

    def _run_without(self, numbers: list[int], changes: list[StateChange]) -> bytes | None:
        """The digest of the victim's result with the changes of these numbers undone."""
        restores = [changes[number].undo for number in numbers]
        outcome = self._run_in_fork([restore for restore in restores if restore])
        return outcome[0] if outcome else None

    def _run_in_fork(self, restores: list[Callable[[], object]]) -> tuple[bytes, tuple[str, ...]] | None:
        """In a fork: the digest of the victim's result, and the modules that it imported; None: it failed."""
        left = min(self._deadline - time.monotonic(), self._limit_seconds)
        if left <= 0:
            return None
        read_end, write_end = os.pipe()
        state = random.getstate()  # Python reseeds it in a fork
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                files = self._watch_files()
                random.setstate(state)
                for restore in restores:
                    with contextlib.suppress(Exception):
                        restore()
                loaded = set(sys.modules)
                result = _digest(self._run())
                modules = tuple(name for name in sys.modules if name not in loaded)
                os.write(write_end, pickle.dumps(((result, modules), files.files_before())))
            os._exit(0)
        os.close(write_end)
        data = _read(read_end, time.monotonic() + left)
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            outcome, files_before = pickle.loads(data)
        except (EOFError, pickle.UnpicklingError):
            return None
        tracing.restore_files(files_before)
        return outcome


def _report(change: StateChange, decides: bool | None) -> ChangeReport:
    return change.holder, change.name, change.before, change.after, decides


def _describe_size(content: bytes | None) -> str:
    return "absent" if content is None else f"{len(content)} bytes"


def _digest(answer: Any) -> bytes:
    parts = (answer.status, answer.reason, sorted(answer.outputs.items()))
    return hashlib.sha256(repr(parts).encode()).digest()


def _read(descriptor: int, deadline: float) -> bytes:
    data = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        data += chunk
    return data
