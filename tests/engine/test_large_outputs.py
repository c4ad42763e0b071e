"""Outputs that are too large for a worker process: the task fails with their names, sizes and what to do, and
nothing else is lost.
"""

import json
import random
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.executors import outputs as outputs_of
from modelops_dask.limits import worker_memory
from modelops_dask.shape import MIB, most_received, most_stored
from modelops_dask.store.failures import MESSAGE_LIMIT
from study_helpers import COMMAND, environ

MODEL = """
def wire(entrypoint, params, seed):
    return {"tracks": b"x" * (params["mib"] << 20), "summary": b"x" * 1000}
"""


@pytest.fixture
def small_worker():
    """This process as a worker of 300 MiB, which can receive 41 MiB of a task."""
    worker_memory.plan_outputs(300 * MIB, 1)
    yield worker_memory.output_limits()
    worker_memory.plan_outputs(0, 1)


def test_a_process_can_take_more_of_a_task_the_more_memory_it_has():
    assert most_stored(1024 * MIB, 1) > 100 * MIB, "of the default pod"
    assert most_stored(1024 * MIB, 1) > most_stored(1024 * MIB, 4) > 0
    assert most_received(1024 * MIB, 1) > most_stored(1024 * MIB, 1)
    assert most_received(100 * MIB, 1) == most_stored(100 * MIB, 1) == 0
    assert worker_memory.output_limits() == (0, 0, 0), "without a limit"


def test_property_with_the_memory_that_is_suggested_the_outputs_can_be_stored():
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(300):
        process_bytes, n_runners = draw.randrange(350, 9000) * MIB, draw.randrange(1, 5)
        limits = most_received(process_bytes, n_runners), most_stored(process_bytes, n_runners), process_bytes
        total = draw.randrange(limits[1] + MIB, 20 * process_bytes)
        words = outputs_of.explain_size({"x": range(total)}, limits, is_received=True)
        suggestion = re.search(r"--set workers\.memoryPerProcess=(\d+)Mi --retry failed$", words)
        if limits[1]:
            assert most_stored(int(suggestion[1]) * MIB, n_runners) >= total, (seed, words)
        else:
            assert suggestion is None and "use more workers.memoryPerProcess" in words


def test_the_words_have_names_sizes_the_limit_and_fit_into_a_summary():
    large = {f"output_{n}_{'x' * 100}": range((10 - n) * MIB) for n in range(9)}
    words = outputs_of.explain_size(large, (80 * MIB, 12 * MIB, 400 * MIB), is_received=True)
    assert words.startswith("OutputsTooLarge: the outputs have 54 MiB ('output_0_xxx")
    assert "10 MiB" in words and "and 6 more" in words and "of 400 MiB can store 12 MiB of a task" in words
    assert "outputs: in the study file" in words and len(words) < MESSAGE_LIMIT


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
def test_more_than_can_be_received_is_not_sent(kind, tmp_path, small_worker):
    chosen = settings(tmp_path, executor_type=kind, executor_environment="image")
    source = write_bundle(tmp_path / "large", {"wire.py": MODEL})
    with executors.create(chosen) as executor:
        outcomes = executor.run_all([task(source, chosen, mib=mib) for mib in (1, 60, 40)])
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok"]
    failed = outcomes[1]
    assert (failed.reason, failed.failure, dict(failed.outputs)) == ("OutputsTooLarge", "model", {})
    assert failed.error.startswith(
        "OutputsTooLarge: the outputs have 60 MiB ('tracks' 60 MiB, 'summary' 0 MiB), and a worker process "
        f"of 300 MiB can receive {small_worker.most_received // MIB} MiB of a task\nReturn fewer outputs"
    )
    if kind == "isolated_warm":
        assert len({outcome.runner for outcome in outcomes}) == 1, "its process lives on"


SCRIPT = """
import os, sys
from modelops_dask.shape import most_stored
from modelops_dask.store import parts
from modelops_dask.workers import runtime
sizes = most_stored(int(sys.argv[1]), 1), 16 << 20
rows = [
    parts.Attempt(0, number, 1, "ok", {"x": os.urandom(size)}, executor="x", preset="y")
    for number, size in enumerate(sizes)
]
encoder = parts.Encoder()
encoder.add(parts.columns(rows))
part = encoder.end()
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


def test_the_most_that_a_process_can_store_fits_into_its_memory():
    limit_bytes = 600 * MIB
    ran = subprocess.run([sys.executable, "-c", SCRIPT, str(limit_bytes)], capture_output=True, text=True)
    assert int(ran.stdout) * 1024 < 0.98 * limit_bytes, ran.stderr


def test_a_study_stores_what_fits_and_says_of_the_rest_what_to_do(tmp_path):
    """A process of 400 MiB can receive 84 MiB of a task, and store 13. No worker process ends."""
    sizes = [1, 40, 120, 2, 3]
    study = {"name": "large", "entrypoint": "large.wire/any", "replicates": 1, "grid": {"mib": sizes}}
    study["bundle"] = str(write_bundle(tmp_path / "model", {"wire.py": MODEL}))
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    shape = "workers.replicas=1,workers.processes=1,workers.memoryPerProcess=400Mi"
    ran = subprocess.run(
        [
            *COMMAND,
            "study",
            "run",
            "study.yaml",
            "--check",
            "0",
            "--set",
            f"{shape},executor.environment=image",
        ],
        cwd=tmp_path,
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 3, ran.stderr
    columns = ["set", "status", "reason"]
    rows = [
        row
        for part in (tmp_path / "out" / "large" / "parts").glob("*.parquet")
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    ends = {
        mib: {(row["status"], row["reason"]) for row in rows if sizes[row["set"]] == mib} for mib in sizes
    }
    refused = {("failed", "OutputsTooLarge")}
    assert ends == {1: {("ok", "")}, 2: {("ok", "")}, 3: {("ok", "")}, 40: refused, 120: refused}, ran.stderr
    assert "the outputs have 40 MiB ('tracks' 40 MiB" in ran.stdout
    assert "can store 13 MiB of a task" in ran.stdout and "can receive 84 MiB of a task" in ran.stdout
    assert re.search(r"or use --set workers\.memoryPerProcess=\d+Mi --retry failed\n", ran.stdout), ran.stdout
