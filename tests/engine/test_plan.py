"""Plans: indices, ranges, absent tasks."""

import random

import numpy as np
import pytest

from modelops_dask.plan import contract
from modelops_dask.plan.plan import ABSENT, PENDING, Plan, PlannedTask, Request, tabulate
from modelops_dask.plan.sampling import Explicit


def make(sets, replicates, ranges=None):
    table = tabulate(Explicit(list(sets)).chunks({}))
    return Plan("m.s/a", table, Request(replicates, ranges or ((0, table.num_rows),)))


def test_a_row_per_set_in_order_with_the_contracts_ids():
    table = tabulate(Explicit([({"b": i, "a": 0.5}, None) for i in range(70_000)]).chunks({}))
    assert table.num_rows == 70_000 and table["params"][69_999].as_py() == '{"a":0.5,"b":69999}'
    assert table["param_id"][69_999].as_py().hex() == contract.param_id({"a": 0.5, "b": 69_999})


@pytest.mark.parametrize("seed", range(20))
def test_tasks_of_ranges_against_a_loop(seed):
    print("seed", seed)
    rng = random.Random(seed)
    sets = [({"a": i}, rng.choice([None, None, i])) for i in range(rng.randint(1, 30))]
    replicates = rng.randint(1, 5)
    first = rng.randint(0, len(sets))
    plan = make(sets, replicates, ((first, len(sets)),))
    every = {}
    for number, (params, own) in enumerate(sets):
        for replicate in range(replicates):
            if number >= first and (own is None or replicate == 0):
                value = contract.derived_seed(contract.param_id(params), replicate) if own is None else own
                every[number * replicates + replicate] = (number, replicate, params, value)
    size = len(sets) * replicates
    cuts = sorted(rng.randint(0, size) for _ in range(6))
    ranges = list(zip(cuts[::2], cuts[1::2], strict=True))
    wanted = [every[i] for start, stop in ranges for i in range(start, stop) if i in every]
    assert [(t.set, t.replicate, t.params, t.seed) for t in plan.tasks(ranges)] == wanted
    assert plan.n_tasks == len(every) == np.count_nonzero(plan.blank() == PENDING)
    assert {i for i in range(size) if plan.blank().ravel()[i] == ABSENT} == set(range(size)) - set(every)
    for index, (number, replicate, _, _) in every.items():
        assert plan.index(number, replicate) == index and plan.task(index)[:2] == (number, replicate)


def test_the_plan_makes_tasks_by_position_in_this_order():
    """A field that is added to PlannedTask has to be added in Plan._tasks_of_sets too."""
    assert PlannedTask._fields == ("set", "replicate", "param_id", "params", "seed")
    plan = Plan("m.s/b", tabulate(Explicit([({"x": 1}, 7)]).chunks({})), Request(1, ((0, 1),)))
    expected = PlannedTask(set=0, replicate=0, param_id=contract.param_id({"x": 1}), params={"x": 1}, seed=7)
    assert list(plan.tasks([(0, 1)])) == [expected]


@pytest.mark.parametrize("task", [(-1, 0), (0, -1), (3, 0), (0, 2)])
def test_an_index_outside(task):
    with pytest.raises(KeyError):
        make([({"a": i}, None) for i in range(3)], 2).index(*task)
