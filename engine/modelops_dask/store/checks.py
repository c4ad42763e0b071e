"""Results of self-checks: ok rows compared with the same tasks run again, each alone in a new process.

study/check.py -> a RunCheck -> checks/NAME.json -> read() -> SelfCheck, as summaries and reports show it

A difference counts while the compared row is the one that counts for its task: a later generation of the task
replaces it. Older checks stay in the store.

Nothing is run or compared here.
"""

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from modelops_dask import __version__
from modelops_dask.plan.plan import Plan
from modelops_dask.store.files import Store
from modelops_dask.store.fold import winners
from modelops_dask.store.generations import Generations
from modelops_dask.store.identity import encode_json

FOLDER = "checks"
SHOWN = 5  # tasks named in a line
Outcome = Literal["equal", "different", "not comparable"]
Cause = Literal["", "seed", "order", "outside"]
Key = tuple[int, int, int, str]  # set, replicate, generation, digest
_WEIGHTS: dict[Outcome, int] = {"not comparable": 0, "equal": 1, "different": 2}


@dataclass(frozen=True)
class Comparison:
    """An ok row, and the same task run again.

    Attributes:
        digest: Of the row's outputs, in hexadecimal digits.
        executor: The executor that made the row.
        outcome: Whether both have the same bytes.
        outputs: Names of the outputs that differ; () if the task did not end ok again.
        reason: Why it is not comparable, or how the task ended otherwise.
        cause: Of a difference, one of three. With "seed", two runs alone differ, so randomness does not come
            from the seed. With "order", the task alone always returns the same, but the row comes from a
            process that had run other tasks. With "outside", the row's process had run no other task.
        equal_replicates: Whether another replicate of the set, run alone, returns the same as the outputs
            that differ: an executor that isolates tasks would then make all replicates equal.
    """

    set: int
    replicate: int
    digest: str
    executor: str
    outcome: Outcome
    generation: int = 0
    outputs: tuple[str, ...] = ()
    reason: str = ""
    cause: Cause = ""
    equal_replicates: bool = False

    @property
    def key(self) -> Key:
        """The key of the compared row."""
        return self.set, self.replicate, self.generation, self.digest


@dataclass(frozen=True)
class RunCheck:
    """One self-check. `skipped` explains why fewer tasks were compared than requested.

    `processors` are the kinds of processors that the run's workers had at its end.
    """

    comparisons: tuple[Comparison, ...] = ()
    skipped: str = ""
    seconds: float = 0.0
    processors: tuple[str, ...] = ()
    engine: str = __version__


T = TypeVar("T", Comparison, RunCheck)


@dataclass(frozen=True)
class SelfCheck:
    """The result of a study's self-checks, for the tasks of a plan and the rows that count.

    Attributes:
        n_equal: Tasks that returned the same again.
        different: Comparisons that found a difference.
        not_comparable: Comparisons without a result.
        skipped: Why a check compared fewer tasks than it should, if nothing else is known.
    """

    n_equal: int = 0
    different: tuple[Comparison, ...] = ()
    not_comparable: tuple[Comparison, ...] = ()
    skipped: str = ""

    @property
    def n_compared(self) -> int:
        return self.n_equal + len(self.different)

    def as_json(self) -> dict[str, object]:
        """Plain data for output; its keys are an interface."""
        return {
            "compared": self.n_compared,
            "equal": self.n_equal,
            "different": [_shorten(comparison) for comparison in self.different],
            "not_comparable": [_shorten(comparison) for comparison in self.not_comparable],
            "skipped": self.skipped,
        }


def _shorten(comparison: Comparison) -> dict[str, object]:
    return {
        "task": f"{comparison.set}/{comparison.replicate}",
        "executor": comparison.executor,
        "outputs": list(comparison.outputs),
        "reason": comparison.reason,
        "cause": comparison.cause,
        "equal_replicates": comparison.equal_replicates,
    }


def write(store: Store, check: RunCheck) -> str:
    """Write a check under a new name, and return the name of the file."""
    name = f"{FOLDER}/{uuid.uuid4().hex}.json"
    store.create(name, encode_json(asdict(check)))
    return name


def read(store: Store) -> list[RunCheck]:
    """Read all checks of a store, in no order. Other files are skipped."""
    checks = (_parse(store, name) for name in store.list(FOLDER) if name.endswith(".json"))
    return [check for check in checks if check]


def _parse(store: Store, name: str) -> RunCheck | None:
    try:
        raw = json.loads(store.read(f"{FOLDER}/{name}"))
        comparisons = tuple(_known_fields(Comparison, values) for values in raw.pop("comparisons"))
        return replace(_known_fields(RunCheck, raw), comparisons=comparisons)
    except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
        return None


