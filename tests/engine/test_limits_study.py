"""A study whose tasks need more and more memory, in a pod that is too small for the last: a real cgroup."""

import json
import subprocess

import pyarrow.parquet as pq

from executor_helpers import write_bundle
from limits_helpers import cgroup_of_memory
from study_helpers import COMMAND, environ

MIB = 1024 * 1024
SIZES = [20, 60, 100, 150, 200, 250, 300, 350, 400, 500, 2000, *range(30, 38)]  # MiB
SHAPE = "workers.replicas=1,workers.processes=2,workers.memoryPerProcess=512Mi,executor.workerMemory=150Mi"

MODEL = """
import time

def wire(entrypoint, params, seed):
    block = bytearray(b"x") * (params["mib"] << 20)
    time.sleep(0.1)
    return {"table": "size\\n%d\\n" % len(block)}
"""


def test_what_fits_ends_ok_what_does_not_is_poisoned_and_no_worker_dies(tmp_path):
    """Two processes share 1120 MiB; a share is 362 MiB, and a task by itself has more than 500."""
    study = {"name": "grows", "entrypoint": "grows.wire/any", "replicates": 1, "grid": {"mib": SIZES}}
    study["bundle"] = str(write_bundle(tmp_path / "model", {"wire.py": MODEL}))
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    with cgroup_of_memory(1120 * MIB) as join:
        ran = subprocess.run(
            [*join, *COMMAND, "study", "run", "study.yaml", "--set", f"{SHAPE},executor.environment=image"],
            cwd=tmp_path,
            env=environ(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ran.returncode == 3, ran.stderr
    columns = ["set", "status", "reason", "peak_bytes", "limit_bytes"]
    rows = [
        row
        for part in (tmp_path / "out" / "grows" / "parts").glob("*.parquet")
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    attempts = {mib: [row for row in rows if SIZES[row["set"]] == mib] for mib in SIZES}
    for mib in SIZES:
        shown = f"{mib} MiB: {attempts[mib]}\n{ran.stderr}"
        (last,) = [row for row in attempts[mib] if row["status"] != "died"]
        assert last["status"] == ("ok" if mib < 2000 else "poisoned"), shown
        assert {row["reason"] for row in attempts[mib] if row["status"] == "died"} <= {"TaskOOM"}, shown
        if last["status"] == "ok":
            assert mib * MIB < last["peak_bytes"] < last["limit_bytes"] + 40 * MIB, shown
    died, poisoned = sorted(attempts[2000], key=lambda row: row["status"])
    assert died["limit_bytes"] // MIB >= 362 and poisoned["reason"] == "TaskOOM"
    assert 600 < poisoned["limit_bytes"] // MIB < 0.9 * 1120, "by itself it might have had much more"
    assert sorted(row["status"] for row in attempts[500]) in (["died", "ok"], ["ok"])
