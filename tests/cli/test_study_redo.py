"""`study run --redo`: results that are wrong are replaced, also by a run that was killed in the middle.

The model returns the word in a file, raises, dies or waits as the file says: one run makes wrong results,
and a later one right ones.
"""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers import wait_for
from modelops_dask.store.files import Store
from modelops_dask.store.verify import verify
from modelops_dask.study import Study, run
from study_helpers import finish, mops_helm, parts_in, start

MODEL = """
import os, pathlib, time

def wire(entrypoint, params, seed):
    word = pathlib.Path(params["mode"]).read_text()
    if word == "slow":
        time.sleep(0.2)
    if word == "raises":
        raise ValueError("no more")
    if word == "dies" and params["x"] == 1:
        os._exit(7)
    return {"word": f"{word} {seed}".encode()}
"""
LOCAL = ["workers.replicas=1", "workers.processes=2", "executor.environment=image"]


@pytest.fixture
def study(tmp_path):
    """A study of 24 tasks that was run under `direct` with the word "wrong"; the folder of its store."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wire.py").write_text(MODEL)
    (tmp_path / "mode").write_text("wrong")
    content = {
        "name": "word",
        "entrypoint": "wire.wire/any",
        "bundle": str(tmp_path / "model"),
        "replicates": 8,
    }
    grid = {"fixed": {"mode": str(tmp_path / "mode")}, "grid": {"x": [0, 1, 2]}}
    (tmp_path / "study.yaml").write_text(json.dumps(content | grid))
    first = mops_helm(*command("direct"), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert set(words(tmp_path).values()) == {"wrong"}
    return tmp_path


def command(executor: str, *redo: object) -> list[object]:
    flags = [flag for value in (*LOCAL, f"executor.type={executor}") for flag in ("--set", value)]
    return ["study", "run", "study.yaml", "--store", "store", *flags, *redo]


def words(folder: Path) -> dict[tuple[int, int], str]:
    """What results/ has of each task, without the seed."""
    rows = pq.read_table(folder / "store" / "results" / "raw" / "word.parquet").to_pylist()
    return {(row["set"], row["replicate"]): row["bytes"].split()[0].decode() for row in rows}


def redos(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "store" / "redo").glob("*"))


def test_a_redo_that_was_killed_goes_on_when_it_is_typed_again(study):
    (study / "mode").write_text("slow")
    before = parts_in(study / "store")
    redo = start(*command("cold", "--redo", "executor=direct"), cwd=study)
    try:
        wait_for(lambda: parts_in(study / "store") > before or redo.poll() is not None, "a batch", 120)
        assert redo.poll() is None, redo.communicate()
        redo.send_signal(signal.SIGKILL)
        finish(redo)
    finally:
        redo.kill()

    status = mops_helm("study", "status", "store", "-o", "json", cwd=study)
    (found,) = json.loads(status.stdout)["redos"]
    assert 0 < found.pop("pending") < 24, "some are stored, some are left"
    assert found == {"generation": 1, "redo": "executor=direct", "tasks": 24, "lacking_outputs": 0}
    shown = mops_helm("study", "status", "store", cwd=study).stdout
    assert "still have to run again; their older results do not count" in shown
    report = verify(str(study / "store"))
    assert report.tasks["pending"] and {finding.code for finding in report.findings} >= {"UNFINISHED"}
    listed = mops_helm("study", "results", "store", "--output", "word", "--to", "csv", cwd=study)
    assert "wrong" not in listed.stdout and "their older results do not count" in listed.stderr
    assert set(words(study).values()) == {"slow"}, "results/ was built anew"

    (study / "mode").write_text("right")
    again = mops_helm(*command("cold", "--redo", "executor=direct"), cwd=study)
    assert again.returncode == 0, again.stderr
    assert "Continuing redo 1 (executor=direct)" in again.stderr
    assert redos(study) == ["000001.json"]
    assert set(words(study).values()) == {"slow", "right"}, "what was stored is not run once more"
    assert not verify(str(study / "store")).findings
    third = mops_helm(*command("cold", "--redo", "executor=direct"), cwd=study)
    assert third.returncode == 0 and "Nothing to run again" in third.stderr
    assert redos(study) == ["000001.json"]


def test_a_plain_run_goes_on_with_a_redo_too(study):
    (study / "mode").write_text("raises")
    failing = mops_helm(*command("isolated_warm", "--redo", "0/1,2/0"), cwd=study)
    assert failing.returncode == 3, failing.stderr
    assert "--redo" not in failing.stderr.partition("Next:")[2], "that would begin another redo"
    assert json.loads(mops_helm("study", "status", "store", "-o", "json", cwd=study).stdout)["failed"] == 2
    assert words(study).keys().isdisjoint({(0, 1), (2, 0)}), "not ok by the older rows"
    (study / "mode").write_text("right")
    retried = mops_helm(*command("isolated_warm", "--retry", "failed"), cwd=study)
    assert retried.returncode == 0, retried.stderr
    assert {task for task, word in words(study).items() if word == "right"} == {(0, 1), (2, 0)}
    assert not verify(str(study / "store")).findings and redos(study) == ["000001.json"]


def test_a_redone_task_that_kills_its_process_is_poisoned(study):
    """Its rows are of the redo, too, whoever writes them."""
    (study / "mode").write_text("dies")
    ended = mops_helm(*command("direct", "--redo", "1/0,2/0"), cwd=study)
    assert ended.returncode == 3, ended.stderr
    counts = json.loads(mops_helm("study", "status", "store", "-o", "json", cwd=study).stdout)
    assert (counts["ok"], counts["poisoned"], counts["pending"]) == (23, 1, 0)
    assert words(study)[2, 0] == "dies" and (1, 0) not in words(study)
    assert not verify(str(study / "store")).findings


def test_tasks_that_are_not_there_are_refused_before_anything_runs(study):
    for text, hint in (
        ("9/0", "did you mean 2/0?"),
        ("executor=warm", "did you mean executor=isolated_warm?"),
    ):
        refused = mops_helm(*command("cold", "--redo", text), cwd=study)
        assert refused.returncode == 2 and hint in refused.stderr, refused.stderr
    assert not redos(study)


def test_the_same_from_python(study, monkeypatch):
    (study / "mode").write_text("right")
    monkeypatch.setenv("MODELOPS_EXECUTOR_TYPE", "isolated_warm")
    monkeypatch.setenv("MODELOPS_EXECUTOR_ENVIRONMENT", "image")
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(study / "cache"))
    with pytest.warns(UserWarning, match="Redo 1"):
        result = run(Study.load(study / "study.yaml"), study / "store", redo="executor=direct")
    assert result.ok and set(words(study).values()) == {"right"}
    assert Store(str(study / "store")).list("redo") == ["000001.json"]
