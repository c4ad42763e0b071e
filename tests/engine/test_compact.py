"""Compaction: the tables people read, the same whatever happened on the way."""

import random
import re
import subprocess
import sys

import pyarrow as pa
import pytest

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.store import parts
from modelops_dask.store.compact import MixedOutputs, compact, read_manifest
from modelops_dask.store.fold import winners
from modelops_dask.store.results import outputs, results
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify import verify
from store_helpers import (
    DIGEST,
    attempt,
    begin,
    ipc_file,
    ipc_stream,
    parquet,
    read_parquet,
    table_path,
    with_seeds,
)

FORMS = [ipc_stream, ipc_file, parquet]


@pytest.fixture
def plan(files, tmp_path):
    return begin(files, tmp_path)


def tasks(plan):
    return list(plan.tasks([(0, plan.absent.size)]))


def store(files, plan, output_of, **more):
    """Every task done, by output_of(task) -> {name: bytes}."""
    rows = [attempt(plan, t.set, t.replicate, outputs=output_of(t), **more) for t in tasks(plan)]
    parts.write(files, rows)


def curve(task, form=ipc_stream):
    return {
        "curve": form(pa.table({"day": [0, 1, 2], "infected": [task.set, task.replicate, task.seed % 97]}))
    }


def test_tables_of_all_forms_become_one(files, plan):
    store(files, plan, lambda t: curve(t, FORMS[t.replicate % 3]))
    table = results(files, "curve")
    assert table.column_names == ["set", "replicate", "seed", "param_id", "param_a", "day", "infected"]
    expected = [
        {
            "set": t.set,
            "replicate": t.replicate,
            "seed": t.seed,
            "param_id": t.param_id,
            "param_a": t.params["a"],
        }
        | {"day": day, "infected": value}
        for t in tasks(plan)
        for day, value in enumerate([t.set, t.replicate, t.seed % 97])
    ]
    assert table.to_pylist() == expected
    assert results(files).equals(table), "the only output needs no name"


def test_what_is_no_table_is_kept_as_bytes(files, plan):
    store(files, plan, lambda t: {"meta": b'{"n": %d}' % t.replicate, "liar": b"PAR1 no", "empty": b""})
    assert results(files, "meta")["bytes"].to_pylist() == [b'{"n": %d}' % t.replicate for t in tasks(plan)]
    assert files.list(table_path(files, "raw")) == [
        "empty.parquet",
        "liar.parquet",
        "meta.parquet",
    ]


def test_replicates_has_a_row_per_task_whatever_became_of_it(files, plan):
    parts.write(
        files, [attempt(plan, 0, 0, seconds=1.5, peak_bytes=7), attempt(plan, 0, 1, "failed", reason="E")]
    )
    parts.write(
        files, [attempt(plan, 0, 1, "failed"), attempt(plan, 2, 3, "poisoned"), attempt(plan, 1, 1, "died")]
    )
    compact(files, plan, max_attempts=2)
    rows = results_without_rebuilding(files, "replicates").to_pylist()
    assert [(r["set"], r["replicate"]) for r in rows] == [(s, r) for s in range(3) for r in range(4)]
    found = {
        (r["set"], r["replicate"]): (r["status"], r["attempts"], r["seconds"], r["peak_bytes"]) for r in rows
    }
    assert found[0, 0] == ("ok", 1, 1.5, 7)
    assert found[0, 1] == ("failed", 2, None, None)
    assert found[2, 3][:2] == ("poisoned", 1) and found[1, 1][:2] == ("pending", 1)
    assert read_manifest(files)["tasks"] == {"ok": 1, "failed": 1, "poisoned": 1, "pending": 9}
    assert read_manifest(files)["bundle"] == DIGEST


def results_without_rebuilding(files, name):
    return read_parquet(files, table_path(files, f"{name}.parquet"))


@with_seeds(10)
def test_the_order_and_the_number_of_parts_leave_no_trace(files, plan, seed):
    print("seed", seed)
    rng = random.Random(seed)
    store(files, plan, lambda t: curve(t, FORMS[t.seed % 3]) | {"meta": b"%d" % t.seed})
    calm = {name: results(files, name) for name in outputs(files)}
    for name in files.list("parts"):
        files.remove(f"parts/{name}")
    rows = [
        attempt(
            plan,
            t.set,
            t.replicate,
            status,
            outputs=curve(t, FORMS[t.seed % 3]) | {"meta": b"%d" % t.seed} if status == "ok" else {},
        )
        for t in tasks(plan)
        for status in rng.choice([["ok"], ["died", "ok"], ["failed", "ok", "ok"], ["poisoned", "ok"]])
    ]
    rng.shuffle(rows)
    while rows:
        count = rng.randint(1, 5)
        parts.write(files, rows[:count])
        rows = rows[count:]
    assert outputs(files).keys() == calm.keys()
    for name, table in calm.items():
        found = results(files, name)
        assert found.drop_columns(["attempts"] if name == "replicates" else []).equals(
            table.drop_columns(["attempts"] if name == "replicates" else [])
        )


