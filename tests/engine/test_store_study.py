"""study.json, spec.json and sets/: numbers stay, a study only grows, another bundle is refused."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.plan import contract
from modelops_dask.store import study
from store_helpers import DIGEST, begin, read_parquet, tree, write_spec


def params(plan):
    return [task.params["a"] for task in plan.tasks([(0, plan.absent.size)])]


def test_begin_and_read_back(files, tmp_path):
    plan = begin(files, tmp_path)
    again = study.read_plan(files)
    tasks = list(plan.tasks([(0, 12)]))
    assert tasks == list(again.tasks([(0, 12)])) and len(tasks) == again.n_tasks == 12
    assert tasks[5].set == 1 and tasks[5].replicate == 1 and tasks[5].params == {"a": 2}
    assert tasks[5].param_id == contract.param_id({"a": 2})
    assert tasks[5].seed == contract.derived_seed(tasks[5].param_id, 1)
    table = read_parquet(files, "sets/000000.parquet").to_pylist()
    assert table[1] == {"set": 1, "param_id": tasks[5].param_id, "params": '{"a":2}', "seed": None}


def test_the_same_again_changes_nothing(files, tmp_path):
    begin(files, tmp_path)
    before = tree(files)
    begin(files, tmp_path)
    assert tree(files) == before


def test_more_sets_and_replicates_keep_numbers(files, tmp_path):
    begin(files, tmp_path)
    plan = begin(files, tmp_path, sets="[{a: 9}, {a: 2}, {a: 1}, {a: 3}]", replicates=5)
    assert files.list("sets") == ["000000.parquet", "000001.parquet"]
    assert [plan.task(plan.index(number, 0)).params["a"] for number in range(4)] == [1, 2, 3, 9]
    assert plan.n_tasks == 20


def test_what_a_request_leaves_out_is_kept_but_not_planned(files, tmp_path):
    begin(files, tmp_path)
    plan = begin(files, tmp_path, sets="[{a: 1}, {a: 3}]", replicates=2)
    assert (plan.n_sets, plan.n_tasks, params(plan)) == (3, 4, [1, 1, 3, 3])
    assert params(study.read_plan(files)) == [1, 1, 3, 3]
    assert params(begin(files, tmp_path)) == [1] * 4 + [2] * 4 + [3] * 4


def test_explicit_seeds(files, tmp_path):
    sets = f"[{{params: {{a: 1}}, seed: {2**64 - 1}}}, {{a: 1}}, {{params: {{a: 1}}, seed: 5}}]"
    plan = begin(files, tmp_path, sets=sets, replicates=2)
    found = [(t.set, t.replicate, t.seed) for t in plan.tasks([(0, 6)])]
    derived = [contract.derived_seed(contract.param_id({"a": 1}), i) for i in range(2)]
    assert found == [(0, 0, 2**64 - 1), (1, 0, derived[0]), (1, 1, derived[1]), (2, 0, 5)]
    assert plan.absent.tolist() == [[False, True], [False, False], [False, True]]
    assert study.read_plan(files).n_tasks == plan.n_tasks == 4
    assert begin(files, tmp_path, sets=sets, replicates=2).n_sets == 3
    with pytest.raises(KeyError):
        plan.index(0, 1)
    with pytest.raises(KeyError):
        plan.task(1)


def test_a_worker_keeps_the_plan_of_its_driver(files, tmp_path):
    mine = begin(files, tmp_path)
    begin(files, tmp_path, sets="[{a: 9}]", replicates=7)
    there = study.read_plan(files, pickle.loads(pickle.dumps(mine.request)))
    assert list(there.tasks([(0, 12)])) == list(mine.tasks([(0, 12)]))


def test_another_bundle_or_entrypoint_is_refused_with_the_way_out(files, tmp_path):
    begin(files, tmp_path)
    before = tree(files)
    with pytest.raises(BadInput, match="another bundle") as caught:
        study.begin(files, write_spec(tmp_path), "sha256:" + "b" * 64)
    for part in (DIGEST, "sha256:bbb", files.location(), "--store"):
        assert part in str(caught.value)
    other = write_spec(tmp_path)
    object.__setattr__(other, "entrypoint", "m.s/other")
    with pytest.raises(BadInput, match="another entrypoint"):
        study.begin(files, other, DIGEST)
    assert tree(files) == before


def test_runs_that_extend_a_study_at_once_all_end_correct(files, tmp_path):
    specs = [
        write_spec(tmp_path, sets=f"[{', '.join(f'{{a: {i + j}}}' for j in range(6))}]")
        for i in range(0, 24, 3)
    ]
    with ThreadPoolExecutor(8) as threads:
        plans = list(threads.map(lambda spec: study.begin(files, spec, DIGEST), specs))
    for first, plan in zip(range(0, 24, 3), plans, strict=True):
        wanted = {t.params["a"] for t in plan.tasks([(0, plan.absent.size)])}
        assert wanted == set(range(first, first + 6)) and plan.n_tasks == 24
    rows = read_parquet(files, "sets").to_pylist()
    assert [row["set"] for row in rows] == list(range(27)), "numbers are given once, in order"
    assert len({row["params"] for row in rows}) == 27


@pytest.mark.parametrize(
    "name, content",
    [
        ("study.json", b"{"),
        ("study.json", b"[]"),
        ("study.json", b"{}"),
        ("spec.json", b"\x00"),
        ("spec.json", b'{"replicates": 1}'),
        ("sets/000000.parquet", b"PAR1"),
        ("sets/000007.parquet", b"PAR1"),
    ],
)
def test_damage_is_named(files, tmp_path, name, content):
    begin(files, tmp_path)
    files.put(name, content)
    with pytest.raises(MopsError, match="damaged") as caught:
        study.read_plan(files)
    assert name.split("/")[0].partition(".")[0] in str(caught.value)


def test_no_study_and_a_later_format(files, tmp_path):
    with pytest.raises(BadInput, match="no study"):
        study.read_plan(files)
    begin(files, tmp_path)
    files.put("study.json", json.dumps({"bundle": "b", "entrypoint": "e", "format": 4}).encode())
    with pytest.raises(BadInput, match="newer"):
        study.read_plan(files)
