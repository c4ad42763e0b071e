"""One store, several requests: each has its own tasks and tables, and results/ has those of the last one."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest

from executor_helpers import write_bundle
from modelops_dask.bundle import Bundle, fetch
from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import Chunk
from modelops_dask.report import report
from modelops_dask.store import parts
from modelops_dask.store.compact import read_manifest
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy
from modelops_dask.store.requests import NotInStore, is_last, numbers_in_spec, plan_of
from modelops_dask.store.results import opened, outputs
from modelops_dask.store.study import begin
from modelops_dask.store.verify import verify
from modelops_dask.study import drive as drive_module
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.summary import read_summary
from store_helpers import DIGEST, attempt, ipc_stream, tree, write_spec


def returned(value) -> dict[str, bytes]:
    return {"y": ipc_stream(pa.table({"value": [value]}))}


def run(files, spec, n_ok=None):
    """Store what a run of a spec would, and build the tables; a task's table has its parameter."""
    plan = begin(files, spec, DIGEST)
    tasks = list(plan.tasks([(0, plan.absent.size)]))[:n_ok]
    parts.write(files, [attempt(plan, t.set, t.replicate, outputs=returned(t.params["a"])) for t in tasks])
    outputs(files)
    return plan


def rows(tables, name="y"):
    columns = ["param_a", "replicate", "value" if name == "y" else "status"]
    return [tuple(row.values()) for row in tables.output(name).table().select(columns).to_pylist()]


def test_an_earlier_request_has_its_own_tables_and_results_stay_as_they_are(files, tmp_path):
    first = write_spec(tmp_path, sets="[{a: 1}, {a: 2}]", replicates=2)
    last = write_spec(tmp_path, sets="[{a: 2}, {a: 3}]", replicates=1)
    run(files, first, n_ok=3)
    run(files, last)
    before = tree(files)
    with opened(files, first) as tables:
        assert rows(tables) == [(1, 0, 1), (1, 1, 1), (2, 0, 2)]
        assert rows(tables, "replicates")[-1] == (2, 1, "pending")
        assert (tables.last, tables.tasks["ok"], tables.tasks["pending"]) == (False, 3, 1)
    assert read_summary(files, spec=first).counts == {"ok": 3, "failed": 0, "poisoned": 0, "pending": 1}
    assert "<b>3</b>" in report(files, first)
    plan = plan_of(files, first)
    checked = verify(files.location(), request=(plan.request.replicates, plan.request.sets))
    assert (checked.tasks["ok"], checked.tasks["pending"], checked.tables) == (3, 1, False)
    assert [finding.code for finding in checked.findings] == ["UNFINISHED"]
    for same in (None, last):
        with opened(files, same) as tables:
            assert (tables.last, rows(tables)) == (True, [(2, 0, 2), (3, 0, 3)])
    assert tree(files) == before, "reading changes nothing"


@pytest.mark.parametrize("files, seed", [*(("folder", n) for n in range(4)), ("s3", 4)], indirect=["files"])
def test_any_requests_in_any_order_keep_their_own_tasks(files, tmp_path, seed):
    print("seed", seed)
    numbers = random.Random(seed)
    asked = []
    for _ in range(3):
        sets = numbers.sample(range(5), numbers.randint(1, 4))
        replicates = numbers.randint(1, 3)
        spec = write_spec(
            tmp_path, sets=str([{"a": a} for a in sets]).replace("'", ""), replicates=replicates
        )
        run(files, spec)
        asked.append((spec, {(a, replicate, a) for a in sets for replicate in range(replicates)}))
    for spec, expected in numbers.sample(asked, len(asked)):
        with opened(files, spec) as tables:
            found = rows(tables)
            assert set(found) == expected and len(found) == len(expected)
        assert read_summary(files, spec=spec).total == len(expected)
        assert is_last(files, plan_of(files, spec)) == (expected == asked[-1][1])
    with opened(files) as tables:
        assert set(rows(tables)) == asked[-1][1]


