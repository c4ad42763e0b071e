"""The guard: who is ended when memory runs out, what is said of it, and that everybody else lives on."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from executor_helpers import is_gone, settings, task, write_bundle
from helpers import wait_for
from limits_helpers import MemoryOfRunners, cgroup_of_memory, own_pod  # noqa: F401 (a fixture)
from modelops_dask import executors
from modelops_dask.executors.limited import LimitedExecutor

MIB = 1024 * 1024
KINDS = ["isolated_warm", "isolated_fork", "cold"]

MODEL = '''
import mmap, os, time
from pathlib import Path

def wire(entrypoint, params, seed):
    return {"out": str(globals()[params["does"]](params))}

def nothing(params):
    return "nothing"

def holds(params):
    """Shared memory, which no limit of a process counts, until a file appears."""
    block = mmap.mmap(-1, params["mib"] << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    print("holding", os.getpid(), flush=True)
    while not os.path.exists(params["until"]):
        time.sleep(0.01)
    return "held"

def grows(params):
    """Up to params["mib"], but once 95% of the cgroup's memory are in use not before somebody acts."""
    from modelops_dask.limits import cgroup
    memory = cgroup.memory()
    block = mmap.mmap(-1, params["mib"] << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
        if not at % (1 << 20) and memory.used_bytes() > 0.95 * memory.limit_bytes:
            time.sleep(0 if params["hurries"] else 600)
    return "grown"

def in_another_process(params):
    """As holds(), in a child with a session of its own."""
    import subprocess, sys
    code = (
        "import mmap, time\\n"
        "block = mmap.mmap(-1, %d)\\n"
        "for at in range(0, len(block), 4096): block[at] = 1\\n"
        "print('holding', __import__('os').getpid(), flush=True)\\n"
        "time.sleep(600)\\n" % (params["mib"] << 20)
    )
    subprocess.run([sys.executable, "-c", code], start_new_session=True)
    return "over"
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def worker(folder, own_pod):  # noqa: ARG001, F811
    """Make what one worker process of a pod of 500 MiB has: a limited executor with a guard of its own."""
    with ExitStack() as stack:

        def make(kind: str) -> executors.Executor:
            chosen = settings(folder, executor_type=kind)
            plain = executors.create(chosen)
            return stack.enter_context(
                LimitedExecutor(
                    plain, MemoryOfRunners(500 * MIB), runner_limit_bytes=100 * MIB, worker_bytes=0
                )
            )

        yield make


def model(folder: Path, does: str, **params) -> executors.Task:
    source = write_bundle(folder / "greedy", {"wire.py": MODEL})
    return task(source, settings(folder), does=does, **params)


def holding(executor: executors.Executor, n: int = 1) -> None:
    wait_for(
        lambda: sum("holding" in runner.log for runner in executor.busy()) == n, "model that holds memory", 60
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_task_is_ended_and_the_others_are_not(folder, worker, tmp_path, kind):
    executor, until = worker(kind), tmp_path / "until"
    executor.run(model(folder, "nothing"))  # a first task's share is large
    with ThreadPoolExecutor(2) as threads:
        small = threads.submit(executor.run, model(folder, "holds", mib=100, until=str(until)))
        holding(executor)
        large = threads.submit(executor.run, model(folder, "holds", mib=390, until=str(until)))
        ended = large.result(timeout=60)
        until.touch()
        assert (small.result(timeout=60).status, small.result().outputs) == ("ok", {"out": b"held"})
    assert (ended.status, ended.reason, ended.limit_bytes) == ("died", "TaskOOM", 100 * MIB), ended
    assert ended.peak_bytes > 300 * MIB
    assert "of the 500 MiB that this process shares with its neighbours were in use" in ended.error
    assert executor.run(model(folder, "nothing")).status == "ok"


def test_each_guard_ends_only_tasks_of_its_own(folder, worker, tmp_path):
    """Two worker processes of a pod: the one with the larger task gives way, whoever looks first."""
    first, second, until = worker("isolated_warm"), worker("isolated_warm"), tmp_path / "until"
    for executor in (first, second):
        executor.run(model(folder, "nothing"))
    with ThreadPoolExecutor(2) as threads:
        small = threads.submit(first.run, model(folder, "holds", mib=150, until=str(until)))
        holding(first)
        large = threads.submit(second.run, model(folder, "holds", mib=330, until=str(until)))
        assert large.result(timeout=60).reason == "TaskOOM"
        until.touch()
        assert small.result(timeout=60).status == "ok"


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
def test_what_a_model_started_counts_as_its_own_and_ends_with_it(folder, worker, kind):
    executor = worker(kind)
    with ThreadPoolExecutor(1) as threads:
        task_ = threads.submit(executor.run, model(folder, "in_another_process", mib=480))
        runner = wait_for(executor.busy, "busy runner", 60)[0]
        outcome = task_.result(timeout=60)
    assert outcome.reason == "TaskOOM", outcome
    if "holding" in runner.log:
        wait_for(lambda: is_gone(int(runner.log.split()[1])), "end of the process with the memory")
    assert executor.run(model(folder, "nothing")).status == "ok"


def test_an_idle_runner_that_kept_too_much_goes_first(folder, worker, tmp_path):
    executor, until = worker("isolated_warm"), tmp_path / "until"
    source = write_bundle(
        folder / "keeps",
        {
            "wire.py": "KEPT = []\ndef wire(e, p, s):\n    KEPT.append(b'x' * p['size'])\n"
            "    return {'out': '1'}\n"
        },
    )
    keeps = task(source, settings(folder), size=300 * MIB)._replace(limit_bytes=400 * MIB)
    assert executor.run(keeps).status == "ok"
    (keeper,) = executor.idle()
    with ThreadPoolExecutor(1) as threads:
        holds = threads.submit(executor.run, model(folder, "holds", mib=170, until=str(until)))
        wait_for(lambda: is_gone(keeper.pid), "end of the idle runner")
        until.touch()
        assert holds.result(timeout=60).status == "ok"


def python_path() -> dict[str, str]:
    """Variables with which a script imports what this file does, and this file."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}


WORKER = """
import sys, threading
from pathlib import Path
from helpers import wait_for
from modelops_dask import executors
from executor_helpers import settings
from test_limits_guard import model
folder = Path(sys.argv[1])
executor = executors.create(settings(folder, executor_environment="image"))
work = model(folder, "in_another_process", mib=10)
threading.Thread(target=executor.run, args=(work,), daemon=True).start()
runner = wait_for(executor.busy, "busy runner", 60)[0]
wait_for(lambda: "holding" in runner.log, "process of the model's", 60)
print(runner.log.split()[1], flush=True)
sys.stdin.read()
"""


def test_what_a_killed_worker_left_behind_the_next_one_ends(folder, worker):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, folder],
        env=python_path(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    left_behind = int(process.stdout.readline())
    process.kill()
    process.communicate()
    assert not is_gone(left_behind)
    worker("isolated_warm")
    wait_for(lambda: is_gone(left_behind), "end of what was left behind")


SCRIPT = """
import sys
from pathlib import Path
from modelops_dask import executors
from modelops_dask.executors.limited import guard
from modelops_dask.limits import cgroup
from executor_helpers import settings
from test_limits_guard import model
folder, kind = Path(sys.argv[1]), sys.argv[2]
blind = sys.argv[3] == "blind"
if blind:
    guard.LOOK_SECONDS = 1000
chosen = settings(folder, executor_type=kind, executor_environment="image", worker_memory_bytes=50 << 20)
with executors.create(chosen, runner_limit_bytes=100 << 20) as executor:
    for mib in (600, 50):
        outcome = executor.run(model(folder, "grows", mib=mib, hurries=blind))
        print(outcome.status, outcome.reason, outcome.peak_bytes >> 20, outcome.limit_bytes >> 20, sep=",")
print(cgroup.memory().oom_kills())
"""


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
@pytest.mark.parametrize("guard", ["watching", "blind"])
def test_in_a_real_cgroup(folder, kind, guard):
    """400 MiB for all, and a task that takes more. Without its guard the kernel ends that task, no worker."""
    write_bundle(folder / "greedy", {"wire.py": MODEL})
    with cgroup_of_memory(400 * MIB) as join:
        process = subprocess.run(
            [*join, sys.executable, "-c", SCRIPT, folder, kind, guard],
            env=python_path(),
            capture_output=True,
            text=True,
        )
    assert process.returncode == 0, process.stderr
    large, small, kills = process.stdout.splitlines()
    status, reason, peak_mib, limit_mib = large.split(",")
    assert (status, reason, limit_mib) == ("died", "TaskOOM", "100"), process.stderr
    assert int(peak_mib) > 200 or guard == "blind"
    assert small.startswith("ok,,")
    assert int(kills) == (1 if guard == "blind" else 0)
