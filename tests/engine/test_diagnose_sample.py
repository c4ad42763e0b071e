"""Which tasks are tried, and in which orders; which arms."""

import itertools
import random
from pathlib import Path

import pytest

from modelops_dask.diagnose.trials.arms import ARMS, NAMES, find_arm, select_arms
from modelops_dask.diagnose.trials.sample import choose_tasks, list_uncovered, make_orders
from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import Plan, Request
from modelops_dask.plan.spec import from_content
from modelops_dask.settings import Settings


def plan(**content):
    spec = from_content({"entrypoint": "models.sir/baseline", **content}, Path("/nowhere"))
    return Plan(spec.entrypoint, spec.table, Request(spec.replicates, ((0, spec.n_sets),)))


def ids(tasks):
    return [(task.set, task.replicate) for task in tasks]


def test_sets_are_spread_with_two_replicates_each():
    found = ids(choose_tasks(plan(grid={"beta": list(range(100))}, replicates=30), 24))
    sets = sorted({number for number, _ in found})
    assert len(found) == 24 and len(sets) == 11, "three sets have three replicates"
    assert (sets[0], sets[-1]) == (0, 99)
    assert max(after - before for before, after in itertools.pairwise(sets)) <= 20
    assert sum((number, 0) in found and (number, 1) in found for number in sets) == 10


def test_few_sets_give_more_replicates():
    found = ids(choose_tasks(plan(grid={"beta": [1, 2]}, replicates=100), 24))
    assert len(set(found)) == 24
    assert {number for number, _ in found} == {0, 1}


def test_sets_with_seeds_of_their_own_have_one_task():
    sets = [{"params": {"beta": number}, "seed": number} for number in range(10)]
    assert len(choose_tasks(plan(sets=sets, replicates=5), 24)) == 10
    mixed = [*sets, *({"params": {"beta": number}} for number in range(20, 24))]
    found = ids(choose_tasks(plan(sets=mixed, replicates=3), 14))
    assert len(set(found)) == 14 and {0, 13} <= {number for number, _ in found}


def test_a_random_study_gives_as_many_tasks_as_asked_for():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(30):
        study = plan(grid={"beta": list(range(generator.randint(1, 40)))}, replicates=generator.randint(1, 9))
        count = generator.randint(1, 60)
        found = ids(choose_tasks(study, count))
        assert len(set(found)) == len(found) == min(max(4, count), study.n_tasks)
        if len(found) > 1:
            numbers = [number for number, _ in found]
            assert (min(numbers), max(numbers)) == (0, study.n_sets - 1)


def test_names_categories_and_extremes_of_parameters_are_in_the_sample():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(20):
        sets = [
            {
                "rate": generator.random(),
                "mode": "usual",
                "house": {"size": generator.randint(1, 10**6), "kind": "flat"},
            }
            for _ in range(400)
        ]
        rare = generator.sample(range(400), 5)
        sets[rare[0]]["decay"] = 2.0
        sets[rare[1]]["mode"] = "odd"
        sets[rare[2]]["rate"] = 7.0
        sets[rare[3]]["house"]["kind"] = "barn"
        del sets[rare[4]]["mode"]
        study = plan(sets=sets, replicates=3)
        tasks = choose_tasks(study, generator.choice((24, 200)))[:24]
        assert set(rare) <= {task.set for task in tasks}
        assert list_uncovered(study, tasks) == ()
        without = [task for task in tasks if task.set != rare[0]]
        assert "parameter decay" in list_uncovered(study, without)


def test_three_sets_have_three_replicates_early_in_the_sample():
    found = ids(choose_tasks(plan(grid={"beta": list(range(100))}, replicates=30), 15))
    assert sum((number, 2) in found for number, _ in found[:12:2]) == 3


def test_orders_rise_fall_and_then_are_shuffled_the_same_for_a_seed():
    first = make_orders(range(10), 5, seed=3)
    assert first == make_orders(range(10), 5, seed=3) != make_orders(range(10), 5, seed=4)
    assert first[0] == tuple(range(10)) and first[1] == first[0][::-1]
    assert all(sorted(order) == list(range(10)) for order in first)
    assert len(set(first)) == 5


def test_arms_are_run_in_their_order_and_never_without_the_reference():
    assert select_arms(()) == NAMES
    assert select_arms(["baseline", "single-process"]) == ("cold", "single-process", "baseline")
    with pytest.raises(BadInput, match=r"Unknown arm warm; the arms are cold, fresh-venv"):
        select_arms(["warm", "cold"])


def test_no_arm_seeds_global_generators_nor_replaces_a_process_for_its_age():
    settings = Settings(max_process_reuse=3, process_ttl_seconds=5, preset="baseline")
    for arm in ARMS:
        own = arm.isolate_settings(settings)
        assert not own.seed_globals and own.executor_type == arm.executor, arm.name
        assert (own.max_process_reuse, own.process_ttl_seconds, own.preset) == (0, 0, ""), arm.name
    assert find_arm("fresh-venv").isolate_settings(settings).force_fresh_venv
