"""Fold the parts of a study into one state per task.

    parts (any order, any repeats) -> State: ok if any row is ok, otherwise poisoned if any row is,
                                      otherwise failed if the attempts are used up, or two failed alike
                                      (failures.py), otherwise pending

If tasks were run again, only rows of a task's highest generation count (generations.py).

The remaining work is the plan without this state. Two ok rows of a task whose outputs differ are a conflict:
both are kept and it is reported. Damaged and unknown files in parts/ are named and skipped; rows of tasks
that the plan does not have (a narrowed request) are counted.

A part in which a task has a wrong seed is foreign: its results belong to other parameters. One row of each
set is checked in a part with the mark of this study, every row in a part of mops-helm 0.1.

An ok row that left out an output requested by the plan does not count: its task is pending again.

Only the necessary columns are read. This module does not write, retry or read a clock: parts.py writes,
dispatch.py retries.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.plan.plan import ABSENT, FAILED, OK, PENDING, POISONED, STATES, Plan
from modelops_dask.store import parts
from modelops_dask.store.conditions import Condition
from modelops_dask.store.failures import without_numbers
from modelops_dask.store.files import Store
from modelops_dask.store.generations import Generations, expect_redo
from modelops_dask.store.redo import read_redos

MAX_ATTEMPTS = 4  # one and three retries
CLEARLY_LESS = 0.8  # fraction of the memory: a task's share varies a little with its neighbours
MOST_KINDS = 100  # failures that are counted individually
_TASK = ("set", "replicate")
_UNSUCCESSFUL = ("status", "reason", "message", "error_digest")  # columns by which failures are counted
_NO_OUTPUTS = parts.outputs_digest({})  # for a row whose outputs are all left out
_UINT64_MAX = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Failure:
    """Tasks that failed alike, apart from numbers in their messages.

    `set` and `replicate` name one task, to be tried by hand; `message` is the line of its error with the
    exception's type, and `details` are the lines after it: the rest of the message, and notes.
    """

    reason: str
    state: str  # failed, poisoned, or pending: it failed but has attempts left
    count: int
    set: int
    replicate: int
    message: str = ""
    details: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The reason and the message, which usually begins with the exception's type."""
        return (
            self.message
            if self.reason in self.message
            else ": ".join(filter(None, (self.reason, self.message)))
        )