def test_a_study_file_that_was_not_run_there_is_refused(files, tmp_path):
    with pytest.raises(NoStudy):
        plan_of(files, write_spec(tmp_path))
    run(files, write_spec(tmp_path, sets="[{a: 1}]"))
    with pytest.raises(NotInStore, match=r"does not have 2 of the 3 parameter sets of .*spec-\d+.yaml"):
        plan_of(files, write_spec(tmp_path))
    other = replace(write_spec(tmp_path, sets="[{a: 1}]"), entrypoint="m.other/b")
    with pytest.raises(BadInput, match=r"is a study of m\.other/b"):
        plan_of(files, other)


def test_a_task_has_a_number_in_the_store_and_one_in_its_own_study_file(files, tmp_path):
    run(files, write_spec(tmp_path, sets="[{a: 1}, {a: 2}]"))
    last = write_spec(tmp_path, sets="[{a: 3}, {a: 2}, {a: 4}]")
    run(files, last)
    assert numbers_in_spec(files, last, {1, 3, 2}) == {2: 0, 1: 1, 3: 2}


@pytest.mark.parametrize(
    "files, share", [("folder", None), ("folder", Chunk(0, 1)), ("s3", None)], indirect=["files"]
)
@pytest.mark.parametrize("moment", ["before the tables", "between the tables and the second look"])
def test_a_run_that_ends_after_a_later_one_leaves_results_to_it(files, tmp_path, monkeypatch, moment, share):
    """The later run begins, and ends, at the worst moment of the earlier one."""
    first = write_spec(tmp_path, sets="[{a: 1}]", replicates=2)
    last = write_spec(tmp_path, sets="[{a: 2}]", replicates=1)
    run(files, first)
    pieces, real = [], getattr(drive_module, "fold" if moment == "before the tables" else "compact")

    def disturbed(*args, **more):
        if not pieces:
            pieces.append("begun")
            run(files, last)
        return real(*args, **more)

    monkeypatch.setattr(drive_module, real.__name__, disturbed)
    notes = []
    bundle = fetched(tmp_path)
    summary = drive(first, bundle, files, None, share=share, watcher=Watcher(note=notes.append))
    assert (summary.exit_code, summary.counts["ok"], summary.results) == (0, 2, ())
    assert len(notes) == 1 and "results/ belongs to that one" in notes[0]
    assert read_manifest(files)["tasks"]["ok"] == 1
    with opened(files) as tables:
        assert rows(tables) == [(2, 0, 2)]
    assert verify(files.location()).findings == []
    with opened(files, first) as tables:
        assert rows(tables) == [(1, 0, 1), (1, 1, 1)]


def fetched(folder) -> Bundle:
    """A bundle of DIGEST, from a cache."""
    source = write_bundle(folder / "model", {"wire.py": "def wire(entrypoint, params, seed): ..."})
    return replace(fetch(str(source), folder / "cache"), digest=DIGEST)


def test_what_does_not_fit_into_one_table_is_told_of_an_earlier_request_too(tmp_path, monkeypatch):
    files = Store(str(tmp_path / "store"))
    first = write_spec(tmp_path, sets="[{a: 1}, {a: 2}]", replicates=1)
    plan = begin(files, first, DIGEST)
    parts.write(files, [attempt(plan, 0, 0, outputs=returned(1)), attempt(plan, 1, 0, outputs=returned([1]))])
    real, begun = drive_module.fold, []

    def disturbed(*args):
        if not begun:
            begun.append(begin(files, write_spec(tmp_path, sets="[{a: 3}]"), DIGEST))
        return real(*args)

    monkeypatch.setattr(drive_module, "fold", disturbed)
    summary = drive(first, fetched(tmp_path), files, None)
    assert summary.exit_code == 3 and "raw/ of this request's tables" in summary.problem
    assert not (tmp_path / "store" / "results").exists()
