"""The limit of each task: a model that asks for more costs that task, and the next one works."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor_helpers import settings, task, write_bundle
from helpers import wait_for
from modelops_dask import executors

MIB = 1024 * 1024
LIMIT = 200 * MIB
KINDS = ["isolated_warm", "isolated_fork", "cold"]

MODEL = """
import os, time
KEPT = []

def wire(entrypoint, params, seed):
    return {"out": str(globals()[params["does"]](params.get("mib", 800) << 20))}

def nothing(size):
    return "nothing"

def numpy_array(size):
    import numpy
    return numpy.ones(size // 8).sum()

def lists(size):
    grown = []
    while len(grown) < size // 64:
        grown.append([grown])
    return len(grown)

def small_blocks(size):
    return len([bytearray(5000) for _ in range(size // 5000)])

def deep_in_another_exception(size):
    try:
        raise KeyError("before")
    except KeyError:
        return len(bytearray(size))

def result(size):
    return "x" * size

def copes(size):
    try:
        return len(bytearray(size))
    except MemoryError:
        return "coped"

def keeps(size):
    KEPT.append(bytearray(size))
    return len(KEPT)

def takes(size):
    return len(bytearray(size))

def hangs(size):
    block = bytearray(size)
    print("hanging", os.getpid(), flush=True)
    time.sleep(600)

def scores(size):
    def read(pid):
        return open(f"/proc/{pid}/oom_score_adj").read().strip()
    return read(os.getpid()) + " " + read(os.getppid())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module", params=KINDS)
def run(request, folder):
    """Run one thing that the model does, under a limit."""
    chosen = settings(folder, executor_type=request.param, executor_environment="image")
    source = write_bundle(folder / "greedy", {"wire.py": MODEL})
    with executors.create(chosen) as executor:

        def one(does: str, mib: int = 800, limit_bytes: int = LIMIT) -> executors.Outcome:
            return executor.run(task(source, chosen, does=does, mib=mib)._replace(limit_bytes=limit_bytes))

        one.executor, one.kind = executor, request.param
        yield one


@pytest.mark.parametrize(
    "does", ["numpy_array", "lists", "small_blocks", "deep_in_another_exception", "result"]
)
def test_a_task_that_asks_for_too_much_ends_as_taskoom(run, does):
    outcome = run(does)
    assert (outcome.status, outcome.reason) == ("died", "TaskOOM"), outcome
    assert outcome.error.endswith("TaskOOM: an allocation failed; the task's limit is 200 MiB\n")
    assert "MemoryError" in outcome.error
    assert 0 < outcome.peak_bytes < LIMIT + 40 * MIB, "it held no more; what files back is on top"
    assert run("nothing").status == "ok"
    assert run("takes", 120).status == "ok"


def test_a_blow_up_in_python_fills_its_limit_first(run):
    assert run("lists").peak_bytes > 0.8 * LIMIT


def test_a_model_that_copes_with_it_is_well(run):
    assert run("copes").outputs == {"out": b"coped"}
    assert run("nothing").status == "ok"


def test_what_a_task_gives_back_the_next_can_have(run):
    assert [run("takes", 120).status for _ in range(5)] == ["ok"] * 5


def test_what_stays_in_the_process_counts(run):
    """A limit is a process's: in a warm one what an earlier task left is part of it."""
    run("nothing", 0, 1)  # the smallest limit: a warm runner that kept something ends here
    assert run("keeps", 120).outputs == {"out": b"1"}
    second = run("keeps", 120)
    assert second.reason == ("TaskOOM" if run.kind == "isolated_warm" else ""), second
    assert run("keeps", 120).outputs == {"out": b"1"}, "what it left went with its process"


def test_without_a_limit_memoryerror_is_the_models_own(run):
    outcome = run("takes", 1 << 33, limit_bytes=0)
    assert (outcome.status, outcome.reason) == ("failed", "MemoryError")


def test_the_kernel_takes_a_task_before_anything_else(run):
    own, parent = run("scores").outputs["out"].split()
    assert own == b"1000"
    if run.kind == "isolated_fork":
        assert parent == b"500", "the zygote only after its children"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_task_leaves_its_peak(folder, kind):
    chosen = settings(folder, executor_type=kind)
    source = write_bundle(folder / "greedy", {"wire.py": MODEL})
    with executors.create(chosen) as executor, ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(executor.run, task(source, chosen, does="hangs", mib=150))
        runner = wait_for(executor.busy, "busy runner")[0]
        wait_for(lambda: "hanging" in runner.log, "word from the model")
        if kind != "isolated_fork":  # the zygote hears it from the kernel
            wait_for(lambda: runner.peak_seen_bytes > 150 * MIB, "look at the silent runner")
        os.kill(int(runner.log.split()[1]), signal.SIGKILL)
        assert outcome.result(timeout=60).reason == "killed by signal 9"
        assert outcome.result().peak_bytes > 150 * MIB
