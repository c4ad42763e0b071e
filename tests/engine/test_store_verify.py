"""Verify: clean stores are clean, and every way to damage one is named."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_dask.errors import BadInput
from modelops_dask.store import parts
from modelops_dask.store.compact import compact
from modelops_dask.store.merge import merge
from modelops_dask.store.verify import verify
from modelops_dask.store.verify_tasks import Defect
from store_helpers import attempt, begin, ipc_file, ipc_stream, mark, parquet, read_parquet, table_path, tree

SETS = "[{a: 1, b: x}, {a: 2.5}, {params: {a: 3, l: [1, {k: v}]}, seed: 18446744073709551615}]"


def outputs(task):
    """A table, in another form and with other columns from task to task, one named as ours, and bytes."""
    columns = {"day": [0, 1], "seed": [task.replicate, 0.5 if task.set else 7], "nan": [float("nan"), 1.0]}
    if task.replicate:
        columns["label"] = pa.array(["p", "q"]).dictionary_encode()
    form = (ipc_stream, ipc_file, parquet)[task.replicate % 3]
    return {
        "curve": form(pa.table(columns)),
        "none": ipc_stream(pa.table({"x": pa.array([], pa.int8())})),
    } | {"meta/é": b"%d" % task.seed}


@pytest.fixture
def plan(files, tmp_path):
    """A store that is done, after failures, deaths, a task that was run twice; merged in part; compacted."""
    plan = begin(files, tmp_path, sets=SETS, replicates=4)
    tasks = list(plan.tasks([(0, plan.absent.size)]))
    for task in tasks[:3]:
        parts.write(files, [attempt(plan, task.set, task.replicate, "failed", reason="E")])
    parts.write(files, [attempt(plan, 1, 3, "poisoned", reason="killed")])
    done = [t for t in tasks if (t.set, t.replicate) != (1, 3)]
    for some in (done[:5], done[4:]):
        parts.write(files, [attempt(plan, t.set, t.replicate, outputs=outputs(t)) for t in some])
    merge(files, max_files=0)
    parts.write(files, [attempt(plan, t.set, t.replicate, outputs=outputs(t)) for t in done[:2]])
    compact(files, plan)
    return plan


def codes(files):
    found = verify(files.location()).findings
    print(*found, sep="\n")
    return {finding.code for finding in found}


@pytest.mark.usefixtures("plan")
def test_a_clean_store_is_clean(files):
    report = verify(files.location())
    assert report.findings == []
    assert report.tasks == {"ok": 8, "failed": 0, "poisoned": 1, "pending": 0} and report.rows == 15


def test_leftovers_of_a_crash_are_no_finding(files, plan):
    parts.write(files, [attempt(plan, 0, 3, "failed")])
    loose = {name: files.read(f"parts/{name}") for name in files.list("parts")}
    merge(files, max_files=0)
    for name, data in loose.items():
        files.put(f"parts/{name}", data)
    files.put("parts/.x.parquet.123", b"half")
    compact(files, plan)
    assert codes(files) == set()


@pytest.mark.usefixtures("plan")
def test_an_earlier_request_that_went_further_is_no_finding(files, tmp_path):
    smaller = begin(files, tmp_path, sets="[{a: 2.5}]", replicates=2)
    compact(files, smaller)
    assert codes(files) == set() and verify(files.location()).tasks["ok"] == 2


def test_no_study(files):
    with pytest.raises(BadInput, match="no study"):
        verify(files.location())


# Each takes (files, plan) and does one thing to the store.


def edit_json(name, change):
    def damage(files, _):
        value = json.loads(files.read(name))
        change(value)
        files.put(name, json.dumps(value).encode())

    return damage


def edit_rows(name, change):
    """Change rows of a Parquet file of the store, given as dicts, and write it with the schema it had."""

    def damage(files, _):
        path = (table_path(files, name) if name in TABLES else name) or f"parts/{files.list('parts')[0]}"
        old = pq.ParquetFile(pa.BufferReader(files.read(path)))
        rows = old.read().to_pylist()
        rows = change(rows) or rows
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, old.schema_arrow) as writer:
            writer.write_table(pa.Table.from_pylist(rows, old.schema_arrow))
            if listed := old.metadata.metadata.get(b"modelops_dask.parts"):
                writer.add_key_value_metadata({b"modelops_dask.parts": listed})
        files.put(path, sink.getvalue().to_pybytes())

    return damage


def setter(at, **values):
    return lambda rows: rows[at].update(values)


def write_part(**changes):
    """One more row of task 0/0, ok as before but for the changes."""

    def damage(files, plan):
        parts.write(files, [attempt(plan, 0, 0, outputs=outputs(plan.task(0)))._replace(**changes)])

    return damage


def torn(files, _):
    name = next(name for name in files.list("parts") if name.startswith("merged-"))
    files.put(f"parts/{name}", files.read(f"parts/{name}")[:-9])


def flipped(files, _):
    """One bit, somewhere in the pages of a part."""
    name = next(name for name in files.list("parts") if name.startswith("merged-"))
    data = bytearray(files.read(f"parts/{name}"))
    column = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(2)
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    files.put(f"parts/{name}", bytes(data))


def torn_table(files, _):
    path = table_path(files, CURVE)
    files.put(path, files.read(path)[:-5])


def without_merged(files, _):
    for name in files.list("parts"):
        if name.startswith("merged-"):
            files.remove(f"parts/{name}")


def other_rows_of_a_merged_part(files, plan):
    name = next(name for name in files.list("parts") if name.startswith("merged-"))
    (part, _), *_ = json.loads(
        pq.ParquetFile(pa.BufferReader(files.read(f"parts/{name}"))).metadata.metadata[b"modelops_dask.parts"]
    )
    files.put(f"parts/{part}.parquet", parts.encode([attempt(plan, 0, 3)], mark(files)))


TABLES = CURVE, RAW, REPLICATES = (
    "model_outputs/curve.parquet",
    "raw/meta%2F%C3%A9.parquet",
    "replicates.parquet",
)
DAMAGES = {
    "study.json is no JSON": ("STUDY", lambda files, _: files.put("study.json", b"{")),
    "study.json has no digest": ("STUDY", edit_json("study.json", lambda v: v.update(bundle="mine"))),
    "spec.json is gone": ("SPEC", lambda files, _: files.remove("spec.json")),
    "spec.json asks for sets that are not there": (
        "SPEC",
        edit_json("spec.json", lambda v: v.update(sets=[[0, 9]])),
    ),
    "a parameter was edited": (
        "PARAM_ID",
        edit_rows("sets/000000.parquet", setter(0, params='{"a":7,"b":"x"}')),
    ),
    "a param_id was edited": ("PARAM_ID", edit_rows("sets/000000.parquet", setter(1, param_id="0" * 64))),
    "sets are numbered anew": ("SETS", edit_rows("sets/000000.parquet", lambda rows: rows[::-1])),
    "a sets file is missing": ("SETS", lambda files, _: files.put("sets/000002.parquet", b"PAR1")),
    "a sets file is torn": ("SETS", lambda files, _: files.put("sets/000001.parquet", b"PAR1")),
    "a part is torn": ("TORN", torn),
    "a bit is flipped": ("TORN", flipped),
    "a file that is no part": ("FOREIGN", lambda files, _: files.put("parts/notes.txt", b"mine")),
    "a table that is no part": (
        "FOREIGN",
        lambda files, _: files.put("parts/x.parquet", parquet(pa.table({"set": [1]}))),
    ),
    "parts are lost": ("UNFINISHED", without_merged),
    "outputs were edited": (
        "DIGEST",
        edit_rows(
            None, lambda rows: [r | {"outputs": [("curve", b"1")]} if r["digest"] else r for r in rows]
        ),
    ),
    "a row of a set that is not there": ("ORPHAN", write_part(set=12)),
    "a replicate of a set with a seed of its own": ("ORPHAN", write_part(set=2, replicate=1)),
    "a row of another seed": ("FOREIGN", write_part(seed=1)),
    "two different results": ("CONFLICT", write_part(outputs={"curve": b"other"})),
    "a merged part that is not what it was": ("MERGED", other_rows_of_a_merged_part),
    "the manifest counts others": (
        "RESULTS",
        edit_json("results/manifest.json", lambda v: v["tasks"].update(ok=7)),
    ),
    "the manifest is gone": ("RESULTS", lambda files, _: files.remove("results/manifest.json")),
    "a table is gone": ("RESULTS", lambda files, _: files.remove(table_path(files, CURVE))),
    "a table of nobody": (
        "RESULTS",
        lambda files, _: files.put(table_path(files, "model_outputs/z.parquet"), b"PAR1"),
    ),
    "a table is torn": ("RESULTS", torn_table),
    "a value in a table": ("RESULTS", edit_rows(CURVE, setter(3, day=9))),
    "a parameter in a table": ("RESULTS", edit_rows(CURVE, setter(0, param_a=9.0))),
    "a column that the model did not return": ("RESULTS", edit_rows(CURVE, setter(0, label="made up"))),
    "a row too few": ("RESULTS", edit_rows(CURVE, lambda rows: rows[:-1])),
    "a task too few": ("RESULTS", edit_rows(CURVE, lambda rows: rows[:-2])),
    "a task twice": ("RESULTS", edit_rows(CURVE, lambda rows: rows + rows[-2:])),
    "bytes in a raw table": ("RESULTS", edit_rows(RAW, setter(2, bytes=b"0"))),
    "a state in replicates": ("RESULTS", edit_rows(REPLICATES, setter(0, status="failed"))),
    "a task too few in replicates": (
        "RESULTS",
        edit_rows(REPLICATES, lambda rows: rows[1:]),
    ),
}


@pytest.mark.parametrize("files", ["folder"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_named(files, plan, damage):
    code, act = DAMAGES[damage]
    act(files, plan)
    found = verify(files.location()).findings
    print(*found, sep="\n")
    assert code in {finding.code for finding in found}
    assert all("\n" not in finding.message for finding in found)


DAMAGES_BEHIND_A_URL = [
    *("a part is torn", "a task too few", "two different results"),
    *("a table is gone", "a table of nobody", "a table is torn"),
]


@pytest.mark.parametrize("files", ["s3"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES_BEHIND_A_URL)
def test_damage_is_named_behind_a_url(files, plan, damage):
    code, act = DAMAGES[damage]
    act(files, plan)
    assert code in codes(files)


@pytest.mark.parametrize("files", ["folder"], indirect=True)
@pytest.mark.parametrize("turn", range(8))
def test_random_bytes_that_change_in_parts_are_found_or_mean_nothing(files, plan, turn):  # noqa: ARG001
    """Flip a byte anywhere in a part: a finding, unless what can be read of it is still the same."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    name = rng.choice(files.list("parts"))
    before = read_parquet(files, f"parts/{name}").to_pylist()
    data = bytearray(files.read(f"parts/{name}"))
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    files.put(f"parts/{name}", bytes(data))
    if not codes(files):
        compared = ("set", "replicate", "seed", "status", "digest", "outputs")
        after = read_parquet(files, f"parts/{name}").to_pylist()
        assert [[row[c] for c in compared] for row in after] == [[row[c] for c in compared] for row in before]


@pytest.mark.usefixtures("plan")
def test_nothing_is_written(files):
    before = tree(files)
    verify(files.location())
    assert tree(files) == before


def test_a_defect_in_json_keeps_the_keys_that_scripts_read():
    defect = Defect("TORN", "parts/a.parquet", "is incomplete")
    assert list(defect.as_json().items()) == [
        ("code", "TORN"),
        ("where", "parts/a.parquet"),
        ("message", "is incomplete"),
    ]
