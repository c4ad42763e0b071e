"""Which of the changes that tasks left in this process decide a later task's result: undo one, and try.

    Changes(bundle, run, seconds) -> tasks run -> found() -> [(where, name, before, after, decides)]

A try is a fork of this process in which changes are undone and the later task, the victim, is run; the
process itself stays as it is. `decides` is None where a change cannot be undone, or where forks do not show
what the processes of the experiment showed.
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

from modelops_dask.diagnose.inside import tracing
from modelops_dask.diagnose.inside.snapshot import OF_PYTHON, Snapshot
from modelops_dask.diagnose.inside.surroundings import Surroundings

LOOK_SECONDS = 5.0  # for a walk over all objects
MOST_TRIED, MOST_TOLD = 24, 12
AROUND = 0.5  # between what the bundle holds and what packages hold
GRACE_SECONDS, TIMES = 5.0, 20  # a try may take so long, or so many times the first one

Told = tuple  # (where, name, before, after, decides)


class Changes:
    """What the tasks after this was made, and before found(), change."""

    def __init__(self, bundle: str, run: Callable[[], Any], seconds: float) -> None:
        """run() runs the victim and returns its runner.Answer. found() ends within about so many seconds."""
        self._bundle, self._run, self._deadline = bundle, run, time.monotonic() + seconds
        self._limit_seconds = seconds / 4
        started = time.monotonic()
        self._reference, modules = self._try([]) or (None, ())
        self._limit_seconds = max(GRACE_SECONDS, TIMES * (time.monotonic() - started))
        for name in modules:  # or all that they hold would be new
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
        self._snapshot = Snapshot(LOOK_SECONDS)
        self._surroundings = Surroundings()
        self._files = self._watch_files()

    def found(self) -> list[Told]:
        """Those that decide first, then the bundle's own; where none can be seen to, what else may."""
        inside = self._snapshot.changes()
        around = [(*change, AROUND) for change in (*self._surroundings.changes(), *self._written())]
        changes = sorted([*inside, *around], key=lambda change: change[5])
        decides = self._decisive(changes)
        told = [(*change[:4], decides.get(number)) for number, change in enumerate(changes)]
        if decisive := [number for number, alone in decides.items() if alone]:
            nearest = changes[decisive[0]][5]
            near = [number for number in decisive if changes[number][5] <= max(nearest, AROUND)]
            return [told[number] for number in near[:MOST_TOLD]]
        native = [("native code", words, "", "", None) for words in self._snapshot.unseen()]
        models = [one for one, change in zip(told, changes) if change[5] < OF_PYTHON]  # noqa: B905 (Python 3.9)
        return [*models[:MOST_TOLD], *native[:MOST_TOLD]]

    def _decisive(self, changes: list) -> dict[int, bool]:
        """By a change's number: whether the victim's result is that of a new process once it is undone, or
        is not once all but it are undone. Empty: it cannot be told.
        """
        undoable = [number for number, change in enumerate(changes) if change[4]][:MOST_TRIED]
        if self._reference is None or self._result([], changes) in (None, self._reference):
            return {}
        if self._result(undoable, changes) != self._reference:
            return {}
        alone = {number: self._result([number], changes) for number in undoable}
        decides = {number: result == self._reference for number, result in alone.items() if result}
        if not any(decides.values()):
            rests = {number: [other for other in undoable if other != number] for number in undoable}
            results = {number: self._result(rest, changes) for number, rest in rests.items()}
            decides = {number: result != self._reference for number, result in results.items() if result}
        return decides

    def _watch_files(self) -> tracing.Trace:
        trace = tracing.Trace(self._bundle, frozen=False, shifted="")
        sys.addaudithook(trace.audit)
        return trace

    def _written(self) -> Iterator[tuple]:
        """Files that were written, as changes."""
        for path, before in self._files.written().items():
            after = tracing.content(path)
            if after != before and (after is not None or not Path(path).exists()):
                texts = ("not there" if one is None else f"{len(one)} bytes" for one in (before, after))
                yield ("file", path, *texts, partial(tracing.restore, {path: before}))

    def _result(self, undone: list[int], changes: list) -> bytes | None:
        tried = self._try([changes[number][4] for number in undone])
        return tried and tried[0]

    def _try(self, undo: list[Callable[[], object]]) -> tuple[bytes, tuple[str, ...]] | None:
        """In a fork: the digest of the victim's result, and what modules it imported; None: it failed."""
        left = min(self._deadline - time.monotonic(), self._limit_seconds)
        if left <= 0:
            return None
        theirs, ours = os.pipe()
        state = random.getstate()  # Python seeds it anew in a fork
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                files = self._watch_files()
                random.setstate(state)
                for one in undo:
                    with contextlib.suppress(Exception):
                        one()
                loaded = set(sys.modules)
                result = _digest(self._run())
                modules = tuple(name for name in sys.modules if name not in loaded)
                os.write(ours, pickle.dumps(((result, modules), files.written())))
            os._exit(0)
        os.close(ours)
        data = _read(theirs, time.monotonic() + left)
        os.close(theirs)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            said, written = pickle.loads(data)
        except (EOFError, pickle.UnpicklingError):
            return None
        tracing.restore(written)
        return said


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
