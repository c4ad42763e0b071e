"""Studies whose model writes files with fixed names beside itself: each task finds its own."""

import json

import pyarrow.parquet as pq
import pytest

from executor_helpers import write_bundle
from study_helpers import SMALL, mops_helm

WIRE = """
from pathlib import Path


def wire(entrypoint, params, seed):
    log, own = Path("last_run.csv"), Path(__file__).with_name("steps.txt")
    found = log.read_text()
    log.write_text(f"seed,{seed}\\n")
    own.write_text(str(seed))
    return {"found": found, "lines": log.read_bytes(), "steps": own.read_text()}
"""
N_TASKS = 60


@pytest.fixture
def folder(tmp_path):
    study = {"name": "files", "entrypoint": "model.wire/any", "replicates": N_TASKS, "sets": [{"x": 1}]}
    files = {"wire.py": WIRE, "last_run.csv": "seed,1\n", "study.yaml": json.dumps(study)}
    write_bundle(tmp_path / "model", files)
    return tmp_path


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
def test_a_model_that_writes_over_its_own_file_runs_to_the_end(folder, kind):
    words = ("study", "run", "model/study.yaml", *SMALL, "--set", f"executor.type={kind}")
    done = mops_helm(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Tasks write files next to the model, which are restored after each task: " in done.stdout
    assert "last_run.csv" in done.stdout and "steps.txt" in done.stdout
    raw = folder / "out" / "files" / "results" / "raw"
    rows = {name: pq.read_table(raw / f"{name}.parquet").to_pylist() for name in ("lines", "steps")}
    assert [row["bytes"] for row in rows["lines"]] == [b"seed,%d\n" % row["seed"] for row in rows["lines"]]
    assert [row["bytes"] for row in rows["steps"]] == [b"%d" % row["seed"] for row in rows["steps"]]
    assert len(rows["lines"]) == N_TASKS
    assert (folder / "model" / "last_run.csv").read_text() == "seed,1\n"
    if kind != "isolated_warm":  # where tasks are isolated, each finds what the bundle has
        found = pq.read_table(raw / "found.parquet")["bytes"].to_pylist()
        assert set(found) == {b"seed,1\n"}


def test_the_names_are_there_for_programs(folder):
    done = mops_helm("study", "run", "model/study.yaml", *SMALL, "-o", "json", cwd=folder)
    ran = json.loads(done.stdout)["run"]
    assert sorted(ran["files_written"]) == ["last_run.csv", "steps.txt"]
    assert ran["large_files_written"] == []