@dataclass(frozen=True)
class State:
    """The state of every task. Arrays are uint8 (n_sets, replicates)."""

    codes: np.ndarray  # PENDING, OK, FAILED, POISONED or ABSENT
    attempts: np.ndarray  # rows read; 255 stands for more
    failures: list[Failure] = field(default_factory=list)
    conflicts: list[tuple[int, int]] = field(default_factory=list)  # (set, replicate)
    skipped: dict[str, str] = field(default_factory=dict)  # file in parts/ -> why it was skipped
    outside: int = 0  # rows of tasks that are not in the plan
    files: int = 0  # files in parts/ that could be read
    conditions: Counter[Condition] = field(default_factory=Counter)  # -> ok rows made under them
    fallbacks: Counter[str] = field(default_factory=Counter)  # why another executor ran tasks -> ok rows
    generations: Generations | None = None  # of the tasks; None: no task was run again
    # For pending tasks: (task index, error_digest) of each row that has one.
    failed_before: Sequence[tuple[int, int]] = ()

    def counts(self) -> dict[str, int]:
        """Tasks by state (ok, failed, poisoned, pending); they add up to the plan's n_tasks."""
        task_counts = np.bincount(self.codes.ravel(), minlength=len(STATES))
        return {STATES[code]: int(task_counts[code]) for code in (OK, FAILED, POISONED, PENDING)}

    def pending_ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of the indices of pending tasks, in order."""
        edges = np.flatnonzero(np.diff(self.codes.ravel() == PENDING, prepend=False, append=False))
        return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    def retry(self, *codes: int) -> "State":
        """Return a state in which tasks of these codes (FAILED, POISONED) are pending, as if never tried."""
        is_retried = np.isin(self.codes, codes)
        return replace(
            self,
            codes=np.where(is_retried, np.uint8(PENDING), self.codes),
            attempts=np.where(is_retried, np.uint8(0), self.attempts),
        )


def fold(store: Store, plan: Plan, max_attempts: int = MAX_ATTEMPTS, task_bytes: int = 0) -> State:
    """Read all parts and return the state of every task of the plan.

    task_bytes is the memory that one task may hold now: deaths of tasks that had clearly less are ignored.
    """
    codes, attempts = plan.blank(), np.zeros((plan.n_sets, plan.replicates), np.uint8)
    flat_codes, flat_attempts = codes.ravel(), attempts.ravel()
    unsuccessful: list[pa.Table] = []
    repeated: list[np.ndarray] = []
    skipped: dict[str, str] = {}
    conditions: Counter[Condition] = Counter()
    fallbacks: Counter[str] = Counter()
    outside = n_files = 0
    columns = [*_UNSUCCESSFUL, "limit_bytes", "fallback", *Condition._fields]
    generations = read_generations(store, plan)
    partial: list[parts.Rows] = []
    for file_rows in counting_rows(
        store, plan, generations, study_rows(store, plan, columns, skipped), partial
    ):
        rows = file_rows.table
        if task_bytes:
            rows = rows.filter(pc.invert(_had_less_memory(rows, task_bytes)))
        index = _index(rows, plan)
        n_files += 1
        is_planned = index >= 0
        is_planned[is_planned] = flat_codes[index[is_planned]] != ABSENT
        outside += len(is_planned) - int(is_planned.sum())
        index, rows = index[is_planned], _filter_rows(rows, is_planned)
        unique, n_attempts = np.unique(index, return_counts=True)
        flat_attempts[unique] = np.minimum(flat_attempts[unique] + n_attempts, 255)
        is_ok = pc.equal(rows["status"], "ok").to_numpy(zero_copy_only=False)
        ok_rows = _filter_rows(rows, is_ok)
        _count(conditions, ok_rows)
        _count_fallbacks(fallbacks, ok_rows["fallback"])
        ok_tasks, n_ok = np.unique(index[is_ok], return_counts=True)
        repeated.append(ok_tasks[(flat_codes[ok_tasks] == OK) | (n_ok > 1)])
        flat_codes[ok_tasks] = OK
        if not is_ok.all():
            unsuccessful.append(
                rows.select(_UNSUCCESSFUL).append_column("index", pa.array(index)).filter(~is_ok)
            )
    for file_rows in partial:
        index = _index(file_rows.table, plan)
        repeated.append(index[index >= 0])
    failures, failed_before = _settle(flat_codes, flat_attempts, unsuccessful, plan, max_attempts)
    return State(
        codes=codes,
        attempts=attempts,
        failures=failures,
        conflicts=_conflicts(
            store, plan, generations, np.unique(np.concatenate(repeated)) if repeated else np.empty(0)
        ),
        skipped=skipped,
        outside=outside,
        files=n_files,
        conditions=conditions,
        fallbacks=fallbacks,
        generations=generations,
        failed_before=failed_before,
    )


def read_generations(store: Store, plan: Plan) -> Generations | None:
    """The generation of each task of a plan; None for a store without redos. Raises Damaged."""
    redos = read_redos(store)
    if not redos:
        return None
    generations = Generations(redos, plan)
    for rows in study_rows(store, plan, []):
        if rows.generations is not None:
            generations.add(_index(rows.table, plan), rows.generations)
    return generations


def counting_rows(
    store: Store,
    plan: Plan,
    generations: Generations | None,
    scanned: Iterable[parts.Rows],
    partial: list[parts.Rows] | None = None,
) -> Iterator[parts.Rows]:
    """Yield the rows that count, possibly none of a file, including those of tasks outside the plan.

    Rows that left out an output requested by the plan do not count.

    Args:
        store: The store.
        plan: The tasks.
        generations: As read_generations() returned them for this plan.
        scanned: As parts.scan() yields them, with the columns of _TASK.
        partial: Receives the rows that would count except for the outputs they left out.

    Raises:
        Damaged: Rows have a generation, but its redo is missing.
    """
    last_generation = len(generations.redos) if generations else 0
    highest = 0
    for rows in scanned:
        if generations is not None or rows.generations is not None:
            if rows.generations is not None:
                highest = max(highest, int(rows.generations.max()))
            mask = counts(rows, plan, generations)
            rows = rows if mask.all() else rows.select(mask)
        lacking = rows.lacks(plan.request.outputs)
        if lacking is not None and lacking.any():
            if partial is not None:
                partial.append(rows.select(lacking))
            rows = rows.select(~lacking)
        yield rows
    if highest > last_generation:  # of a redo that began after this one was read
        expect_redo(store, highest)


def counts(rows: parts.Rows, plan: Plan, generations: Generations | None) -> np.ndarray:
    """Which rows have the generation that counts for their task, bool (n,)."""
    if generations:
        return generations.count(_index(rows.table, plan), rows.generations)
    return np.ones(len(rows.order), bool) if rows.generations is None else rows.generations == 0


def study_rows(
    store: Store, plan: Plan, columns: Sequence[str], skipped: dict[str, str] | None = None
) -> Iterator[parts.Rows]:
    """Like parts.scan, with the columns of _TASK, and without parts in which a task has a wrong seed."""
    skipped = {} if skipped is None else skipped
    for rows in parts.scan(store, [*_TASK, "seed", *columns], skipped):
        problems = _wrong_seeds(rows, plan)
        if not problems:
            yield rows
            continue
        for number, reason in problems.items():
            skipped[parts.part_label(rows.file, rows.parts[number].name)] = f"foreign: {reason}"
        counts = [part.n_rows for part in rows.parts]
        is_valid = np.repeat([number not in problems for number in range(len(counts))], counts)
        valid_parts = tuple(part for number, part in enumerate(rows.parts) if number not in problems)
        if is_valid.any():
            yield replace(rows.select(is_valid), parts=valid_parts)


def _wrong_seeds(rows: parts.Rows, plan: Plan) -> dict[int, str]:
    """The parts, by index in `rows.parts`, in which a task has another task's seed -> the problem."""
    sets, replicates = (rows.table[name].to_numpy().astype(np.int64) for name in _TASK)
    seeds = rows.table["seed"].to_numpy()
    numbers = np.repeat(np.arange(len(rows.parts)), [part.n_rows for part in rows.parts])
    checked = sets < plan.n_sets  # further ones are counted as outside
    is_marked = np.array([part.mark is not None for part in rows.parts])
    if is_marked.any():  # the first of successive rows of one set and part
        is_same_set = (sets[1:] == sets[:-1]) & (numbers[1:] == numbers[:-1])
        checked[1:] &= ~(is_same_set & is_marked[numbers[1:]])
    checked_rows = np.flatnonzero(checked)
    wrong_rows = checked_rows[plan.seeds(sets[checked_rows], replicates[checked_rows]) != seeds[checked_rows]]
    return {
        int(numbers[row]): f"task {sets[row]}/{replicates[row]} has seed {seeds[row]}, which is not the "
        "task's seed"
        for row in wrong_rows[::-1]
    }


