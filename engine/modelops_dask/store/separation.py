"""Find what separates failed tasks from ok ones: a parameter, or a property of the seed.

codes of all tasks, parameters, seeds -> Separation: every failed task is on one side, every ok task on the
other

A separation is reported only if every finished task of the study agrees (or a sample, if there are very
many). It must also be unlikely by chance: with as many sets failing at random, the probability that any of
the tested splits separates them must be below CHANCE. For a parameter a set counts once, because its
replicates share its values.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelops_dask.plan.plan import FAILED, OK, POISONED, Plan

CHANCE = 0.01
SAMPLE = 2_000  # sets, and tasks, of each side that are examined
SHOWN_CHARACTERS = 60  # characters of a value


@dataclass(frozen=True)
class Separation:
    """`name` is a parameter's, or "seed"; `failed` and `ok` describe the values of the tasks on each side.
    `n_failed` and `n_ok` are tasks; if `sampled`, those examined.
    """

    name: str
    failed: str
    ok: str
    n_failed: int
    n_ok: int
    sampled: bool = False

    def __str__(self) -> str:
        of_sample = " of the sample" if self.sampled else ""
        return (
            f"All {self.n_failed:,} failed tasks{of_sample} have {self.failed}; all {self.n_ok:,} ok tasks"
            f"{of_sample} have {self.ok}."
        )


@dataclass(frozen=True)
class _Split:
    """One way to split: whether each unit is on the side, bool (n,)."""

    name: str
    side: np.ndarray
    inside: str
    outside: str


def find_separation(plan: Plan, codes: np.ndarray) -> list[Separation]:
    """Find parameters and properties of seeds that separate failed and poisoned tasks from ok ones.

    Args:
        plan: The study's plan.
        codes: Of all tasks, uint8 (n_sets, replicates).
    """
    is_failed = np.isin(codes, (FAILED, POISONED))
    is_ok = codes == OK
    if not is_failed.any() or not is_ok.any():
        return []
    separations = _by_parameters(plan, is_failed, is_ok)
    return separations or _by_seeds(plan, is_failed, is_ok)


def _by_parameters(plan: Plan, is_failed: np.ndarray, is_ok: np.ndarray) -> list[Separation]:
    set_failed, set_ok = is_failed.any(axis=1), is_ok.any(axis=1)
    if (set_failed & set_ok).any():
        return []  # a set has both, so its parameters do not separate them
    failed_sets, ok_sets = _spread(np.flatnonzero(set_failed)), _spread(np.flatnonzero(set_ok))
    sampled = len(failed_sets) < set_failed.sum() or len(ok_sets) < set_ok.sum()
    sets = np.concatenate([failed_sets, ok_sets])
    labels = np.arange(len(sets)) < len(failed_sets)
    params = [json.loads(text) for text in plan.table["params"].take(pa.array(sets)).to_pylist()]
    splits = [
        split
        for name in sorted({name for each in params for name in each})
        for split in _splits_of_parameter(name, [each.get(name, _ABSENT) for each in params], labels.sum())
    ]
    chance = len(splits) / math.comb(len(sets), int(labels.sum()))
    if chance > CHANCE:
        return []
    n_failed, n_ok = int(is_failed[failed_sets].sum()), int(is_ok[ok_sets].sum())
    separations = {
        split.name: Separation(split.name, split.inside, split.outside, n_failed, n_ok, sampled)
        for split in reversed(splits)  # the first of a name is kept
        if (split.side == labels).all()
    }
    return list(reversed(separations.values()))


class _Absent:
    """Replaces a parameter that a set does not have."""


_ABSENT = _Absent()


def _splits_of_parameter(name: str, values: Sequence[object], n_failed: int) -> Iterator[_Split]:
    """The splits by a parameter that could separate n_failed sets from the others."""
    numbers = _numbers(values)
    if numbers is not None:
        ordered = np.sort(numbers)
        for inside, limit in (("or less", ordered[n_failed - 1]), ("or more", ordered[-n_failed])):
            side = numbers <= limit if inside == "or less" else numbers >= limit
            if side.sum() == n_failed and not side.all():
                rest = numbers[~side]
                other, beyond = ("or more", rest.min()) if inside == "or less" else ("or less", rest.max())
                yield _Split(name, side, f"{name} {limit:.12g} {inside}", f"{name} {beyond:.12g} {other}")
    texts = np.array(["" if value is _ABSENT else _text(value) for value in values])
    for text, count in zip(*np.unique(texts, return_counts=True), strict=True):
        shown = f"{name} = {text[:SHOWN_CHARACTERS]}" if text else f"no {name}"
        if count == n_failed:
            yield _Split(name, texts == text, shown, f"another {name}" if text else f"a {name}")
        elif count == len(texts) - n_failed:
            yield _Split(name, texts != text, f"another {name}" if text else f"a {name}", shown)


def _numbers(values: Sequence[object]) -> np.ndarray | None:
    """As float64 (n,); None unless all are numbers."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    try:
        return np.array([float(value) for value in values])  # type: ignore[arg-type]  # they are numbers
    except OverflowError:
        return None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _by_seeds(plan: Plan, is_failed: np.ndarray, is_ok: np.ndarray) -> list[Separation]:
    failed, ok = _spread(np.flatnonzero(is_failed)), _spread(np.flatnonzero(is_ok))
    sampled = len(failed) < is_failed.sum() or len(ok) < is_ok.sum()
    tasks = np.concatenate([failed, ok])
    seeds = plan.seeds(*np.divmod(tasks, plan.replicates))
    labels = np.arange(len(tasks)) < len(failed)
    is_large, is_odd = seeds >= 2**31, seeds % np.uint64(2) == 1
    splits = [
        _Split("seed", is_large, "a seed of 2^31 or more", "a smaller one"),
        _Split("seed", ~is_large, "a seed below 2^31", "a larger one"),
        _Split("seed", is_odd, "an odd seed", "an even one"),
        _Split("seed", ~is_odd, "an even seed", "an odd one"),
    ]
    # Seeds are hashes, so each is on either side with equal probability; or people chose them.
    n_distinct = len(np.unique(seeds))
    chance = len(splits) * max(0.5**n_distinct, 1 / math.comb(len(tasks), len(failed)))
    if chance > CHANCE:
        return []
    return [
        Separation(split.name, split.inside, split.outside, len(failed), len(ok), sampled)
        for split in splits
        if (split.side == labels).all()
    ]


def _spread(numbers: np.ndarray) -> np.ndarray:
    """At most SAMPLE of the numbers, evenly spaced from the first to the last."""
    if len(numbers) <= SAMPLE:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, SAMPLE).astype(np.int64)]
