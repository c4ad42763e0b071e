"""Chunks of a plan: every task in exactly one, about as many in each, the same whoever asks."""

import random
from dataclasses import replace

import numpy as np
import pytest

from modelops_dask.plan.plan import Chunk, Plan, Request, tabulate
from modelops_dask.plan.sampling import Explicit


def tasks(plan: Plan) -> np.ndarray:
    return np.flatnonzero(~plan.absent.ravel())


def shares(plan: Plan, count: int) -> list[Plan]:
    return [replace(plan, share=Chunk(index, count)) for index in range(count)]


@pytest.mark.parametrize("seed", range(30))
def test_every_task_is_in_one_share(seed):
    print("seed", seed)
    rng = random.Random(seed)
    sets = [({"a": i}, rng.choice([None, None, i])) for i in range(rng.randint(1, 300))]
    table = tabulate(Explicit(sets).chunks({}))
    first = rng.randint(0, len(sets) - 1)
    plan = Plan("m.s/a", table, Request(rng.randint(1, 40), ((first, len(sets)),)))
    count = rng.randint(1, 12)
    parts = shares(plan, count)
    assert sorted(np.concatenate([tasks(part) for part in parts]).tolist()) == tasks(plan).tolist()
    sizes = [part.n_tasks for part in parts]
    assert max(sizes) - min(sizes) <= max(1, plan.n_tasks // (16 * count)), sizes
    assert sum(sizes) == plan.n_tasks


def test_a_share_has_some_of_every_stretch_of_the_study():
    """So that costly parameters, and what an interrupted run left, do not fall to one chunk."""
    table = tabulate(Explicit([({"a": i}, None) for i in range(400)]).chunks({}))
    plan = Plan("m.s/a", table, Request(30, ((0, 400),)))
    for part in shares(plan, 3):
        in_quarters, _ = np.histogram(tasks(part), bins=4, range=(0, 12_000))
        assert all(900 < count < 1100 for count in in_quarters), in_quarters


def test_seeds_of_their_own_do_not_resonate_with_the_blocks():
    """With 8 replicates and 8 shares, sets with a seed have their one task at every eighth index."""
    sets = [({"a": i}, i) for i in range(64)] + [({"a": 99}, None)]
    plan = Plan("m.s/a", tabulate(Explicit(sets).chunks({})), Request(8, ((0, 65),)))
    assert [part.n_tasks for part in shares(plan, 8)] == [9] * 8


def test_more_shares_than_tasks_leaves_some_with_nothing_to_do():
    plan = Plan("m.s/a", tabulate(Explicit([({"a": 1}, None)]).chunks({})), Request(2, ((0, 1),)))
    assert [part.n_tasks for part in shares(plan, 4)] == [1, 1, 0, 0]
