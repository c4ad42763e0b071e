"""`outputs` of a study file: what is stored, what is on record of the rest, and what is pending again."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_dask.plan import spec
from modelops_dask.plan.plan import OK, PENDING
from modelops_dask.store import parts, study
from modelops_dask.store.compact import compact, read_manifest
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.merge import merge
from modelops_dask.store.replicates import compare_replicates
from modelops_dask.store.requests import is_last, plan_of
from modelops_dask.store.results import NoOutput, find_missing_outputs, opened, results
from modelops_dask.store.verify import verify
from modelops_dask.study.batch import leave_out
from store_helpers import DIGEST, attempt, ipc_stream

NAMES = ["a", "b", "c"]


@pytest.fixture
def files(tmp_path):
    return Store(str(tmp_path / "store"))


def write_spec(folder, outputs=None, replicates=2, volatile=None):
    """A study file that stores some outputs, None: all."""
    content = f"model: m.s\nscenario: b\nreplicates: {replicates}\nsets: [{{a: 1}}, {{a: 2}}]\n"
    path = folder / f"study-{len(list(folder.iterdir()))}.yaml"
    content += f"outputs: {outputs}\n" if outputs else ""
    path.write_text(f"{content}volatile: {volatile}\n" if volatile else content)
    return spec.load(path)


def begin(files, folder, outputs=None, **more):
    return study.begin(files, write_spec(folder, outputs, **more), DIGEST)


def returned(task, changed=()):
    """What a model returns: texts and a table, other ones where the name is in `changed`."""
    texts = {name: b"%d%d" % (task.seed, name in changed) for name in "ac"}
    table = ipc_stream(pa.table({"day": [0, 1], "n": [task.seed % 97, int("b" in changed)]}))
    return {**texts, "b": table}


def run(files, plan, changed=(), **more):
    """A run of all tasks, which stores what its request says."""
    rows = []
    for task in plan.tasks([(0, plan.absent.size)]):
        row = attempt(plan, task.set, task.replicate, outputs=returned(task, changed), **more)
        rows.append(leave_out(row, plan.request.outputs) if plan.request.outputs else row)
    parts.write(files, rows)


def states(files, plan):
    """Tasks by state, which fold and verify must count alike."""
    counts = fold(files, plan).counts()
    checked = verify(
        files.location(),
        request=(plan.request.replicates, plan.request.sets),
        outputs=plan.request.outputs,
    )
    assert checked.tasks == counts
    assert {finding.code for finding in checked.findings} <= {"UNFINISHED", "CONFLICT"}
    return {state: count for state, count in counts.items() if count}


def test_only_what_is_named_is_stored_and_the_rest_is_on_record(files, tmp_path):
    plan = begin(files, tmp_path, "[a]")
    run(files, plan)
    (rows,) = parts.scan(files, ["outputs", "left_out", "output_digests", "digest"])
    for row, task in zip(rows.table.to_pylist(), plan.tasks([(0, 4)]), strict=True):
        everything = returned(task)
        assert dict(row["outputs"]) == {"a": everything["a"]}
        assert dict(row["left_out"]) == {
            name: parts.outputs_digest({name: everything[name]}) for name in ("b", "c")
        }
    assert states(files, plan) == {"ok": 4}
    assert results(files, "a").num_rows == 4
    with pytest.raises(NoOutput, match="does not store output b"):
        results(files, "b")


@pytest.mark.parametrize(
    "before, now, pending",
    [
        ("[a]", None, True),
        ("[a]", "[b]", True),
        ("[a]", "[a, b]", True),
        ("[a, b]", "[b]", False),
        ("[a, b]", "[a, never]", False),
        (None, "[a]", False),
        ("[never]", "[a]", True),
    ],
)
def test_an_ok_row_that_left_out_what_is_asked_for_is_pending_again(files, tmp_path, before, now, pending):
    run(files, begin(files, tmp_path, before))
    plan = begin(files, tmp_path, now)
    assert states(files, plan) == ({"pending": 4} if pending else {"ok": 4})
    run(files, plan)
    assert states(files, plan) == {"ok": 4}
    compact(files, plan)
    names = set(plan.request.outputs) & set(NAMES) or set(NAMES)
    with opened(files) as tables:
        assert set(tables.outputs) == {*names, "replicates"}
    assert verify(files.location()).findings == []
    first = plan_of(files, write_spec(tmp_path, before))
    assert states(files, first) == {"ok": 4}, "the first request is complete as before"


def test_attempts_that_left_something_out_are_not_held_against_a_task(files, tmp_path):
    run(files, begin(files, tmp_path, "[a]"))
    plan = begin(files, tmp_path)
    for error in "xyz":
        parts.write(files, [attempt(plan, 0, 0, "failed", reason=error, error=error, failure="model")])
    assert states(files, plan) == {"pending": 4}
    parts.write(files, [attempt(plan, 0, 0, "failed", reason="q", error="q", failure="model")])
    assert states(files, plan) == {"failed": 1, "pending": 3}


@pytest.mark.parametrize("changed", ["", "a", "b", "c"])
@pytest.mark.parametrize(
    "first, second",
    [("[a]", None), (None, "[a]"), ("[a]", "[c]"), ("[c]", "[a]"), ("[never]", "[b]"), (None, None)],
)
@pytest.mark.parametrize("volatile", [None, "[c]"])
def test_rows_are_compared_output_by_output(files, tmp_path, first, second, changed, volatile):
    """Also those that one of the rows, or both, left out: their digests are on record."""
    run(files, begin(files, tmp_path, first, volatile=volatile))
    plan = begin(files, tmp_path, second, volatile=volatile)
    run(files, plan, changed)
    merge(files, max_files=0)
    conflicts = fold(files, plan).conflicts
    assert len(conflicts) == (0 if changed == "c" and volatile else 4 if changed else 0)
    found = verify(files.location()).findings
    assert {finding.location for finding in found if finding.code == "CONFLICT"} == {
        f"{number}/{replicate}" for number, replicate in conflicts
    }


def test_replicates_are_compared_by_what_is_stored(files, tmp_path):
    """An output that some rows left out neither varies nor is constant."""
    plan = begin(files, tmp_path, "[a]")
    run(files, plan)
    plan = begin(files, tmp_path, "[a, b]")
    parts.write(files, [attempt(plan, 0, 0, outputs=returned(plan.task(0)))])
    assert set(compare_replicates(files, begin(files, tmp_path, "[a]"), None).outputs) == {"a"}


@pytest.mark.parametrize("seed", range(6))
def test_fold_and_verify_agree_whatever_was_run_before(tmp_path, seed):
    """Any requests one after another, each run in part: the states, the tables and the conflicts agree."""
    print("seed", seed)
    chance = random.Random(seed)
    files = Store(str(tmp_path / "s"))
    for _ in range(5):
        names = chance.sample(NAMES, chance.randint(0, 3))
        plan = begin(files, tmp_path, names or None)
        tasks = chance.sample(list(plan.tasks([(0, 4)])), chance.randint(1, 4))
        rows = [attempt(plan, t.set, t.replicate, outputs=returned(t)) for t in tasks]
        parts.write(files, [leave_out(row, names) if names else row for row in rows])
        if chance.random() < 0.3:
            merge(files, max_files=0)
        state = fold(files, plan)
        served = {(t.set, t.replicate) for t in tasks}
        assert all(state.codes[task] == OK for task in served)
        assert set(state.codes.ravel()) <= {OK, PENDING}
        compact(files, plan)
        states(files, plan)
        assert {each.code for each in verify(files.location()).findings} <= {"UNFINISHED"}


def test_a_name_that_no_task_returned_is_reported_with_near_ones(files, tmp_path):
    plan = begin(files, tmp_path, "[a, bb, zebra]")
    run(files, plan)
    compact(files, plan)
    note = find_missing_outputs(files, plan)
    assert "'bb'" in note and "did you mean b?" in note and "'zebra'" in note
    assert read_manifest(files)["left_out"] == ["b", "c"]
    plan = begin(files, tmp_path, "[a, b]")
    assert find_missing_outputs(files, plan) == "", "results/ is of another request"
    run(files, plan)
    compact(files, plan)
    assert find_missing_outputs(files, plan) == ""


def test_results_of_a_request_are_those_of_its_outputs(files, tmp_path):
    first = write_spec(tmp_path)
    plan = study.begin(files, first, DIGEST)
    run(files, plan)
    compact(files, plan)
    narrow = begin(files, tmp_path, "[c]")
    assert not is_last(files, plan) and is_last(files, narrow)
    compact(files, narrow)
    with opened(files) as tables:
        assert set(tables.outputs) == {"c", "replicates"} and set(tables.left_out) == {"a", "b"}
    with opened(files, first) as tables:
        assert set(tables.outputs) == {*NAMES, "replicates"} and not tables.last


def test_a_wrong_digest_of_one_output_is_found(tmp_path):
    files = Store(str(tmp_path / "s"))
    plan = begin(files, tmp_path)
    row = attempt(plan, 0, 0, outputs=returned(plan.task(0)))
    table = pa.BufferReader(parts.encode([row], None))
    columns = pq.read_table(table)
    digests = dict(columns["output_digests"][0].as_py()) | {"a": bytes(16)}
    place = columns.column_names.index("output_digests")
    wrong = columns.set_column(place, "output_digests", pa.array([list(digests.items())], parts.DIGESTS))
    (files.folder / "parts").mkdir()
    mark = study.read_study(files).mark(DIGEST)
    with pq.ParquetWriter(files.folder / "parts" / "x.parquet", parts.SCHEMA) as writer:
        writer.write_table(wrong.cast(parts.SCHEMA))
        writer.add_key_value_metadata({parts.MARK: json.dumps(mark._asdict())})
    assert "DIGEST" in {finding.code for finding in verify(files.location()).findings}
