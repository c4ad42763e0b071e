"""Fold the parts of a study into one state per task.

parts (any order, any repeats) -> State: ok if any row is ok, else poisoned if any row says so,
                                  else failed once the attempts are spent, else pending

What is still to do is the plan less this state. Two ok rows of a task whose outputs differ are a conflict:
both are kept and it is reported. Torn and foreign files in parts/ are named and passed over; rows of tasks
that the plan does not have (a request that was narrowed) are counted.

Reads only the columns it needs. Does not write, retry or read a clock: parts.py writes, dispatch.py retries.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.store import parts
from modelops_dask.store.files import Files
from modelops_dask.study.plan import ABSENT, FAILED, OK, PENDING, POISONED, STATES, Plan

MAX_ATTEMPTS = 4  # one and three retries


@dataclass(frozen=True)
class Failure:
    """Tasks that are not ok and share a reason; `set` and `replicate` name one, to be tried by hand."""

    reason: str
    state: str  # failed, poisoned, or pending: it failed but has attempts left
    count: int
    set: int
    replicate: int


@dataclass(frozen=True)
class State:
    """What became of every task. Arrays are uint8 (n_sets, replicates)."""

    codes: np.ndarray  # PENDING, OK, FAILED, POISONED or ABSENT
    attempts: np.ndarray  # rows seen; 255 stands for more
    failures: list[Failure] = field(default_factory=list)
    conflicts: list[tuple[int, int]] = field(default_factory=list)  # (set, replicate)
    skipped: dict[str, str] = field(default_factory=dict)  # file in parts/ -> why it was passed over
    outside: int = 0  # rows of tasks that the plan does not have
    parts: int = 0

    def counts(self) -> dict[str, int]:
        """Tasks by state (ok, failed, poisoned, pending); they add up to the plan's n_tasks."""
        found = np.bincount(self.codes.ravel(), minlength=len(STATES))
        return {STATES[code]: int(found[code]) for code in (OK, FAILED, POISONED, PENDING)}

    def pending_ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of the indices of pending tasks, in order."""
        edges = np.flatnonzero(np.diff(self.codes.ravel() == PENDING, prepend=False, append=False))
        return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    def retry(self, *codes: int) -> "State":
        """The same with tasks of these codes (FAILED, POISONED) pending again, as if never tried."""
        again = np.isin(self.codes, codes)
        return replace(
            self,
            codes=np.where(again, np.uint8(PENDING), self.codes),
            attempts=np.where(again, np.uint8(0), self.attempts),
        )


def fold(files: Files, plan: Plan, max_attempts: int = MAX_ATTEMPTS) -> State:
    """The state of every task of the plan."""
    codes, attempts = plan.blank(), np.zeros((plan.n_sets, plan.replicates), np.uint8)
    flat_codes, flat_attempts = codes.ravel(), attempts.ravel()
    bad: list[pa.Table] = []
    repeated: list[np.ndarray] = []
    skipped: dict[str, str] = {}
    outside = count = 0
    for name in files.list(parts.FOLDER):
        try:
            index, rows = _read(files, name, plan, ["status", "reason"])
        except parts.NotAPart as error:
            skipped[name] = error.reason
            continue
        count += 1
        known = index >= 0
        known[known] = flat_codes[index[known]] != ABSENT
        outside += len(known) - int(known.sum())
        index, rows = index[known], rows.filter(pa.array(known))
        unique, seen = np.unique(index, return_counts=True)
        flat_attempts[unique] = np.minimum(flat_attempts[unique] + seen, 255)
        is_ok = pc.equal(rows["status"], "ok").to_numpy(zero_copy_only=False)
        done, times = np.unique(index[is_ok], return_counts=True)
        repeated.append(done[(flat_codes[done] == OK) | (times > 1)])
        flat_codes[done] = OK
        if not is_ok.all():
            bad.append(
                rows.select(["status", "reason"]).append_column("index", pa.array(index)).filter(~is_ok)
            )
    return State(
        codes,
        attempts,
        _settle(flat_codes, flat_attempts, bad, plan, max_attempts),
        _conflicts(files, plan, np.unique(np.concatenate(repeated)) if repeated else np.empty(0), skipped),
        skipped,
        outside,
        count,
    )


def _read(files: Files, name: str, plan: Plan, columns: list[str]) -> tuple[np.ndarray, pa.Table]:
    """The task index of each row of a part (-1: the plan is smaller), and some of its columns."""
    with parts.reading(files, name) as part:
        rows = part.read(columns=["set", "replicate", *columns], use_threads=False)
    sets, replicates = (rows[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
    inside = (sets < plan.n_sets) & (replicates < plan.replicates)
    return np.where(inside, sets * plan.replicates + replicates, -1), rows


def _settle(
    codes: np.ndarray, attempts: np.ndarray, bad: list[pa.Table], plan: Plan, max_attempts: int
) -> list[Failure]:
    """Set FAILED and POISONED; what failed by reason, most frequent first. A task counts once."""
    if not bad:
        return []
    rows = pa.concat_tables(bad)
    index = rows["index"].to_numpy()
    poisoned = pc.equal(rows["status"], "poisoned").to_numpy(zero_copy_only=False)
    open_ = codes[index] != OK
    codes[index[open_ & poisoned]] = POISONED
    spent = index[open_ & (codes[index] == PENDING) & (attempts[index] >= max_attempts)]
    codes[spent] = FAILED
    counted = np.flatnonzero(
        open_ & (poisoned | (codes[index] != POISONED))
    )  # of a poisoned task, what poisoned it
    order = counted[np.argsort(index[counted], kind="stable")]
    _, last = np.unique(index[order][::-1], return_index=True)
    chosen = order[::-1][last]
    return _by_reason(index[chosen], rows["reason"].take(pa.array(chosen)), codes, plan)


def _by_reason(index: np.ndarray, reasons: pa.ChunkedArray, codes: np.ndarray, plan: Plan) -> list[Failure]:
    table = pa.table({"index": index, "reason": reasons, "code": codes[index]})
    groups = table.group_by(["reason", "code"]).aggregate([("index", "count"), ("index", "min")]).to_pylist()
    failures = [
        Failure(
            g["reason"] or "", STATES[g["code"]], g["index_count"], *divmod(g["index_min"], plan.replicates)
        )
        for g in groups
    ]
    return sorted(failures, key=lambda failure: (-failure.count, failure.reason, failure.state))


def _conflicts(
    files: Files, plan: Plan, repeated: np.ndarray, skipped: dict[str, str]
) -> list[tuple[int, int]]:
    """Tasks, of those with several ok rows, whose outputs differ. A second pass, which is seldom needed."""
    if not len(repeated):
        return []
    first: dict[int, bytes] = {}
    found: set[int] = set()
    for name in files.list(parts.FOLDER):
        if name in skipped:
            continue
        index, rows = _read(files, name, plan, ["status", "digest"])
        rows = rows.append_column("index", pa.array(index))
        rows = rows.filter(
            pc.and_(pc.is_in(rows["index"], pa.array(repeated)), pc.equal(rows["status"], "ok"))
        )
        for task, digest in zip(rows["index"].to_pylist(), rows["digest"].to_pylist(), strict=True):
            if first.setdefault(task, digest) != digest:
                found.add(task)
    return [divmod(task, plan.replicates) for task in sorted(found)]


def winners(files: Files, plan: Plan) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each part: its name, and of the ok rows that count, task indices and row numbers.

    A task counts once: its first ok row, by the parts' names.
    """
    taken = plan.absent.ravel().copy()
    for name in files.list(parts.FOLDER):
        try:
            index, rows = _read(files, name, plan, ["status"])
        except parts.NotAPart:
            continue
        is_ok = pc.equal(rows["status"], "ok").to_numpy(zero_copy_only=False)
        at = np.flatnonzero(is_ok & (index >= 0))
        at = at[~taken[index[at]]]
        unique, first = np.unique(index[at], return_index=True)
        taken[unique] = True
        if len(unique):
            yield name, unique, at[first]
