"""Which tasks of a study are run, and in which orders.

Plan -> sets from the first to the last, two replicates of each -> tasks; their numbers -> orders

A cache that forgets the seed shows only between replicates of one set, and a leak may need a certain order.
"""

import random

import numpy as np

from modelops_dask.plan.plan import Plan, PlannedTask

LEAST = 4  # tasks, if the study has them


def choose_tasks(plan: Plan, count: int) -> list[PlannedTask]:
    """`count` tasks in the plan's order, or all if there are fewer: the first and the last set are among
    them, and two replicates of as many sets as possible.
    """
    count = min(max(count, LEAST), plan.n_tasks)
    present = ~plan.absent
    replicates = range(min(2, plan.replicates))
    sets = _spread(np.flatnonzero(present.any(axis=1)), -(-count // len(replicates)))
    pairs = [int(plan.replicates * number + which) for which in replicates for number in sets]
    indexes = [index for index in pairs if present.flat[index]][:count]
    if len(indexes) < count:
        rest = np.setdiff1d(np.flatnonzero(present), indexes)
        indexes += _spread(rest, count - len(indexes)).tolist()
    return list(plan.tasks((index, index + 1) for index in sorted(indexes)))


def make_orders(count: int, repeats: int, seed: int) -> list[tuple[int, ...]]:
    """`repeats` orders of 0 ... count-1: rising, falling, then shuffled; the same ones for a seed."""
    plan = tuple(range(count))
    generator = random.Random(seed)
    shuffled = [tuple(generator.sample(plan, count)) for _ in range(repeats)]
    return [plan, plan[::-1], *shuffled][:repeats]


def _spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly, the first and the last included."""
    count = min(count, len(numbers))
    return numbers[np.round(np.linspace(0, len(numbers) - 1, count)).astype(int)] if count else numbers[:0]
