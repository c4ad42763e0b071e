"""What `study verify` says of replicates, found by code of its own, is what the engine finds."""

import json
import random

import pyarrow as pa
import pytest

from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import read_generations
from modelops_dask.store.merge import merge
from modelops_dask.store.replicates import SOME_SEEDS, compare_replicates
from modelops_dask.store.variation import describe_constant_outputs, describe_warning
from modelops_dask.store.verify import verify
from modelops_dask.study.batch import leave_out
from store_helpers import attempt, begin, ipc_file, ipc_stream, parquet

FORMS = {"parquet": parquet, "ipc file": ipc_file, "ipc stream": ipc_stream}
KINDS = ("drawn", "constant", "dies out", "its seed", "its replicate", "a flag", "a whole float")


def value_of(kind: str, task) -> object:
    """What an output of a kind is for a task."""
    drawn = random.Random(task.seed).random()
    return {
        "drawn": drawn,
        "constant": task.set,
        "dies out": 0 if task.set % 2 else drawn,
        "its seed": task.seed,
        "its replicate": task.replicate,
        "a flag": bool(task.replicate % 2),
        "a whole float": float(task.replicate),
    }[kind]


def content(form: str, value) -> bytes:
    if form == "json":
        return json.dumps({"run": [value, "x"]}).encode()
    return FORMS[form](pa.table({"value": [value, value]}))


def random_store(store, folder, order):
    """A study whose outputs are of random kinds, in random parts; some tasks ran twice."""
    names = {f"output{number}": order.choice(KINDS) for number in range(order.randint(1, 3))}
    forms = {name: order.choice(["json", *FORMS]) for name in names}
    n_sets, replicates = order.randint(1, 5), order.choice([1, 2, 3, 4, 11])
    plan = begin(store, folder, sets=json.dumps([{"a": n} for n in range(n_sets)]), replicates=replicates)
    rows = [
        attempt(
            plan,
            task.set,
            task.replicate,
            outputs={name: content(forms[name], value_of(kind, task)) for name, kind in names.items()},
        )
        for task in plan.tasks([(0, plan.n_tasks)])
        for _ in range(order.choice([1, 1, 2]))
    ]
    rows += [attempt(plan, 0, 0, status="failed", reason="ValueError")]
    order.shuffle(rows)
    while rows:
        size = order.randint(1, 10)
        parts.write(store, rows[:size])
        del rows[:size]
    if order.random() < 0.5:
        merge(store, max_files=1)
    return plan, names


@pytest.mark.parametrize("_", range(12))
def test_verify_and_the_engine_agree(tmp_path, _):
    files = Store(str(tmp_path / "store"))
    seed = random.randrange(2**32)
    print("seed", seed)
    plan, names = random_store(files, tmp_path, random.Random(seed))
    variation = compare_replicates(files, plan, read_generations(files, plan))
    report = verify(files.location())
    expected = {
        name: sorted(n for n, n_seeds in output.constant_sets.items() if n_seeds >= SOME_SEEDS)
        for name, output in variation.outputs.items()
    }
    assert report.equal_replicates == expected, names
    assert bool(report.warning) == bool(describe_warning(variation, False)), names
    assert len(report.notes) == len(describe_constant_outputs(variation, False)), names


@pytest.mark.parametrize("value", ["a flag", "a whole float"])
def test_a_value_that_is_like_the_replicate_but_no_number_of_it_varies(tmp_path, value):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path, sets="[{a: 1}, {a: 2}, {a: 3}]", replicates=2)
    rows = [
        attempt(plan, task.set, task.replicate, outputs={"y": content("json", value_of(value, task))})
        for task in plan.tasks([(0, plan.n_tasks)])
    ]
    parts.write(files, rows)
    assert compare_replicates(files, plan, read_generations(files, plan)).outputs["y"].varies
    assert verify(files.location()).equal_replicates == {"y": []}


@pytest.mark.parametrize("stated", [{}, {"deterministic": True}, {"volatile": ["y"]}])
def test_what_the_study_file_states_is_respected(tmp_path, stated):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path, sets="[{a: 1}, {a: 2}, {a: 3}]", replicates=3)
    spec = json.loads(files.read("spec.json"))
    files.put("spec.json", json.dumps({**spec, "spec": {**spec["spec"], **stated}}).encode())
    for task in plan.tasks([(0, plan.n_tasks)]):
        outputs = {"y": str(random.Random(task.seed).random()).encode(), "z": b"{}"}
        parts.write(files, [attempt(plan, task.set, task.replicate, outputs=outputs)])
    report = verify(files.location())
    if "deterministic" in stated:
        assert "states deterministic: true, but replicates differ in y" in report.warning
    elif "volatile" in stated:
        assert "has the same z for all" in report.warning
    else:
        assert report.warning == "" and report.notes[0].startswith(
            "output z is the same for all seeds in 3 of 3"
        )
    assert report.findings == []


@pytest.mark.parametrize(("kind", "is_warned"), [("constant", True), ("drawn", False)])
def test_chance_in_outputs_that_are_not_stored_comes_from_the_seed(tmp_path, kind, is_warned):
    store = Store(str(tmp_path / "store"))
    sets = json.dumps([{"a": number} for number in range(3)]) + '\noutputs: ["y"]'
    plan = begin(store, tmp_path, sets=sets, replicates=3)
    rows = [
        attempt(
            plan, task.set, task.replicate, outputs={"y": b"1", "z": content("json", value_of(kind, task))}
        )
        for task in plan.tasks([(0, plan.n_tasks)])
    ]
    parts.write(store, [leave_out(row, ["y"]) for row in rows])
    assert ("replicates are equal" in verify(store.location()).warning) == is_warned
