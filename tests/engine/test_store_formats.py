"""Stores of other versions: those of 0.1.0 go on, later columns survive, 0.1.0 leaves new stores alone."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixture_helpers import V010, restore, v010_code
from modelops_dask.bundle import fetch
from modelops_dask.errors import BadInput
from modelops_dask.plan import spec
from modelops_dask.store import identity, parts, study
from modelops_dask.store.compact import compact
from modelops_dask.store.files import PROBE, Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import Damaged, read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.results import results
from modelops_dask.store.verify import verify
from modelops_dask.study.summary import read_summary
from mops_helm.render.study_verification import render_verification
from store_helpers import DIGEST, attempt, begin, mark, parquet, tree, write_spec


@pytest.fixture(params=["folder", "s3"])
def old(request, tmp_path):
    """A store of 0.1.0, in the place where it was made, and its files."""
    files = Store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3"))
    return files, restore(request.param, files)


# A store of 0.1.0


def test_reading_a_store_of_0_1_changes_nothing(old):
    files, contents = old
    summary = read_summary(files)
    assert summary.counts == {"ok": 7, "failed": 3, "poisoned": 0, "pending": 0} and not summary.skipped
    report = verify(files.location())
    assert report.findings == [] and report.affected == {"isolated_warm": 7}
    assert "7 under isolated_warm" in render_verification(
        report, "table"
    ) and "--sample" in render_verification(report, "table")
    assert tree(files) == contents


def test_a_store_of_0_1_becomes_format_2_at_the_first_run_and_says_so(old, tmp_path):
    files, contents = old
    loaded = spec.load(V010 / "bundle" / "study.yaml")
    bundle = fetch(str(V010 / "bundle"), tmp_path / "cache")
    notes = []
    plan = study.begin(files, loaded, bundle.digest, notes.append)
    assert len(notes) == 1 and "created by mops-helm 0.1" in notes[0]
    now = tree(files)
    changed = {name for name in contents | now if contents.get(name) != now.get(name)}
    assert changed - {PROBE} == {"study.json"}  # the probe is of object stores
    assert json.loads(now["study.json"])["format"] == 2
    assert fold(files, plan).counts() == {"ok": 7, "failed": 3, "poisoned": 0, "pending": 0}
    study.begin(files, loaded, bundle.digest, notes.append)
    assert len(notes) == 1 and tree(files) == now, "once"


def test_runs_that_upgrade_at_once_agree(old):
    files, contents = old
    identity.upgrade(files, read_study(files))
    first = files.read("study.json")
    files.put("study.json", contents["study.json"])
    identity.upgrade(files, read_study(files))
    assert files.read("study.json") == first


def test_old_and_new_parts_are_merged_and_counted_together(old):
    files, _ = old
    loaded = spec.load(V010 / "bundle" / "study.yaml")
    plan = study.begin(files, loaded, read_study(files).bundle)
    before = results(files, "curve")
    fixed = {"curve": before.schema.empty_table(), "note": b"x"}
    parts.write(files, [attempt(plan, 3, 0, outputs={"note": fixed["note"]}, runner="r1", runner_task=7)])
    merge(files, max_files=0)
    assert len(files.list("parts")) == 1
    assert fold(files, plan).counts()["ok"] == 8
    with parts.open_part_file(files, files.list("parts")[0]) as file:
        rows = parts.read_columns(file, ["runner", "runner_task", "engine"]).to_pylist()
    assert next(row for row in rows if row["runner"])["runner_task"] == 7
    assert {row["engine"] for row in rows if not row["runner"]} == {None}
    compact(files, plan)
    report = verify(files.location())
    assert report.findings == [] and report.affected == {"isolated_warm": 7}, "not the new row"
    assert results(files, "curve").equals(before)


def test_a_part_of_0_1_whose_seeds_are_anothers_does_not_count(old):
    files, _ = old
    plan = study.read_plan(files)
    state = fold(files, plan)
    row = attempt(plan, 0, 1)
    # In a part without a mark every row is checked, not the first of each set alone.
    files.put("parts/old.parquet", parts.encode([row, row._replace(replicate=2)]))
    again = fold(files, plan)
    assert again.attempts.tolist() == state.attempts.tolist()
    assert "seed" in again.skipped["old.parquet"]
    assert ("FOREIGN", "parts/old.parquet") in [
        (f.code, f.location) for f in verify(files.location()).findings
    ]


def test_plans_of_0_1_are_the_same_today():
    """Parameter sets, ids and seeds of a ModelOps study and of explicit sets."""
    for name, path in (("modelops", "modelops/study.json"), ("folder", "bundle/study.yaml")):
        files = Store(f"memory://v010-{name}-{os.getpid()}")
        restore(name, files)
        assert spec.load(V010 / path).table.equals(study.read_sets(files))


# What 0.1.0 makes of a new store

OLD_PROGRAM = """
import sys
from pathlib import Path
from modelops_dask.store.files import Files
from modelops_dask.store.merge import merge
from modelops_dask.store.study import begin, existing
from modelops_dask.store.results import outputs
from modelops_dask.study import spec
from modelops_dask.study.summary import status
from mops_helm.render_study import verified

