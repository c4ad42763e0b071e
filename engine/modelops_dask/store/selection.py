"""Begin a redo: choose the tasks to run again, and record them.

    executor=KIND | SET/REPLICATE,... | all -> Selection;   Selection + rows -> begin_redo() -> redo/

`executor=KIND` chooses the tasks whose result was made by that executor: for an ok task by the ok rows that
count, otherwise by all rows that count. A row with a `fallback` was made in a new interpreter, so it belongs
to cold. Earlier versions called it isolated_fork, the requested executor; it then belongs to both: an extra
task only takes time, a missing one stays wrong.

Typing the same redo again continues it while tasks of it are pending. The pods of a Job give the id of their
request, so that a pod that is restarted, or comes second, finds the redo of its request, also after its end.

Nothing runs here: the tasks become pending, and drive.py runs pending tasks.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow.compute as pc

from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import OK, PENDING, Plan
from modelops_dask.settings import EXECUTOR_TYPES
from modelops_dask.store.files import Store
from modelops_dask.store.fold import State, counting_rows, fold, study_rows
from modelops_dask.store.redo import Redo, as_rectangles, create_redo, read_redos

KINDS = tuple(kind for kind in EXECUTOR_TYPES if kind != "none")
ALL, EXECUTOR = "all", "executor="
_TASK = re.compile(r"(\d+)/(\d+)")


class BadSelection(BadInput):
    """The typed text does not choose tasks."""

    def __init__(self, text: str, problem: str) -> None:
        self.text, self.problem = text, problem
        super().__init__(text, problem)

    def __str__(self) -> str:
        return f"--redo {self.text}: {self.problem}"


@dataclass(frozen=True)
class Selection:
    """Which tasks to run again: by executor, by name, or all. The same choice has the same `text`."""

    text: str
    executor: str = ""
    tasks: tuple[tuple[int, int], ...] = ()  # (set, replicate), in order


def parse_selection(text: str) -> Selection:
    """Parse executor=KIND, SET/REPLICATE,... or all. Raises BadSelection."""
    text = text.strip()
    if text == ALL:
        return Selection(ALL)
    if text.startswith(EXECUTOR):
        kind = text.removeprefix(EXECUTOR)
        if kind not in KINDS:
            near = [each for each in KINDS if kind and kind in each] or get_close_matches(kind, KINDS, 1)
            hint = f"did you mean {EXECUTOR}{near[0]}?" if near else f"there are {', '.join(KINDS)}"
            raise BadSelection(text, f"there is no executor {kind!r}; {hint}")
        return Selection(text, executor=kind)
    matches = [_TASK.fullmatch(word.strip()) for word in text.split(",")]
    tasks = {(int(match[1]), int(match[2])) for match in matches if match}
    if None in matches:
        word = text.split(",")[matches.index(None)].strip()
        near = get_close_matches(word, [ALL, *(EXECUTOR + kind for kind in KINDS), *KINDS], 1)
        suggestion = f"{EXECUTOR}{near[0]}" if near and near[0] in KINDS else (near[0] if near else "")
        hint = f"did you mean {suggestion}? " if suggestion else ""
        raise BadSelection(
            text,
            f"{word!r} chooses no tasks; {hint}Write executor=KIND, tasks as SET/REPLICATE separated by "
            "commas, or all",
        )
    ordered = tuple(sorted(tasks))
    return Selection(",".join(f"{number}/{replicate}" for number, replicate in ordered), tasks=ordered)


def begin_redo(
    store: Store,
    plan: Plan,
    selection: Selection,
    *,
    request: str = "",
    note: Callable[[str], None] = lambda _: None,
) -> Redo | None:
    """Make tasks of a plan pending again, durably, or continue the same redo.

    Args:
        store: The store.
        plan: All tasks of the request, even if this process runs a share of them.
        selection: Which of them.
        request: The id of a request whose redo is started once, however often it is asked for; "" for none.
        note: Receives a line on the tasks to run again.

    Returns:
        The redo, or None if there is nothing to run again.

    Raises:
        BadSelection: A task does not exist.
        Damaged: redo/ cannot be read.
    """
    while True:
        redos = read_redos(store)
        if own := [redo for redo in redos if request and redo.request == request]:
            return own[-1]
        state = fold(store, plan)
        mask = _find_open_tasks(redos, selection, plan, state)
        if mask.any() and not request:
            redo = next(redo for redo in reversed(redos) if redo.selection == selection.text)
            note(f"Continuing redo {redo.generation} ({redo.selection}): {_tasks(mask.sum())} left")
            return redo
        if not mask.any():
            mask = _choose(store, plan, selection, state, note)
        if not mask.any() and not request:
            return None
        # Also an empty one for a request: results that it makes must not be chosen when its pod restarts.
        redo = Redo(
            generation=len(redos) + 1,
            selection=selection.text,
            tasks=as_rectangles(mask),
            request=request,
        )
        if not create_redo(store, redo):
            continue  # another run was first: read its redo
        if mask.any():
            note(
                f"Redo {redo.generation} ({redo.selection}): {_tasks(mask.sum())} will be run again. "
                "Their earlier results stay in the store and no longer count"
            )
        return redo


def _find_open_tasks(redos: list[Redo], selection: Selection, plan: Plan, state: State) -> np.ndarray:
    """Tasks of the last redo of this selection that are pending and in no later redo.

    Returns:
        bool (n_sets, replicates).
    """
    same = [redo for redo in redos if redo.selection == selection.text]
    if not same or state.generations is None:
        return np.zeros_like(plan.absent)
    is_open: np.ndarray = state.generations.latest_redo == same[-1].generation
    is_open[state.codes != PENDING] = False
    return is_open


def _choose(
    store: Store, plan: Plan, selection: Selection, state: State, note: Callable[[str], None]
) -> np.ndarray:
    """The tasks of a new redo, bool (n_sets, replicates); a note reports if there are none."""
    mask = np.zeros_like(plan.absent)
    if selection.tasks:
        for number, replicate in selection.tasks:
            _check_task(plan, selection, number, replicate)
            mask[number, replicate] = True
        return mask
    if not state.attempts.any():
        note("Nothing to run again: no task of this study has a result that counts. Running what is pending")
        return mask
    if not selection.executor:
        return ~plan.absent
    kinds = _find_kinds(store, plan, state, selection.executor, mask)
    if not mask.any():
        counts = ", ".join(f"{kind or 'unknown'} ({count:,})" for kind, count in kinds.most_common())
        note(
            f"Nothing to run again: no result that counts was made by {selection.executor}. "
            f"Results by executor: {counts}"
        )
    return mask


def _find_kinds(store: Store, plan: Plan, state: State, kind: str, mask: np.ndarray) -> Counter[str]:
    """Set the tasks whose result was made by this kind of executor, and count the rows of each kind."""
    kinds: Counter[str] = Counter()
    columns = ["status", "executor", "fallback"]
    for rows in counting_rows(store, plan, state.generations, study_rows(store, plan, columns)):
        table = rows.table
        sets, replicates = (table[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
        is_planned = (sets < plan.n_sets) & (replicates < plan.replicates)
        is_planned[is_planned] = ~plan.absent[sets[is_planned], replicates[is_planned]]
        is_ok = pc.equal(table["status"], "ok").to_numpy(zero_copy_only=False).astype(bool)
        executors = pc.fill_null(table["executor"], "")
        is_kind = pc.equal(executors, kind).to_numpy(zero_copy_only=False).astype(bool)
        if kind == "cold":
            has_fallback = pc.invert(pc.equal(pc.fill_null(table["fallback"], ""), ""))
            is_kind |= has_fallback.to_numpy(zero_copy_only=False).astype(bool)
        numbers = np.flatnonzero(is_planned)
        is_result = is_ok[numbers] | (state.codes[sets[numbers], replicates[numbers]] != OK)
        numbers = numbers[is_result]
        kinds.update(executors.take(numbers).to_pylist())
        chosen = numbers[is_kind[numbers]]
        mask[sets[chosen], replicates[chosen]] = True
    return kinds


def _check_task(plan: Plan, selection: Selection, number: int, replicate: int) -> None:
    """Raise BadSelection if the plan has no such task."""
    try:
        plan.index(number, replicate)
    except KeyError:
        known = np.flatnonzero(~plan.absent.all(axis=1))
        last = f"{known[-1]}/{plan.replicates - 1}"
        near = f"{min(number, int(known[-1]))}/{min(replicate, plan.replicates - 1)}"
        raise BadSelection(
            selection.text,
            f"there is no task {number}/{replicate} in this study; did you mean {near}? Tasks are "
            f"SET/REPLICATE, here {known[0]}/0 to {last} (mops-helm study plan SPEC --list-tasks)",
        ) from None


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
