"""Which rows of tasks that were run again count: those of the highest generation.

    redo/ + rows of parts -> fold.read_generations() -> Generations -> which rows count, new generation

A row of a lower generation than the highest redo that names its task does not count. Among the others, those
of the task's highest generation count. A row without a generation has generation 0.

The store is read as it was when redo/ was listed: rows of a redo that began later do not count yet.

A store without a redo has no Generations (None), and nothing is looked up. Parts are not read here: fold.py
reads them.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from modelops_dask.plan.plan import PENDING, Plan
from modelops_dask.store.files import Store
from modelops_dask.store.identity import Damaged
from modelops_dask.store.redo import FOLDER, Redo, read_redos


class RedoProgress(NamedTuple):
    """The progress of a redo, for tasks of a plan that no later redo names."""

    generation: int
    selection: str  # the selection as typed
    n_tasks: int
    n_pending: int
    n_lacking: int = 0  # that ran again, and did not store all outputs that the plan requests


class Generations:
    """The generation of each task of a plan, by task index."""

    def __init__(self, redos: Sequence[Redo], plan: Plan) -> None:
        self.redos = tuple(redos)
        self.latest_redo = np.zeros((plan.n_sets, plan.replicates), np.uint32)
        for redo in redos:
            self.latest_redo[redo.mask(plan)] = redo.generation
        self._counted = self.latest_redo.ravel().copy()
        self._has_run_again = np.zeros(self._counted.shape, bool)

    def add(self, index: np.ndarray, generations: np.ndarray) -> None:
        """Record that there are rows of these tasks (-1: of none), int (n,), with these generations, (n,)."""
        is_counted = (index >= 0) & (generations <= len(self.redos))
        is_new = index >= 0
        is_new[is_new] = generations[is_new] >= self.latest_redo.ravel()[index[is_new]]
        self._has_run_again[index[is_new]] = True
        np.maximum.at(self._counted, index[is_counted], generations[is_counted].astype(np.uint32))

    def count(self, index: np.ndarray, generations: np.ndarray | None) -> np.ndarray:
        """Whether rows count, bool (n,). Those of no task of the plan (-1) count, to be counted as such."""
        is_counted: np.ndarray = self._counted[index] == (0 if generations is None else generations)
        is_counted[index < 0] = True
        return is_counted

    def of_task(self, index: int) -> int:
        """The generation of a task's rows that count, and of a new row."""
        return int(self._counted[index])

    def runs(self, ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
        """Half-open ranges of tasks with a generation above 0: (start, stop, generation)."""
        runs: list[tuple[int, int, int]] = []
        for start, stop in ranges:
            counted = self._counted[start:stop]
            edges = [0, *(np.flatnonzero(np.diff(counted)) + 1).tolist(), len(counted)]
            for first, last in pairwise(edges):
                if counted[first]:
                    runs.append((start + first, start + last, int(counted[first])))
        return tuple(runs)

    def progress(self, codes: np.ndarray, attempts: np.ndarray) -> tuple[RedoProgress, ...]:
        """The progress of each redo that has tasks of the plan; `codes` and `attempts` are of a State."""
        largest = len(self.redos) + 1
        counts = np.bincount(self.latest_redo.ravel(), minlength=largest).tolist()
        # A row that lacks outputs does not count as an attempt at the task of this plan.
        is_lacking = (codes == PENDING) & (attempts == 0) & self._has_run_again.reshape(codes.shape)
        n_pending = np.bincount(
            self.latest_redo[(codes == PENDING) & ~is_lacking], minlength=largest
        ).tolist()
        n_lacking = np.bincount(self.latest_redo[is_lacking], minlength=largest).tolist()
        return tuple(
            RedoProgress(
                generation=redo.generation,
                selection=redo.selection,
                n_tasks=counts[redo.generation],
                n_pending=n_pending[redo.generation],
                n_lacking=n_lacking[redo.generation],
            )
            for redo in self.redos
            if counts[redo.generation]
        )


def expect_redo(store: Store, generation: int) -> None:
    """Raise Damaged if a row has a generation that no redo of the store has."""
    if generation > len(read_redos(store)):
        name = f"{FOLDER}/{generation:06}.json"
        raise Damaged(store.location(name), f"it is missing, and parts/ has rows of generation {generation}")
