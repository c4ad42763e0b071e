"""Executor direct: the model runs in this process."""

import contextlib
import json
import os
import random
import signal
import sys
import textwrap

import pyarrow.parquet as pq
import pytest

from executor_helpers import FAULTS, is_gone, run_here, settings, task, write_bundle
from helpers import wait_for
from modelops_dask import executors
from modelops_dask.errors import BadInput
from modelops_dask.executors import runner
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster
from study_helpers import SMALL, mops_helm


@pytest.fixture
def chosen(tmp_path):
    return settings(tmp_path, executor_type="direct")


@pytest.fixture
def executor(chosen):
    with executors.create(chosen) as running:
        yield running


def test_it_runs_here_and_state_stays(executor, chosen):
    before = [executor.run(task(FAULTS, chosen, "state")).outputs for _ in range(2)]
    assert [int(outputs["pid"]) for outputs in before] == [os.getpid()] * 2
    assert [int(outputs["before"]) for outputs in before] == [0, 1]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "ValueError"),
        ("sys_exit", "SystemExit"),
        ("not_bytes", "TypeError"),
        ("recurse", "RecursionError"),
    ],
)
def test_a_failure_is_an_outcome(executor, chosen, fault, reason):
    outcome = executor.run(task(FAULTS, chosen, fault))
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert "wire.py" in outcome.error or fault == "not_bytes"
    assert executor.run(task(FAULTS, chosen)).status == "ok"


@pytest.mark.parametrize(("name", "is_there"), [("data/pop.csv", True), ("data/none.csv", False)])
def test_a_relative_path_that_the_bundle_has_is_explained(executor, chosen, tmp_path, name, is_there):
    source = f"def wire(entrypoint, params, seed):\n    return {{'x': open({name!r}, 'rb').read()}}\n"
    folder = write_bundle(tmp_path / "model", {"wire.py": source, "data/pop.csv": "1\n"})
    outcome = executor.run(task(folder, chosen))
    assert (outcome.status, outcome.reason) == ("failed", "FileNotFoundError")
    *_, last = outcome.error.splitlines()
    assert ("keeps the worker's working directory" in last and name in last) == is_there


def test_the_peak_of_a_task_is_measured(executor, chosen):
    large = executor.run(task(FAULTS, chosen, "allocates", mib=200)).peak_bytes
    after = executor.run(task(FAULTS, chosen, "allocates", mib=1)).peak_bytes
    assert large - after > 150 << 20


def test_bundles_with_modules_of_one_name_do_not_mix(executor, chosen, tmp_path):
    sources = [
        write_bundle(
            tmp_path / name,
            {
                "wire.py": "def wire(e, p, s):\n    from model import lazy\n    return {'out': lazy.NAME}\n",
                "model/__init__.py": "",
                "model/lazy.py": f"NAME = {name!r}\n",
            },
        )
        for name in ("first", "second")
    ]
    answers = [executor.run(task(source, chosen)).outputs["out"] for source in (*sources, sources[0])]
    assert answers == [b"first", b"second", b"first"]


def test_an_import_that_fails_is_an_outcome(executor, chosen, tmp_path):
    source = write_bundle(tmp_path / "broken", {"wire.py": "import no_such_package\n"})
    outcome = executor.run(task(source, chosen))
    assert (outcome.status, outcome.reason) == ("failed", "ModuleNotFoundError")
    assert executor.run(task(FAULTS, chosen)).status == "ok"


def test_a_bundle_without_a_wire_function_is_bad_input(executor, chosen, tmp_path):
    source = write_bundle(tmp_path / "empty", {"notes.txt": "nothing"})
    with pytest.raises(BadInput, match="no wire function found"):
        executor.run(task(source, chosen))


def test_leaving_takes_the_bundle_off_the_path_and_out_of_the_modules(chosen):
    with executors.create(chosen) as executor:
        one = task(FAULTS, chosen)
        executor.run(one)
        assert str(one.bundle.path) in sys.path
    assert str(one.bundle.path) not in sys.path
    assert not [
        m
        for m in list(sys.modules.values())
        if str(getattr(m, "__file__", "")).startswith(str(one.bundle.path))
    ]


