"""A run that was killed while it merged parts or wrote tables, and what the next one does."""

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from modelops_dask.bundle import fetch
from modelops_dask.kube import reporter
from modelops_dask.plan import spec
from modelops_dask.pod import driver
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.study import presence
from modelops_dask.study.breaker import TablesNeedMemory
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.workers.local import local_cluster
from study_helpers import KNOBS, environ, write_spec

MIB = 1024 * 1024

KILLED = """
import os, signal, sys
from pathlib import Path
import test_killed_tables
from modelops_dask.store import merge
from modelops_dask.study import drive

def killed(*args, on_begin=lambda: None, **_):
    on_begin()
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "compacting":
    drive.compact = killed
else:
    merge.MERGE_OVER = 0
    merge._measure = killed
    drive.merge = lambda files, on_begin: merge.merge(files, 0, on_begin=on_begin)
if __name__ == "__main__":
    test_killed_tables.run(Path(sys.argv[1]))
"""


def run(folder: Path, notes: list[str] | None = None, **how: object):
    """A study of two tasks; the store is the folder's."""
    settings = Settings(executor_type="direct", bundles_cache_dir=folder / "cache")
    loaded = spec.load(write_spec(folder, n=2))
    return drive(
        loaded,
        fetch(str(KNOBS), folder / "cache"),
        Store(str(folder / "store")),
        lambda: local_cluster(Shape(1, 1, 1, 1024 * MIB), settings),
        watcher=Watcher(note=(notes if notes is not None else []).append),
        **how,
    )


def kill_one(folder: Path, phase: str) -> None:
    """Have a process of its own killed while it is in that phase."""
    if phase == "merging":
        run(folder)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder, phase],
        env={**environ(folder), "PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("phase", ["compacting", "merging"])
def test_the_next_pod_stops_once_and_a_person_goes_on(phase, tmp_path):
    kill_one(tmp_path, phase)
    with pytest.raises(TablesNeedMemory, match="Results are stored; the tables need more") as stopped:
        run(tmp_path, was_disrupted=lambda: False)
    assert stopped.value.exit_code == 4
    assert stopped.value.memory_bytes == presence.memory_bytes() > 0
    assert run(tmp_path, was_disrupted=lambda: False).counts["ok"] == 2, "submitted again, by somebody"


def test_the_driver_that_stops_counts_the_tasks_that_are_stored(tmp_path, monkeypatch):
    """Its own counts are 0, and those of the driver before it may be older than the store."""
    kill_one(tmp_path, "compacting")
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))
    words = ["--spec", tmp_path / "study.yaml", "--bundle", KNOBS, "--store", tmp_path / "store"]
    asked = driver._arguments([*map(str, words), "--scheduler", "tcp://nowhere:8786"])
    with reporter.Reporter(None, SimpleQueue()) as mine:
        with pytest.raises(TablesNeedMemory):
            driver._run(asked, SimpleQueue(), mine)
        assert {name: mine._state[name] for name in ("total", "ok", "failed")} == {
            "total": 2,
            "ok": 2,
            "failed": 0,
        }


def test_a_person_is_told_and_the_run_tries_again(tmp_path):
    kill_one(tmp_path, "compacting")
    notes: list[str] = []
    assert run(tmp_path, notes).counts["ok"] == 2
    assert "was killed while it wrote the tables" in notes[0] and "This run tries again" in notes[0]
    notes.clear()
    run(tmp_path, notes)
    assert not notes


def test_what_wrote_tables_and_had_no_task_to_run_is_seen_too(tmp_path):
    kill_one(tmp_path, "compacting")
    kill_one(tmp_path, "compacting")
    with pytest.raises(TablesNeedMemory):
        run(tmp_path, was_disrupted=lambda: False)


@pytest.mark.parametrize(("had", "wanted"), [(0, "4096Mi"), (1024, "4096Mi"), (4096, "8192Mi")])
def test_the_value_to_raise_is_not_one_that_is_killed_as_well(had, wanted):
    """Doubling the default of 1Gi cost another round on a real cluster."""
    assert TablesNeedMemory("compacting", had * MIB).suggested_memory == wanted


def leave(folder: Path, **changes: object) -> None:
    """The record of a run on another machine that is no more."""
    with presence.Presence(Store(str(folder / "store"))) as there:
        record = replace(there.driver, host="sims-driver-x", phase="compacting", **changes)
    (folder / "store" / presence.FILE).write_text(json.dumps({**asdict(record), "of a later version": 1}))


@pytest.mark.parametrize(
    "how",
    [
        {"changes": {"memory_bytes": 1}},  # there is more now
        {"changes": {"stopping": True}},  # told to end, and then killed: its pod had to go
        {"was_disrupted": True},  # evicted, or its node went
    ],
)
def test_a_run_goes_on_where_memory_was_not_the_reason_or_there_is_more(how, tmp_path, monkeypatch):
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.2)
    monkeypatch.setattr(presence, "GONE_SECONDS", 0.6)
    leave(tmp_path, **how.get("changes", {}))
    assert run(tmp_path, was_disrupted=lambda: how.get("was_disrupted", False)).counts["ok"] == 2


def test_a_run_on_another_machine_that_lives_is_not_taken_for_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.05)
    leave(tmp_path)
    files = Store(str(tmp_path / "store"))
    with presence.Presence(files, waits=True) as there, nullcontext():
        assert there.killed is not None
    leave(tmp_path)
    record = json.loads(files.read(presence.FILE))
    reads = iter([record, {**record, "seen": record["seen"] + 1}])

    def last(*_: object) -> presence.RunningDriver:
        return presence.RunningDriver(**{k: v for k, v in next(reads).items() if k != "of a later version"})

    monkeypatch.setattr(presence, "read_record", last)
    here = presence.Presence(files, waits=True)
    before = presence.read_record()
    assert not here._is_gone(before)