def _filter_rows(rows: pa.Table, mask: np.ndarray) -> pa.Table:
    """The rows that a mask, bool (n,), selects; usually all of them."""
    return rows if mask.all() else rows.filter(pa.array(mask))


def _count_fallbacks(fallbacks: Counter[str], column: pa.ChunkedArray) -> None:
    if reasons := set(column.unique().to_pylist()) - {None, ""}:
        fallbacks.update(reason for reason in column.to_pylist() if reason in reasons)


def _count(conditions: Counter[Condition], rows: pa.Table) -> None:
    if not rows.num_rows:
        return
    columns = [rows[name].unique().to_pylist() for name in Condition._fields]
    n_rows = [rows.num_rows]
    if any(len(values) > 1 for values in columns):  # rare, and slower
        groups = rows.group_by(list(Condition._fields), use_threads=False).aggregate([([], "count_all")])
        columns = [groups[name].to_pylist() for name in Condition._fields]
        n_rows = groups["count_all"].to_pylist()
    # Rows of earlier versions lack some values.
    for threads, environment, reseeded, n_tasks in zip(*columns, n_rows, strict=True):
        conditions[Condition(threads or 0, environment or "", reseeded or False)] += n_tasks


def _had_less_memory(rows: pa.Table, task_bytes: int) -> pa.ChunkedArray:
    """Whether a task ran out of so much less memory that it might succeed now; bool (n,)."""
    is_less = pc.less(pc.fill_null(rows["limit_bytes"], 0), int(CLEARLY_LESS * task_bytes))
    reasons = pa.array([parts.OUT_OF_MEMORY, parts.WORKER_MEMORY])
    return pc.and_(pc.is_in(pc.fill_null(rows["reason"], ""), reasons), is_less)