def test_it_says_what_it_shares(chosen, caplog):
    with executors.create(chosen):
        pass
    assert "executor=direct: tasks share this process" in caplog.text


def test_seeding_is_left_out_when_threads_would_share_it(chosen):
    with executors.create(chosen, threads=2) as executor:
        drawn = [executor.run(task(FAULTS, chosen, "draw", seed=7)).outputs["out"] for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_an_error_that_is_no_text_can_be_stored():
    answer = runner.failed_answer(ValueError(os.fsdecode(b"bad \xff.csv")))
    assert "bad \\udcff.csv" in answer.error and answer.error.encode()


FORKS = """
import os, sys, time

def wire(entrypoint, params, seed):
    pid = os.fork() if params["x"] % 3 == 1 else -1
    if pid == 0:
        with open("pids", "a") as file:  # in the worker's folder, which is the command's
            file.write(f"{os.getpid()}\\n")
        time.sleep(0.02)
        os.getpid = lambda: params["parent"]
        match params["how"]:
            case "exits":
                sys.exit(0)
            case "raises":
                raise ValueError("child")
        return {"x": "child"}
    params["how"] == "returns" or pid < 0 or os.waitpid(pid, 0)
    return {"x": str(params["x"])}
"""


@pytest.mark.parametrize("how", ["returns", "raises", "exits"])
def test_a_child_that_comes_back_from_a_task_stores_nothing_and_ends(tmp_path, how):
    source = write_bundle(tmp_path / "bundle", {"wire.py": FORKS})
    pids = tmp_path / "pids"
    pids.touch()
    study = {
        "entrypoint": "m.s/b",
        "bundle": str(source),
        "fixed": {"how": how, "parent": os.getpid()},
        "grid": {"x": list(range(9))},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    command = ("study", "run", "study.yaml", "--store", "out", "--preset", "direct", *SMALL, "-o", "json")
    try:
        done = mops_helm(*command, cwd=tmp_path, timeout_seconds=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"] == 9
        (table,) = (tmp_path / "out" / "results" / "raw").iterdir()
        rows = pq.read_table(table).to_pylist()
        assert {row["param_x"]: row["bytes"] for row in rows} == {x: str(x).encode() for x in range(9)}
        children = [int(line) for line in pids.read_text().split()]
        assert len(children) == 3
        wait_for(lambda: all(map(is_gone, children)), "end of the children")
    finally:
        for pid in map(int, pids.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_long_task_draws_from_random_what_its_seed_says(tmp_path):
    """A worker's heartbeats, two a second, draw from `random`: not from the one that the model has."""
    model = """
        import random, time
        def wire(entrypoint, params, seed):
            first = random.random()
            time.sleep(1.2)
            return {"drawn": repr((first, random.random()))}
    """
    source = write_bundle(tmp_path / "slow", {"wire.py": textwrap.dedent(model)})
    chosen = settings(tmp_path, executor_type="direct")
    with local_cluster(Shape(1, 1, 1, 1 << 30), chosen) as client:
        outcome = client.submit(run_here, task(source, chosen, seed=7)).result(timeout=60)
    generator = random.Random(7)
    assert outcome.outputs["drawn"].decode() == repr((generator.random(), generator.random()))


def test_dask_goes_on_with_a_generator_of_its_own(tmp_path):
    """All names of the module `random` still work in Dask's modules, classes too, and draw elsewhere."""
    from distributed import worker_state_machine
    from distributed.protocol import compression

    with executors.create(settings(tmp_path, executor_type="direct")):
        state = random.getstate()
        assert worker_state_machine.random.Random(0).random() == random.Random(0).random()
        worker_state_machine.random.sample(range(100), 3)
        worker_state_machine.random.seed(5)
        compression.randint(0, 9)
        assert random.getstate() == state
