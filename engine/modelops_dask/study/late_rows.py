"""The rows that a self-check compares: the last tasks in the lives of different runners.

new files of parts/ -> ok rows -> the last ones of each life -> in the order in which they should be checked

State left in a process by an earlier task is most likely to affect the last task of its life.
"""

from collections.abc import Collection, Mapping
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.plan.plan import Plan
from modelops_dask.store import parts
from modelops_dask.store.files import Store

MOST_ROWS = 32  # rows of a file that are candidates
MOST_CANDIDATES = 4096
_COLUMNS = (
    "set",
    "replicate",
    "status",
    "seconds",
    "peak_bytes",
    "limit_bytes",
    "threads",
    "environment",
    "executor",
    "runner",
    "runner_task",
    "generation",
    "digest",
    "output_digests",
    "left_out",
)


class StoredRow(NamedTuple):
    """An ok row of this run.

    Attributes:
        life: A process; for forks, the process that they were forked from.
        number: Its task's number in that life, from 1.
        values: The columns of _COLUMNS.
    """

    life: str
    number: int
    order: int
    values: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        return self.values["seconds"] or 0.0

    @property
    def set(self) -> int:
        number: int = self.values["set"]
        return number


def choose(store: Store, plan: Plan, n_tasks: int, files_before: Collection[str]) -> list[StoredRow]:
    """Choose ok rows of new parts, in the order in which they should be checked.

    First the last row of each life, the longest life first; then rows of other sets; then the others.
    """
    candidates: list[StoredRow] = []
    for file_rows in parts.scan(store, _COLUMNS, but=files_before):
        candidates += _late_rows(file_rows, plan, n_tasks)
        if len(candidates) > MOST_CANDIDATES:
            candidates = sorted(candidates, key=_lateness)[: MOST_CANDIDATES // 2]
    lives: set[str] = set()
    sets: set[int] = set()
    first: list[StoredRow] = []
    others: list[StoredRow] = []
    for row in sorted(candidates, key=_lateness):
        (others if row.life in lives else first).append(row)
        lives.add(row.life)
    sets.update(row.set for row in first)
    of_other_sets: list[StoredRow] = []
    rest: list[StoredRow] = []
    for row in others:
        (rest if row.set in sets else of_other_sets).append(row)
        sets.add(row.set)
    return [*first, *of_other_sets, *rest]


def _lateness(row: StoredRow) -> tuple[int, int]:
    return -row.number, row.order


def _late_rows(file_rows: parts.Rows, plan: Plan, n_tasks: int) -> list[StoredRow]:
    """The last rows of each life in a file of parts/."""
    table = file_rows.table
    sets, replicates = (table[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
    is_chosen = pc.equal(table["status"], "ok").to_numpy(zero_copy_only=False).astype(bool)
    is_chosen &= (sets < plan.n_sets) & (replicates < plan.replicates)
    is_chosen[is_chosen] = ~plan.absent[sets[is_chosen], replicates[is_chosen]]
    places = np.flatnonzero(is_chosen)
    runners = table["runner"].take(pa.array(places)).to_pylist()
    numbers = parts.numbers_or_zero(table, "runner_task")[places].tolist()
    by_life: dict[str, list[tuple[int, int]]] = {}
    for place, runner, number in zip(places.tolist(), runners, numbers, strict=True):
        life, _, child = (runner or "").partition(".")  # a fork's is ZYGOTE.NUMBER
        by_life.setdefault(life, []).append((int(child or number), place))
    late = [(*row, life) for life, rows in by_life.items() for row in nlargest(n_tasks, rows)]
    late = nlargest(MOST_ROWS, late)
    values = table.take(pa.array([place for _, place, _ in late], pa.int64())).to_pylist()
    return [
        StoredRow(life=life, number=number, order=int(file_rows.order[place]), values=row)
        for (number, place, life), row in zip(late, values, strict=True)
    ]