def _index(rows: pa.Table, plan: Plan) -> np.ndarray:
    """The task index of each row; -1 for a task that the plan does not have."""
    sets, replicates = (rows[name].to_numpy().astype(np.int64) for name in _TASK)
    inside = (sets < plan.n_sets) & (replicates < plan.replicates)
    return np.where(inside, sets * plan.replicates + replicates, -1)


def _settle(
    codes: np.ndarray, attempts: np.ndarray, unsuccessful: list[pa.Table], plan: Plan, max_attempts: int
) -> tuple[list[Failure], list[tuple[int, int]]]:
    """Set FAILED and POISONED, and return the failures, most frequent first, and State.failed_before.

    A task counts once.
    """
    if not unsuccessful:
        return [], []
    rows = pa.concat_tables(unsuccessful)
    index = rows["index"].to_numpy()
    poisoned = pc.equal(rows["status"], "poisoned").to_numpy(zero_copy_only=False)
    is_open = codes[index] != OK
    codes[index[is_open & poisoned]] = POISONED
    exhausted = index[is_open & (codes[index] == PENDING) & (attempts[index] >= max_attempts)]
    codes[exhausted] = FAILED
    has_digest = (codes[index] == PENDING) & pc.is_valid(rows["error_digest"]).to_numpy(zero_copy_only=False)
    digest_index = index[has_digest]
    digests = pc.fill_null(rows["error_digest"], 0).to_numpy()[has_digest]
    order = np.lexsort((digests, digest_index))
    digest_index, digests = digest_index[order], digests[order]
    is_repeated = (digest_index[1:] == digest_index[:-1]) & (digests[1:] == digests[:-1])
    codes[digest_index[1:][is_repeated]] = FAILED
    is_pending = codes[digest_index] == PENDING
    failed_before = list(zip(digest_index[is_pending].tolist(), digests[is_pending].tolist(), strict=True))
    counted_rows = np.flatnonzero(
        is_open & (poisoned | (codes[index] != POISONED))
    )  # for a poisoned task, the row that poisoned it
    order = counted_rows[np.argsort(index[counted_rows], kind="stable")]
    _, last = np.unique(index[order][::-1], return_index=True)
    last_rows = order[::-1][last]
    return _by_reason(index[last_rows], rows.take(pa.array(last_rows)), codes, plan), failed_before


def _by_reason(index: np.ndarray, rows: pa.Table, codes: np.ndarray, plan: Plan) -> list[Failure]:
    """`index`, int64 (n,), is the task of each row, rising."""
    messages = pc.fill_null(rows["message"], "")
    by_task = pa.table(
        {
            "index": index,
            "reason": rows["reason"],
            "code": codes[index],
            "message": without_numbers(messages),
        }
    )
    kinds = by_task.group_by(["reason", "code", "message"]).aggregate([("index", "count"), ("index", "min")])
    kinds = kinds.sort_by([("index_count", "descending"), ("index_min", "ascending")])
    grouped = kinds.slice(MOST_KINDS).group_by(["reason", "code"])
    others = grouped.aggregate([("index_count", "sum"), ("index_min", "min")])
    others = others.rename_columns(["reason", "code", "index_count", "index_min"])
    groups = kinds.slice(0, MOST_KINDS).drop_columns("message").to_pylist() + others.to_pylist()
    texts = [messages[int(np.searchsorted(index, group["index_min"]))].as_py() for group in groups]
    failures = [
        Failure(
            reason=group["reason"] or "",
            state=STATES[group["code"]],
            count=group["index_count"],
            set=group["index_min"] // plan.replicates,
            replicate=group["index_min"] % plan.replicates,
            message=text.partition("\n")[0],
            details=tuple(text.split("\n")[1:]),
        )
        for group, text in zip(groups, texts, strict=True)
    ]
    return sorted(failures, key=lambda failure: (-failure.count, failure.reason, failure.state))