files = Files(sys.argv[1])
for act in (
    lambda: begin(files, spec.load(Path(sys.argv[2])), sys.argv[3]),
    lambda: existing(files),
    lambda: outputs(files),
    lambda: status(files),
):
    try:
        act()
    except Exception as error:
        assert "use a newer mops-helm" in str(error), repr(error)
        print("refused")
"""


def test_0_1_refuses_a_new_store_and_leaves_it_as_it_is(tmp_path):
    code = v010_code(tmp_path / "code")
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, 0, 0)])
    compact(files, plan)
    before = tree(files)
    path = os.pathsep.join([str(code / "engine"), str(code / "cli")])
    environment = {**os.environ, "PYTHONPATH": path, "MODELOPS_BUNDLES_CACHE_DIR": str(tmp_path / "cache")}
    arguments = [files.location(), str(write_spec_path(tmp_path)), DIGEST]
    done = subprocess.run(
        [sys.executable, "-c", OLD_PROGRAM, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["refused"] * 4, done.stderr
    command = [sys.executable, "-c", "from mops_helm.main import main; main()", "study", "run"]
    model = tmp_path / "bundle"
    model.mkdir()
    (model / "wire.py").write_text("def wire(entrypoint, params, seed):\n    return {'x': b'1'}\n")
    study_file = model / "study.yaml"
    study_file.write_text("model: m.s\nscenario: b\nreplicates: 4\nsets: [{a: 1}]\n")
    done = subprocess.run(
        [*command, str(study_file), "--store", files.location()],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "use a newer mops-helm" in done.stderr, done.stderr
    after = {name: content for name, content in tree(files).items() if name != "driver.json"}
    assert after == before


def write_spec_path(folder):
    path = folder / "old.yaml"
    path.write_text("name: s\nmodel: m.s\nscenario: b\nreplicates: 4\nsets: [{a: 1}, {a: 2}, {a: 3}]\n")
    return path


def test_a_later_format_is_refused(files, tmp_path):
    begin(files, tmp_path)
    raw = json.loads(files.read("study.json"))
    for number, error in ((4, BadInput), (0, Damaged), ("2", Damaged), (True, Damaged)):
        files.put("study.json", json.dumps({**raw, "format": number}).encode())
        before = tree(files)
        with pytest.raises(error):
            study.begin(files, write_spec(tmp_path), DIGEST)
        assert tree(files) == before


# Columns of other versions


def with_columns(data: bytes, change) -> bytes:
    """The bytes of a part after a change of its table; its metadata is kept."""
    table = pq.read_table(pa.BufferReader(data))
    return parquet(change(table).replace_schema_metadata(table.schema.metadata))


@pytest.mark.parametrize("turn", range(4))
def test_descriptive_columns_that_are_missing_read_as_null(tmp_path, turn):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    descriptive = [name for name in parts.SCHEMA.names if name not in parts.REQUIRED]
    columns = random.Random(turn).sample(descriptive, k=7) if turn else descriptive
    rows = [attempt(plan, 0, 0), attempt(plan, 0, 1, "failed", reason="E", error="no")]
    data = parts.encode(rows, mark(files))
    files.put("parts/other.parquet", with_columns(data, lambda table: table.drop_columns(columns)))
    assert fold(files, plan).counts()["ok"] == 1 and not fold(files, plan).skipped
    for rows in parts.scan(files, columns):
        assert [column.null_count for column in rows.table.columns] == [2] * len(columns)
    compact(files, plan)
    assert results(files, "raw").num_rows == 1
    assert (0, 1) in parts.read_errors(files, {(0, 1)}) and parts.find(files, "other").num_rows == 2
    merge(files, max_files=0)
    assert fold(files, plan).counts()["ok"] == 1
    assert {finding.code for finding in verify(files.location()).findings} == {"UNFINISHED"}


@pytest.mark.parametrize("column", parts.REQUIRED)
def test_a_required_column_that_is_missing_or_of_another_type_makes_a_part_foreign(tmp_path, column):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    data = parts.encode([attempt(plan, 0, 0)], mark(files))
    files.put("parts/a.parquet", with_columns(data, lambda table: table.drop_columns([column])))
    number = parts.SCHEMA.get_field_index(column)
    odd = pa.array([-3], pa.int64())
    files.put("parts/b.parquet", with_columns(data, lambda table: table.set_column(number, column, odd)))
    state = fold(files, plan)
    assert state.counts()["ok"] == 0
    assert all(column in reason and "foreign" in reason for reason in state.skipped.values())
    assert state.skipped.keys() == {"a.parquet", "b.parquet"}
    assert {f.code for f in verify(files.location()).findings} == {"FOREIGN", "UNFINISHED"}
    read_summary(files)


def test_columns_and_metadata_of_a_later_version_survive_merging(files, tmp_path):
    plan = begin(files, tmp_path)
    for number in range(6):
        name = parts.write(files, [attempt(plan, number // 4, number % 4)])
        if number % 2:
            continue
        later = pa.array([f"later {number}"])
        data = with_columns(
            files.read(name), lambda table, later=later: table.append_column("novelty", later)
        )
        files.put(name, data)
    listed = {part.name: part.metadata for file in files.list("parts") for part in held_in(files, file)}
    merge(files, max_files=0)
    merge(files, max_files=0)
    merged = {part.name: part.metadata for file in files.list("parts") for part in held_in(files, file)}
    assert merged == listed and fold(files, plan).counts()["ok"] == 6
    texts = set()
    for name in files.list("parts"):
        with parts.open_part_file(files, name) as file:
            if "novelty" in file.schema_arrow.names:
                texts |= set(file.read(columns=["novelty"])["novelty"].to_pylist())
    assert texts - {None} == {"later 0", "later 2", "later 4"}
    assert len(files.list("parts")) == 2, "one file for each set of columns"


def held_in(files, name):
    with parts.open_part_file(files, name) as file:
        return parts.list_parts(file, name)


def test_a_list_of_parts_that_does_not_fit_makes_a_file_foreign(files, tmp_path):
    plan = begin(files, tmp_path)
    data = parts.encode([attempt(plan, 0, 0)], mark(files))
    table = pq.read_table(pa.BufferReader(data))
    for listed in (b"{", b"[[1]]", b'[["a", 2]]', b'[["a", -1], ["b", 2]]', b"7", b'[["a", 1, 1]]', b"null"):
        metadata = {**table.schema.metadata, parts.HELD: listed}
        files.put("parts/merged-x.parquet", parquet(table.replace_schema_metadata(metadata)))
        assert "foreign" in fold(files, plan).skipped["merged-x.parquet"], listed
        assert merge(files, max_files=0) == 0
        assert np.count_nonzero(fold(files, plan).attempts) == 0
