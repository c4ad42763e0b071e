"""The tasks of a study to run, and their orders.

    Plan -> sets that cover the names, values and extremes of parameters, then evenly spaced sets
         -> two replicates of each, most informative first -> tasks; their numbers -> orders

A cache that ignores the seed shows only between replicates of one set, a persistent setting only after a task
that has it, and a leak may need a certain order.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from modelops_dask.plan.plan import Plan, PlannedTask

LEAST = 4  # tasks, if the study has them
THRICE = 3  # sets with three replicates early in the sample: they show whether the seed matters
PAIRS_BEFORE = 6  # sets with two replicates before that
MOST_SETS = 50_000  # sets whose parameters are read
MOST_VALUES = 12  # distinct values of a parameter up to which each is a category

Feature = tuple[str, ...]  # features of a set: a parameter, one of its values, its lowest or highest number


def choose_tasks(plan: Plan, count: int) -> list[PlannedTask]:
    """`count` tasks, or all if there are fewer, the most informative first.

    The first and the last set lead, then sets that add most names of parameters, categorical values and
    extremes of numbers, then evenly spaced sets. Two replicates of each, of a few sets three.
    """
    count = min(max(count, LEAST), plan.n_tasks)
    sets = _order_sets(plan, count)
    indexes = list(dict.fromkeys(_order_indexes(plan, sets)))[:count]
    if len(indexes) < count:
        rest = np.setdiff1d(np.flatnonzero(~plan.absent), indexes)
        indexes += _spread(rest, count - len(indexes)).tolist()
    tasks = {
        task.set * plan.replicates + task.replicate: task
        for task in plan.tasks((index, index + 1) for index in sorted(indexes))
    }
    return [tasks[index] for index in indexes]


def make_orders(numbers: Iterable[int], repeats: int, seed: int) -> list[tuple[int, ...]]:
    """`repeats` orders of the numbers: unchanged, reversed, then shuffled; the same ones for a seed."""
    plan = tuple(numbers)
    generator = random.Random(seed)
    shuffled = [tuple(generator.sample(plan, len(plan))) for _ in range(repeats)]
    return [plan, plan[::-1], *shuffled][:repeats]


def list_uncovered(plan: Plan, tasks: Iterable[PlannedTask]) -> tuple[str, ...]:
    """Names, categorical values and extremes of the study's parameters that no set of the tasks has."""
    features = _list_features(plan)
    sets = {task.set for task in tasks}
    return tuple(" ".join(feature) for feature, holders in features.items() if not sets & set(holders))


def _order_indexes(plan: Plan, sets: list[int]) -> Iterator[int]:
    """Indexes of tasks, set by set."""
    present = ~plan.absent

    def replicates(numbers: list[int], which: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            for replicate in which:
                if replicate < plan.replicates and present[number, replicate]:
                    yield number * plan.replicates + replicate

    yield from replicates(sets[:PAIRS_BEFORE], (0, 1))
    yield from replicates(sets[:THRICE], (2,))
    yield from replicates(sets[PAIRS_BEFORE:], (0, 1))


def _order_sets(plan: Plan, count: int) -> list[int]:
    """At most `count` sets of the plan, the most informative first."""
    present = np.flatnonzero((~plan.absent).any(axis=1))
    chosen = dict.fromkeys(_spread(present, min(2, count)).tolist())
    features = _list_features(plan)
    n_new = np.zeros(plan.n_sets, int)  # features that a set would add
    for holders in features.values():
        n_new[holders] += 1
    uncovered = dict(features)
    for number in chosen:
        _cover(number, uncovered, n_new)
    while uncovered and len(chosen) < count:
        number = int(n_new.argmax())
        chosen[number] = None
        _cover(number, uncovered, n_new)
    rest = np.setdiff1d(present, list(chosen))
    rest = _spread(rest, count - len(chosen))
    return [*chosen, *rest[_from_all_over(len(rest))].tolist()]


def _cover(number: int, uncovered: dict[Feature, np.ndarray], n_new: np.ndarray) -> None:
    """Remove the features of a set."""
    for feature, holders in list(uncovered.items()):
        if number in holders:
            n_new[uncovered.pop(feature)] -= 1


def _from_all_over(count: int) -> list[int]:
    """0 ... count-1, each far from those before it."""
    return sorted(range(count), key=lambda number: f"{number:032b}"[::-1])


def _list_features(plan: Plan) -> dict[Feature, np.ndarray]:
    """The sets that have each feature; without features that all have."""
    sets = _spread(np.flatnonzero((~plan.absent).any(axis=1)), MOST_SETS)
    texts = plan.table["params"].take(sets).to_pylist()
    values: defaultdict[str, dict[int, object]] = defaultdict(dict)
    for number, text in zip(sets.tolist(), texts, strict=True):
        for name, value in _flatten(json.loads(text)):
            values[name][number] = value
    features: dict[Feature, list[int]] = {}
    for name, by_set in values.items():
        features["parameter", name] = list(by_set)
        features["no parameter", name] = [number for number in sets.tolist() if number not in by_set]
        by_value: defaultdict[str, list[int]] = defaultdict(list)
        for number, value in by_set.items():
            by_value[json.dumps(value, sort_keys=True)].append(number)
        if len(by_value) <= MOST_VALUES:
            features |= {("value", f"{name}={value}"): numbers for value, numbers in by_value.items()}
        figures = {
            number: value
            for number, value in by_set.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for word, extreme in (
            ("lowest", min(figures.values(), default=0)),
            ("highest", max(figures.values(), default=0)),
        ):
            features[word, name] = [number for number, value in figures.items() if value == extreme]
    return {
        feature: np.array(holders) for feature, holders in features.items() if 0 < len(holders) < len(sets)
    }


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly spaced, including the first and the last."""
    count = min(count, len(numbers))
    return numbers[np.round(np.linspace(0, len(numbers) - 1, count)).astype(int)] if count else numbers[:0]