def _conflicts(
    store: Store, plan: Plan, generations: Generations | None, repeated: np.ndarray
) -> list[tuple[int, int]]:
    """Find tasks with several ok rows whose outputs differ. This second pass is rarely needed.

    Rows that left outputs out are compared with the others output by output, by their recorded digests.
    """
    if not len(repeated):
        return []
    first_rows: dict[int, dict[str, Any]] = {}
    conflicting: set[int] = set()
    columns = ["status", "digest", "output_digests"]
    partial: list[parts.Rows] = []
    counting = counting_rows(store, plan, generations, study_rows(store, plan, columns), partial)
    for part in chain(counting, partial):  # in this order, because the other one fills `partial`
        rows = part.table.append_column("index", pa.array(_index(part.table, plan)))
        if part.left_out is not None:
            rows = rows.append_column("left_out", part.left_out)
        rows = rows.filter(
            pc.and_(pc.is_in(rows["index"], pa.array(repeated)), pc.equal(rows["status"], "ok"))
        )
        for row in rows.to_pylist():
            first = first_rows.setdefault(row["index"], row)
            if first is not row and not _is_same_result(first, row, plan.request.volatile):
                conflicting.add(row["index"])
    return [divmod(task, plan.replicates) for task in sorted(conflicting)]


def _is_same_result(row: dict[str, Any], other: dict[str, Any], volatile: Collection[str]) -> bool:
    """Whether two ok rows have the same outputs, except volatile ones, including those that they left out."""
    if not (volatile or row.get("left_out") or other.get("left_out")):
        return bool(row["digest"] == other["digest"])
    first, second = (
        {**dict(ok_row["output_digests"] or ()), **dict(ok_row.get("left_out") or ())}
        for ok_row in (row, other)
    )
    _add_single(first, row, second)
    _add_single(second, other, first)
    names = (first.keys() | second.keys()) - set(volatile)
    return all(first.get(name) == second.get(name) for name in names)


def _add_single(digests: dict[str, bytes], row: dict[str, Any], others: Mapping[str, bytes]) -> None:
    """Add the digest of a row's only stored output. Its name is not recorded: it follows from the others."""
    if not row["output_digests"] and row["digest"] != _NO_OUTPUTS:
        names = others.keys() - digests.keys()
        digests[names.pop() if len(names) == 1 else ""] = row["digest"]


class Winner(NamedTuple):
    """The best ok rows so far of a file in parts/: task indices, row numbers, and columns."""

    file: str
    tasks: np.ndarray
    row_numbers: np.ndarray
    table: pa.Table


def winners(
    store: Store, plan: Plan, columns: Sequence[str], generations: Generations | None
) -> Iterator[Winner]:
    """Yield the ok rows that count. A later row of a task replaces an earlier one.

    Among several ok rows of a task one is chosen by the names of their parts, so that merging changes
    nothing.
    """
    best = np.full(plan.absent.size, _UINT64_MAX)
    flat_absent = plan.absent.ravel()
    for part in counting_rows(store, plan, generations, study_rows(store, plan, ["status", *columns])):
        index = _index(part.table, plan)
        is_ok = pc.equal(part.table["status"], "ok").to_numpy(zero_copy_only=False)
        candidates = np.flatnonzero(is_ok & (index >= 0))
        candidates = candidates[
            ~flat_absent[index[candidates]] & (part.order[candidates] < best[index[candidates]])
        ]
        candidates = candidates[
            np.lexsort((part.row_numbers[candidates], part.order[candidates], index[candidates]))
        ]
        unique, first = np.unique(index[candidates], return_index=True)
        best_rows = candidates[first]
        best[unique] = part.order[best_rows]
        if len(unique):
            yield Winner(part.file, unique, part.row_numbers[best_rows], part.table.take(best_rows))