def _known_fields(kind: type[T], values: dict[str, Any]) -> T:
    """Make a record from the fields that this version knows; lists become tuples."""
    names = {item.name for item in fields(kind)}
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return kind(**known)


def read_self_check(store: Store, plan: Plan, generations: Generations | None) -> SelfCheck | None:
    """Read the result of the self-checks of a plan's tasks, for rows that count; None if there was none."""
    checks = read(store)
    comparisons = [
        comparison for check in checks for comparison in check.comparisons if _is_planned(comparison, plan)
    ]
    if not comparisons and not any(check.skipped for check in checks):
        return None
    # Without a redo, only a difference makes it necessary to read the parts: whether its row counts.
    doubtful = {each.key for each in comparisons if generations or each.outcome == "different"}
    settled = doubtful - _rows_that_count(store, plan, doubtful, generations)
    by_task: dict[tuple[int, int], Comparison] = {}
    for comparison in sorted(comparisons, key=lambda each: _WEIGHTS[each.outcome]):
        if comparison.key not in settled:
            by_task[comparison.set, comparison.replicate] = comparison
    by_outcome: dict[Outcome, list[Comparison]] = {"equal": [], "different": [], "not comparable": []}
    for _, comparison in sorted(by_task.items()):
        by_outcome[comparison.outcome].append(comparison)
    n_compared = len(by_outcome["equal"]) + len(by_outcome["different"])
    return SelfCheck(
        n_equal=len(by_outcome["equal"]),
        different=tuple(by_outcome["different"]),
        not_comparable=tuple(by_outcome["not comparable"]),
        skipped="" if n_compared else next((check.skipped for check in checks if check.skipped), ""),
    )


def _is_planned(comparison: Comparison, plan: Plan) -> bool:
    is_inside = comparison.set < plan.n_sets and comparison.replicate < plan.replicates
    return is_inside and not plan.absent[comparison.set, comparison.replicate]


def _rows_that_count(
    store: Store, plan: Plan, keys: Collection[Key], generations: Generations | None
) -> set[Key]:
    """Those of these rows that count for their tasks. Reads parts only if there are any."""
    if not keys:
        return set()
    tasks = np.array(sorted({number * plan.replicates + replicate for number, replicate, *_ in keys}))
    counting: dict[int, Key] = {}
    # A later winner of a task replaces an earlier one.
    for winner in winners(store, plan, ["digest", "generation"], generations):
        hits = np.flatnonzero(np.isin(winner.tasks, tasks))
        rows = winner.table.take(pa.array(hits)).to_pylist()
        for index, row in zip(winner.tasks[hits].tolist(), rows, strict=True):
            number, replicate = divmod(index, plan.replicates)
            counting[index] = (number, replicate, row["generation"] or 0, row["digest"].hex())
    return set(counting.values()) & set(keys)


def describe(self_check: SelfCheck) -> list[str]:
    """Describe a self-check: a line on the comparison, then one for each cause of differences."""
    if not self_check.n_compared and not self_check.not_comparable:
        return [f"Self-check: no task was compared: {self_check.skipped}."]
    n_compared, n_different = self_check.n_compared, len(self_check.different)
    compared = (
        f"{n_compared:,} task{'' if n_compared == 1 else 's'} compared with a run alone in a new process"
    )
    outcome = f"{n_different:,} different" if n_different else "all equal"
    lines = [f"Self-check: {compared}, {outcome}." if n_compared else "Self-check: no task was compared."]
    for cause, meaning in _MEANINGS.items():
        if comparisons := [each for each in self_check.different if each.cause == cause]:
            lines.append(f"{_list_tasks(comparisons)}: {meaning}")
    if self_check.not_comparable:
        lines.append(f"Not comparable: {_list_tasks(self_check.not_comparable)}.")
    return lines


_MEANINGS = {
    "order": (
        "run alone, the task always returns the same, so tasks that ran before it in its process changed the "
        "stored result. Other results of this study may be wrong too."
    ),
    "seed": (
        "run alone, the task does not return the same twice, so its randomness does not come from the "
        "seed. No preset fixes this: draw from generators that are made from the seed."
    ),
    "outside": (
        "run alone, the task always returns the same, and nothing ran before it in the stored result's "
        "process. "
        "Therefore the result depends on something outside the process: files, concurrent tasks, the "
        "machine or, for a fork, state left by the import."
    ),
    "": "the stored result is not what the task returns alone.",
}


def _list_tasks(comparisons: Sequence[Comparison]) -> str:
    """3/0 (course), 4/1 (it failed: KeyError) and 2 more."""
    texts = [
        f"{each.set}/{each.replicate} ({', '.join(each.outputs) or each.reason})"
        for each in comparisons[:SHOWN]
    ]
    n_hidden = len(comparisons) - len(texts)
    return ", ".join(texts) + (f" and {n_hidden:,} more" if n_hidden else "")