def test_up_to_date_results_are_left_alone_and_others_built_again(files, plan):
    store(files, plan, curve)
    first = compact(files, plan)
    files.put("results/mine.txt", b"as long as nobody builds")
    assert compact(files, plan) == first and files.list("results")[1] == "mine.txt"
    for name in files.list("results"):
        files.remove(f"results/{name}")
    assert results(files).num_rows == 36
    again = parts.write(files, [attempt(plan, 0, 0, outputs=curve(plan.task(0)))])
    assert results(files, "replicates")["attempts"].to_pylist() == [2] + [1] * 11
    assert results(files, "curve").num_rows == 36, "a task that was done twice counts once"
    files.put(again, files.read(again)[:-100])
    assert results(files, "replicates")["attempts"].to_pylist() == [1] * 12, "that part is torn now"


def test_types_are_promoted_over_many_flushes(files, plan, monkeypatch):
    monkeypatch.setattr("modelops_dask.store.compact._FLUSH_TASKS", 2)
    columns = {
        0: {"x": pa.array([1], pa.int32())},
        1: {"x": pa.array([2.5])},
        2: {"x": pa.array([3]), "label": pa.array(["c"]).dictionary_encode()},
        3: {"x": pa.nulls(1)},
    }
    store(files, plan, lambda t: {"t": ipc_stream(pa.table(columns[t.replicate]))})
    table = results(files, "t")
    assert table.schema.field("x").type == pa.float64() and table.schema.field("label").type == pa.string()
    assert table["x"].to_pylist() == [1.0, 2.5, 3.0, None] * 3
    assert table["label"].to_pylist() == [None, None, "c", None] * 3


def test_tables_that_do_not_fit_name_their_task_and_lose_nothing(files, plan):
    def mixed(task):
        value = "many" if task[:2] == (1, 2) else 5
        return {"t": ipc_stream(pa.table({"x": [value]})), "good": parquet(pa.table({"y": [1]}))}

    store(files, plan, mixed)
    for _ in range(2):  # the second time from what is written
        with pytest.raises(MixedOutputs, match="output t of task 1/2: x is string and was int64") as raised:
            compact(files, plan)
        assert len(raised.value.files) == 4
        for name in ("model_outputs/good", "model_outputs/t", "raw/t", "replicates"):
            assert any(path.endswith(f"/{name}.parquet") for path in raised.value.files)
    report = verify(files.location())
    assert [defect.code for defect in report.findings] == ["MIXED"] and "1/2" in report.findings[0].message
    assert results(files, "good").num_rows == 12
    assert results(files, "t")["x"].to_pylist() == [5] * 11
    assert read_parquet(files, table_path(files, "raw/t.parquet")).select(
        ["set", "replicate"]
    ).to_pylist() == [{"set": 1, "replicate": 2}]


@pytest.mark.parametrize("odd", [b"a,b\n1,2\n", parquet(pa.table({"x": [1]}))[:-3]])
def test_a_task_whose_output_is_no_table_is_named_where_others_return_tables(files, plan, odd):
    def outputs(task):
        return {"t": odd if task[:2] in ((1, 2), (2, 0)) else parquet(pa.table({"x": [1]}))}

    store(files, plan, outputs)
    said = (
        "output t of 2 tasks, the first of them 1/2: not a table, or a damaged one; other tasks return tables"
    )
    with pytest.raises(MixedOutputs, match=re.escape(said)):
        compact(files, plan)
    assert results(files, "t").num_rows == 10


def test_outputs_that_are_empty_now_and_then_are_no_problem_of_the_tables(files, plan):
    store(files, plan, lambda t: {"t": b"" if t.replicate else parquet(pa.table({"x": [1]})), "r": b"1"})
    compact(files, plan)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"x": pa.array([1.5])}, "x is double and was int64 before, and a value of this or an earlier task"),
        ({"x": pa.RunEndEncodedArray.from_arrays([1], [1])}, "Parquet cannot hold it"),
        ({"x": pa.array([{}], pa.struct([]))}, "Parquet cannot hold it"),
    ],
)
@pytest.mark.parametrize("flush_tasks", [2, 4096])  # the tables before are written already, or not yet
def test_what_parquet_or_the_tables_before_cannot_hold_stays_bytes(
    files, plan, odd, why, flush_tasks, monkeypatch
):
    monkeypatch.setattr("modelops_dask.store.compact._FLUSH_TASKS", flush_tasks)
    columns = {0: {"x": pa.array([2**60 + 1])}, 1: odd}
    store(files, plan, lambda t: {"t": ipc_stream(pa.table(columns[min(t.set, 1)]))})
    with pytest.raises(MixedOutputs, match=f"output t of task 1/0: {why}"):
        compact(files, plan)
    assert results(files, "t")["x"].to_pylist() == [2**60 + 1] * plan.replicates


def test_columns_of_the_model_that_have_the_name_of_a_renamed_one_are_kept(files, plan):
    store(files, plan, lambda _: {"t": parquet(pa.table({"seed": [5], "seed_model": [6]}))})
    table = results(files, "t")
    assert table["seed_model"].to_pylist() == [6] * 12 and table["seed_model_model"].to_pylist() == [5] * 12


