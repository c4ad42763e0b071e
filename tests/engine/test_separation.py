"""What separates failed from ok tasks: found where something does, and not claimed where chance does."""

import json
import random

import numpy as np
import pytest

from modelops_dask.plan.plan import FAILED, OK, PENDING, POISONED, Plan, Request, tabulate
from modelops_dask.store.separation import CHANCE, find_separation


def make_plan(sets: list[dict], replicates: int = 1, seeds: list[int] | None = None) -> Plan:
    rows = [(json.dumps(params), seeds[number] if seeds else None) for number, params in enumerate(sets)]
    return Plan("m/s", tabulate([rows]), Request(replicates, ((0, len(sets)),)))


def codes(plan: Plan, fails) -> np.ndarray:
    """FAILED where fails(params, seed), else OK."""
    array = np.full((plan.n_sets, plan.replicates), OK, np.uint8)
    for task in plan.tasks([(0, plan.n_sets * plan.replicates)]):
        if fails(task.params, task.seed):
            array[task.set, task.replicate] = FAILED
    return array


def random_sets(rng: random.Random, n: int) -> list[dict]:
    return [
        {
            "beta": rng.choice([0.1, 0.2, 0.4, 0.8]),
            "gamma": round(rng.random(), 6),
            "kind": rng.choice("abc"),
            "fast": rng.random() < 0.5,
            "days": [rng.randint(1, 3)],
            "number": number,
        }
        for number in range(n)
    ]


PLANTED = {
    "beta": lambda params, _: params["beta"] >= 0.4,
    "gamma": lambda params, _: params["gamma"] < 0.3,
    "kind": lambda params, _: params["kind"] == "b",
    "fast": lambda params, _: not params["fast"],
    "days": lambda params, _: params["days"] == [2],
    "seed": lambda _, seed: seed >= 2**31,
    "seed parity": lambda _, seed: seed % 2 == 0,
}


@pytest.mark.parametrize("cause", PLANTED)
@pytest.mark.parametrize("seed", range(4))
def test_what_separates_is_found_with_counts(cause, seed):
    print("seed", seed)
    plan = make_plan(random_sets(random.Random(seed), 60), replicates=3)
    array = codes(plan, PLANTED[cause])
    separations = find_separation(plan, array)
    assert cause.split()[0] in [each.name for each in separations]
    for each in separations:
        assert (each.n_failed, each.n_ok, each.sampled) == (
            (array == FAILED).sum(),
            (array == OK).sum(),
            False,
        )


@pytest.mark.parametrize(
    "cause, text",
    [
        ("kind", 'have kind = "b"; all'),
        ("beta", "have beta 0.4 or more; all"),
        ("seed", "have a seed of 2^31 or more; all"),
        ("seed parity", "have an even seed; all"),
    ],
)
def test_it_says_so_in_words(cause, text):
    plan = make_plan(random_sets(random.Random(1), 60), replicates=3)
    (separation,) = find_separation(plan, codes(plan, PLANTED[cause]))
    assert text in str(separation) and str(separation).startswith(
        f"All {separation.n_failed} failed tasks have"
    )


def test_chance_is_hardly_ever_taken_for_a_cause():
    """Random studies of all sizes, with random labels of sets or of tasks. No more than CHANCE of them claim
    something, and every claim is true of its study.
    """
    n_studies, claims = 1500, 0
    for seed in range(n_studies):
        rng = random.Random(seed)
        plan = make_plan(random_sets(rng, rng.randint(2, 30)), replicates=rng.randint(1, 3))
        array = np.full((plan.n_sets, plan.replicates), OK, np.uint8)
        share = rng.random()
        if rng.random() < 0.5:
            array[[rng.random() < share for _ in range(plan.n_sets)]] = FAILED
        else:
            array.ravel()[[rng.random() < share for _ in range(array.size)]] = FAILED
        claims += bool(find_separation(plan, array))
    print("claims", claims)
    assert claims <= 2 * CHANCE * n_studies


def test_few_tasks_prove_nothing():
    for n in range(2, 6):
        plan = make_plan([{"x": x} for x in range(n)])
        assert find_separation(plan, codes(plan, lambda params, _, n=n: params["x"] == n - 1)) == []


def test_one_exception_is_enough_to_say_nothing():
    plan = make_plan(random_sets(random.Random(2), 60), replicates=2)
    array = codes(plan, PLANTED["kind"])
    assert find_separation(plan, array)
    array[np.flatnonzero(array[:, 0] == FAILED)[0], 1] = OK
    assert find_separation(plan, array) == []


def test_poisoned_tasks_count_as_failed_and_pending_ones_not_at_all():
    plan = make_plan(random_sets(random.Random(3), 60))
    array = codes(plan, PLANTED["kind"])
    array[array == FAILED] = POISONED
    array[np.flatnonzero(array == OK)[:5]] = PENDING
    (separation,) = find_separation(plan, array)
    assert (separation.n_failed, separation.n_ok) == ((array == POISONED).sum(), (array == OK).sum())


@pytest.mark.parametrize("code", [OK, FAILED, PENDING])
def test_nothing_is_said_when_all_ended_alike(code):
    plan = make_plan([{"x": x} for x in range(20)])
    assert find_separation(plan, np.full((20, 1), code, np.uint8)) == []


def test_parameters_that_some_sets_lack_and_numbers_beyond_floats():
    sets = [{"x": x, **({"extra": 10**400} if x % 3 == 0 else {})} for x in range(40)]
    plan = make_plan(sets)
    (separation,) = find_separation(plan, codes(plan, lambda params, _: "extra" in params))
    assert separation.name == "extra"


def test_seeds_that_people_chose_separate_too():
    plan = make_plan([{"x": x % 7} for x in range(40)], seeds=[2**31 - 20 + x for x in range(40)])
    (separation,) = find_separation(plan, codes(plan, lambda _, seed: seed >= 2**31))
    assert (separation.name, separation.n_failed, separation.n_ok) == ("seed", 20, 20)


def test_of_very_many_sets_a_sample_is_looked_at():
    plan = make_plan([{"x": x} for x in range(9000)])
    array = np.full((9000, 1), OK, np.uint8)
    array[6000:] = FAILED
    (separation,) = find_separation(plan, array)
    assert separation.sampled and "of the sample" in str(separation)
    assert separation.failed == "x 6000 or more"
