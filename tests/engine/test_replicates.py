"""Replicates that are equal: chance that does not come from the seed, output by output."""

import json
import random

import pyarrow as pa
import pytest

from modelops_dask.store import parts
from modelops_dask.store.fold import read_generations
from modelops_dask.store.merge import merge
from modelops_dask.store.replicates import compare_replicates
from modelops_dask.store.results import NoOutput
from modelops_dask.store.variation import describe_warning
from modelops_dask.study.batch import leave_out
from store_helpers import attempt, begin, parquet


def store_of(store, folder, outputs_of, *, sets=4, replicates=4, parts_of=3, stored=()):
    """A study whose tasks return outputs_of(set, seed, replicate), in several parts."""
    plan = begin(
        store,
        folder,
        sets=json.dumps([{"a": number} for number in range(sets)])
        + (f"\noutputs: {json.dumps(stored)}" if stored else ""),
        replicates=replicates,
    )
    rows = [
        attempt(plan, task.set, task.replicate, outputs=outputs_of(task.set, task.seed, task.replicate))
        for task in plan.tasks([(0, plan.n_tasks)])
    ]
    rows = [leave_out(row, stored) for row in rows] if stored else rows
    random.Random(4).shuffle(rows)
    for start in range(0, len(rows), parts_of):
        parts.write(store, rows[start : start + parts_of])
    return plan


def drawn(_, seed, *__):
    return {"y": parquet(pa.table({"value": [random.Random(seed).random()]}))}


def constant(number, *_):
    return {"y": parquet(pa.table({"value": [float(number)]}))}


@pytest.mark.parametrize("until_varied", [False, True])
def test_results_that_vary_are_not_reported(files, tmp_path, until_varied):
    plan = store_of(files, tmp_path, drawn)
    variation = compare_replicates(files, plan, read_generations(files, plan), until_varied=until_varied)
    assert variation.outputs["y"].varies and not variation.is_seed_unused
    assert variation.complete is not until_varied


@pytest.mark.parametrize("until_varied", [False, True])
def test_results_that_never_vary_are_reported(files, tmp_path, until_varied):
    plan = store_of(files, tmp_path, constant)
    variation = compare_replicates(files, plan, read_generations(files, plan), until_varied=until_varied)
    assert variation.is_seed_unused and variation.complete
    assert variation.outputs["y"].constant_sets == {0: 4, 1: 4, 2: 4, 3: 4}


IDENTITY = {
    "json": lambda seed, replicate: json.dumps({"run": {"seed": seed, "rep": replicate}, "n": 3}).encode(),
    "json text": lambda seed, replicate: json.dumps([str(seed), replicate]).encode(),
    "columns": lambda seed, replicate: parquet(
        pa.table({"seed": pa.array([seed] * 2, pa.uint64()), "replicate": [replicate] * 2, "v": [1, 2]})
    ),
}


@pytest.mark.parametrize("identity", IDENTITY.values(), ids=IDENTITY)
def test_the_seed_in_an_output_does_not_hide_that_nothing_was_drawn(files, tmp_path, identity):
    def outputs(number, seed, replicate):
        return constant(number) | {"metadata": identity(seed, replicate)}

    variation = compare_replicates(files, store_of(files, tmp_path, outputs), None, until_varied=True)
    assert variation.is_seed_unused and set(variation.outputs) == {"y", "metadata"}


def test_an_output_that_varies_beside_one_that_does_not_is_told_apart(files, tmp_path):
    plan = store_of(files, tmp_path, lambda *task: constant(*task) | {"z": drawn(*task)["y"]})
    variation = compare_replicates(files, plan, read_generations(files, plan))
    assert not variation.is_seed_unused
    assert not variation.outputs["y"].varies and variation.outputs["z"].varies


def test_messages_show_no_control_characters_of_names(files, tmp_path):
    plan = store_of(files, tmp_path, lambda *task: {"a\nb": constant(*task)["y"]})
    variation = compare_replicates(files, plan, None)
    assert "has the same 'a\\nb' for all" in describe_warning(variation, deterministic=False)
    assert "it has 'a\\nb'" in str(NoOutput("store", "q", ["a\nb"]))
    assert "has no output 'x\\x1b'" in str(NoOutput("store", "x\x1b", ["y"]))


@pytest.mark.parametrize("until_varied", [False, True])
def test_chance_in_outputs_that_are_not_stored_comes_from_the_seed_too(files, tmp_path, until_varied):
    """As where `outputs` names those that happen to be constant."""
    plan = store_of(files, tmp_path, lambda *task: constant(*task) | {"z": drawn(*task)["y"]}, stored=["y"])
    variation = compare_replicates(files, plan, None, until_varied=until_varied)
    assert not variation.is_seed_unused
    assert compare_replicates(files, plan, None, ignored=["z"], until_varied=until_varied).is_seed_unused


def test_constant_outputs_that_are_not_stored_hide_nothing(files, tmp_path):
    plan = store_of(files, tmp_path, lambda *task: constant(*task) | {"z": constant(1)["y"]}, stored=["y"])
    assert compare_replicates(files, plan, None).is_seed_unused


def test_sets_that_die_out_are_rightly_equal(files, tmp_path):
    plan = store_of(
        files, tmp_path, lambda number, *task: (constant if number == 1 else drawn)(number, *task)
    )
    variation = compare_replicates(files, plan, read_generations(files, plan))
    assert not variation.is_seed_unused and variation.outputs["y"].constant_sets == {1: 4}


@pytest.mark.parametrize(
    ("sets", "replicates", "is_enough"),
    [(3, 3, True), (2, 9, False), (3, 2, False), (1, 10, True), (1, 9, False), (9, 1, False)],
)
def test_how_much_must_be_equal_before_it_is_said(files, tmp_path, sets, replicates, is_enough):
    plan = store_of(files, tmp_path, constant, sets=sets, replicates=replicates)
    assert compare_replicates(files, plan, read_generations(files, plan)).is_seed_unused is is_enough


def test_an_output_that_may_vary_by_itself_is_left_out(files, tmp_path):
    plan = store_of(files, tmp_path, lambda *task: constant(*task) | {"log": drawn(*task)["y"]})
    assert not compare_replicates(files, plan, read_generations(files, plan)).is_seed_unused
    assert compare_replicates(files, plan, read_generations(files, plan), ignored=["log"]).is_seed_unused


def test_merged_parts_say_the_same(files, tmp_path):
    plan = store_of(files, tmp_path, constant, parts_of=1)
    before = compare_replicates(files, plan, read_generations(files, plan))
    merge(files, max_files=1)
    assert compare_replicates(files, plan, read_generations(files, plan)) == before


def test_a_task_that_is_there_twice_is_one_seed(files, tmp_path):
    plan = store_of(files, tmp_path, constant, sets=3, replicates=2)
    parts.write(files, [attempt(plan, number, 0, outputs=constant(number)) for number in range(3)])
    assert not compare_replicates(files, plan, read_generations(files, plan)).is_seed_unused