def test_columns_of_the_model_named_like_ours_are_kept(files, plan):
    store(files, plan, lambda _: {"t": parquet(pa.table({"seed": [5], "param_a": [6], "set_x": [7]}))})
    table = results(files, "t")
    assert table.column_names[-3:] == ["seed_model", "param_a_model", "set_x"]
    assert table["seed"].to_pylist() == [t.seed for t in tasks(plan)]


@pytest.mark.parametrize("name", ["../../evil", "/etc/x", ".", "..", "", "a b/ü", "replicates"])
def test_no_name_leaves_its_folder(files, plan, name):
    store(files, plan, lambda _: {name: b"x", "other": b"y"})
    compact(files, plan)
    assert len(files.list(table_path(files, "raw"))) == 2
    if files.folder:
        assert all(files.folder in path.parents for path in files.folder.parent.rglob("*.parquet"))
    if name != "replicates":
        assert results(files, name)["bytes"].to_pylist() == [b"x"] * 12


def test_parameters_of_all_kinds(files, tmp_path):
    sets = """[{i: 1, f: 1, s: a, b: true, l: [1], big: 1},
      {i: 2, f: 2.5, s: b, b: false, l: x, big: 99999999999999999999}, {i: 3}]"""
    plan = begin(files, tmp_path, sets=sets, replicates=1)
    store(files, plan, lambda _: {"m": b""})
    rows = results(files, "m").to_pylist()
    found = [
        {k.removeprefix("param_"): v for k, v in row.items() if k.startswith("param_") and k != "param_id"}
        for row in rows
    ]
    assert found == [
        {"i": 1, "f": 1.0, "s": "a", "b": True, "l": "[1]", "big": "1"},
        {"i": 2, "f": 2.5, "s": "b", "b": False, "l": '"x"', "big": "99999999999999999999"},
        {"i": 3, "f": None, "s": None, "b": None, "l": None, "big": None},
    ]


def test_many_row_groups_and_parts_in_any_order(files, tmp_path, monkeypatch):
    plan = begin(files, tmp_path, sets="[{a: 1}, {a: 2}]", replicates=6000)
    store(files, plan, lambda t: {"v": b"%d" % t.seed})
    monkeypatch.setattr("modelops_dask.store.compact._CACHED_GROUPS", 1)
    assert results(files, "v")["bytes"].to_pylist() == [b"%d" % t.seed for t in tasks(plan)]


def test_outputs_that_are_damaged_name_the_part(files, plan):
    """The small columns are whole, so the tasks fold to ok; the damage shows when the outputs are read."""
    store(files, plan, lambda _: {"v": bytes(range(256)) * 40})
    (name,) = files.list("parts")
    with parts.open_part_file(files, name) as part:
        column = part.metadata.row_group(0).column(part.metadata.num_columns - 1)
    data = bytearray(files.read(f"parts/{name}"))
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    files.put(f"parts/{name}", bytes(data))
    with pytest.raises(MopsError, match=f"{name} cannot be read .torn"):
        compact(files, plan)
    assert files.list("results") == []


def test_a_part_that_is_torn_while_tables_are_built_is_passed_over(files, plan, monkeypatch):
    rows = [attempt(plan, t.set, t.replicate, outputs={"v": b"x"}) for t in tasks(plan)]
    parts.write(files, rows[:5])
    late = parts.write(files, rows[5:])

    def winners_then_torn(*words):
        yield from list(winners(*words))
        files.put(late, files.read(late)[:300])

    monkeypatch.setattr("modelops_dask.store.compact.winners", winners_then_torn)
    assert results(files, "v").num_rows == 5
    assert read_manifest(files)["tasks"]["pending"] == len(rows) - 5


def test_no_output_says_what_there_is(files, plan):
    store(files, plan, lambda t: curve(t) | {"meta": b""})
    with pytest.raises(BadInput, match="did you mean curve"):
        results(files, "curv")
    with pytest.raises(BadInput, match="name one of curve, meta"):
        results(files)


def test_a_study_without_results_yet(files, plan):
    assert results(files).num_rows == plan.n_tasks, "replicates alone"


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x00\x00\x00\x00", b"{}"]
)
def test_bytes_that_only_begin_like_a_table(data):
    table = as_table(data)
    assert table is None or table.num_rows == 0


@pytest.mark.parametrize("form", FORMS)
def test_torn_tables_are_bytes(form):
    data = form(pa.table({"x": list(range(1000))}))
    for length in range(1, len(data), 97):
        table = as_table(data[:length])
        assert table is None or table.num_rows in (0, 1000), "never a part of the rows"


@pytest.mark.parametrize("files", ["folder", "s3"], indirect=True)
def test_reading_results_ends_cleanly(files, plan):
    """A process that reads and ends at once must not be aborted by a thread that still reads."""
    store(files, plan, curve)
    compact(files, plan)
    script = (
        "import sys; from modelops_dask.store.results import results; print(results(sys.argv[1]).num_rows)"
    )
    for _ in range(3 if files.folder else 1):
        done = subprocess.run(
            [sys.executable, "-c", script, files.url], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "36\n", "")
