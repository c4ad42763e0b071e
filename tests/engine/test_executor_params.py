"""Each task owns its parameters: what a model does to them no other task sees, in any executor."""

import os
import random

import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import executors

# Changes all that it can reach from its arguments, after it has noted what it was given.
WRECKER = """
def wire(entrypoint, params, seed):
    seen = repr((entrypoint, params, seed))
    wreck(params)
    return {"seen": seen}


def wreck(value):
    if isinstance(value, dict):
        for item in list(value.values()):
            wreck(item)
        for name in list(value):
            value[name + "?"] = value.pop(name)
        value["left"] = "behind"
    elif isinstance(value, list):
        for item in value:
            wreck(item)
        value.reverse()
        value.append("left behind")
        del value[:1]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def wrecker(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("wrecker"), {"wire.py": WRECKER})


def value(chance, depth=3):
    """Any JSON value; numbers of all sizes."""
    kinds = ["int", "huge", "float", "text", "truth", "null"] + ["list", "dict"] * (2 * (depth > 0))
    match chance.choice(kinds):
        case "int":
            return chance.randint(-5, 5)
        case "huge":
            return chance.choice([1, -1]) * chance.getrandbits(200)
        case "float":
            return chance.choice([0.1, -0.0, 1e-320, 1.7976931348623157e308, chance.random(), 3.0])
        case "text":
            return "".join(
                chance.choice('ab\u00e9\u4e2d\U0001f600\0\n"\\ ') for _ in range(chance.randint(0, 9))
            )
        case "truth":
            return chance.random() < 0.5
        case "null":
            return None
        case "list":
            return [value(chance, depth - 1) for _ in range(chance.randint(0, 4))]
        case "dict":
            return {f"k{number}": value(chance, depth - 1) for number in range(chance.randint(0, 4))}


@pytest.mark.parametrize("kind", executors.TYPES)
@pytest.mark.parametrize("size", [1, 2, 7, 60])
def test_a_model_that_changes_all_it_can_reach(folder, wrecker, kind, size):
    seed = int(os.environ.get("TEST_SEED", random.randrange(2**32)))
    print(f"TEST_SEED={seed}")
    chance = random.Random(seed)
    chosen = settings(folder, executor_type=kind)
    n_tasks = 60 if kind in ("direct", "isolated_warm") else 8
    shared = [value(chance) for _ in range(3)]  # held by many sets, as YAML's aliases are
    sets = [
        {"a": value(chance), "b": chance.choice(shared), "c": [shared[0], value(chance)]} for _ in range(3)
    ]
    tasks = [
        task(wrecker, chosen, "any", number)._replace(params=chance.choice(sets)) for number in range(n_tasks)
    ]
    expected = [repr(("faults/any", each.params, each.seed)) for each in tasks]
    with executors.create(chosen) as executor:
        outcomes = []
        for start in range(0, n_tasks, size):
            outcomes += executor.run_all(tasks[start : start + size])
    assert [outcome.outputs["seen"].decode() for outcome in outcomes] == expected
    assert [repr(("faults/any", each.params, each.seed)) for each in tasks] == expected, "the caller's own"
