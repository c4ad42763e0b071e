"""Whether the first failures of a study have a common cause, so that continuing would be useless.

failures and completions -> CommonCause -> DoesNotStart or FailsAlike (exit status 4), until a task of the
study has ended ok

A process that fails before the model's function is called is conclusive after two attempts, on two workers if
there are two. For failures of the model, scouts are chosen at the first one: that task and four evenly spaced
others (all, if fewer). When every scout has used up its attempts and failed with the same type in the same
line, the others would fail too. Transient failures use up four attempts, with pauses.

No decision is made while other tasks run, because one of them may end ok: dispatch.py waits for them, and
then reads the store, because other chunks and earlier runs write to it too.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from modelops_dask.errors import Stopped
from modelops_dask.store import parts
from modelops_dask.store.failures import START, telling_lines
from modelops_dask.store.files import Store
from modelops_dask.study.batch import Failed

SCOUTS = 5
STARTS = 2  # that failed
# Ways in which the model may end its own process; signals 9 and 15 come from outside, or from the kernel.
_ENDS = ("killed by signal ", "exited with status ", "connection closed")
_BY_OTHERS = ("killed by signal 9", "killed by signal 15")


@dataclass
class FailsAlike(Stopped):
    """All scouts failed alike. `message` and `line` (FILE:LINE) are of task `task` (SET/REPLICATE); `hint` is
    a possible cause, and `flags` are those of the command that chose the workers; the caller sets both.
    """

    tasks: int
    sets: int
    reason: str
    message: str
    line: str
    task: str
    pending: int
    store_url: str
    hint: str = ""
    flags: str = ""

    @property
    def explanation(self) -> str:
        """What happened, in a sentence."""
        sets = "one parameter set" if self.sets == 1 else f"{self.sets} parameter sets from the whole study"
        return (
            f"{self.tasks} tasks, of {sets}, failed in the same way, and no task of the study has succeeded."
        )

    def __str__(self) -> str:
        where = f" ({self.line})" if self.line else ""
        lines = [
            f"Stopped: {self.explanation}",
            f"  {self.message}{where}",
            *filter(None, [self.hint]),
            f"{self.pending:,} tasks are pending; stored results are safe. To reproduce one of the failures:",
            f"  mops-helm study try {shlex.quote(self.store_url)} --task {self.task} {self.flags}".rstrip(),
            "Then correct the model or the study file, and run the study again.",
        ]
        return "\n".join(lines)


@dataclass
class DoesNotStart(FailsAlike):
    """The model's process failed before its function was called. `tasks` are attempts."""

    workers: int = 1

    @property
    def explanation(self) -> str:
        workers = "the only worker" if self.workers == 1 else f"{self.workers} workers"
        return (
            f"the model does not start. {self.tasks} processes, on {workers}, failed before the model's "
            "function was called, and no task of the study has succeeded."
        )


class CommonCause:
    """Failures before any task of the study has ended ok."""

    def __init__(self, completed_before: bool) -> None:
        self._is_open = not completed_before
        self._scouts: frozenset[int] = frozenset()
        self._ended: dict[int, Failed] = {}  # scouts that are failed or poisoned
        self._starts: Counter[str] = Counter()  # by the worker's address
        self._last_start: Failed | None = None

    @property
    def is_looking(self) -> bool:
        """Whether a common cause may still be found."""
        has_scouts_left = not self._scouts or len(self._ended) < len(self._scouts)
        return self._is_open and (has_scouts_left or self.is_alike)

    @property
    def needs_scouts(self) -> bool:
        """Whether a task has failed and scouts have not been chosen yet."""
        return self._is_open and not self._scouts

    @property
    def is_alike(self) -> bool:
        """Whether all scouts have finally failed, and alike."""
        if not (self._is_open and self._scouts) or len(self._ended) < len(self._scouts):
            return False
        kinds = {(failed.reason, failed.line) for failed in self._ended.values()}
        return len(kinds) == 1 and all(map(_is_of_model, self._ended.values()))

    def starts_fail(self, n_workers: int) -> bool:
        """Whether the model does not start, on any of n_workers that were tried."""
        if not (self._is_open and self._starts):
            return False
        return self._starts.total() >= STARTS and len(self._starts) >= min(STARTS, n_workers)

    def choose(self, indices: Sequence[int]) -> None:
        """Scouts, by task index."""
        self._scouts = frozenset(indices)

    def record_completion(self) -> None:
        self._is_open = False

    def record_failure(self, failed: Failed, address: str, *, is_final: bool) -> None:
        """Record a failed task on the worker with that address; is_final: it is not tried again."""
        if failed.failure == START and _is_of_model(failed):
            self._starts[address] += 1
            self._last_start = failed
        if is_final and failed.index in self._scouts:
            self._ended[failed.index] = failed

    def is_scout(self, index: int) -> bool:
        """Whether the next attempt at a task is so informative that it should not wait for others."""
        return index in self._scouts

    def verdict(self, store: Store, replicates: int, pending: int, n_workers: int) -> FailsAlike | None:
        """Why the study should stop, with `pending` of its tasks left; None if the store has an ok task."""
        if _has_ok_row(store):
            self.record_completion()
            return None
        is_start = self.starts_fail(n_workers) and self._last_start
        failed = self._last_start if is_start and self._last_start else next(iter(self._ended.values()))
        task = divmod(failed.index, replicates)
        error = parts.read_errors(store, {task}).get(task, "")
        message = telling_lines(failed.reason, error).partition("\n")[0] or failed.reason
        facts: dict[str, Any] = {
            "reason": failed.reason,
            "message": message if failed.reason in message else f"{failed.reason}: {message}",
            "line": failed.line,
            "task": "{}/{}".format(*task),
            "pending": pending,
            "store_url": store.location(),
        }
        if is_start:
            return DoesNotStart(tasks=self._starts.total(), sets=0, workers=len(self._starts), **facts)
        n_sets = len({index // replicates for index in self._ended})
        return FailsAlike(tasks=len(self._ended), sets=n_sets, **facts)


def _is_of_model(failed: Failed) -> bool:
    """Whether the model failed: memory and lost workers are handled in breaker.py."""
    ended_itself = failed.reason.startswith(_ENDS) and failed.reason not in _BY_OTHERS
    return failed.status == "failed" or ended_itself


def _has_ok_row(store: Store) -> bool:
    return any(pc.any(pc.equal(rows.table["status"], "ok")).as_py() for rows in parts.scan(store, ["status"]))
