"""Native code that meets the limit of memory: its task died of TaskOOM, with the evidence. With room left it
did not.
"""

import errno
import json
import random
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from executor_helpers import settings, task, write_bundle
from limits_helpers import (
    MemoryOfRunners,
    cgroup_of_memory,
    cgroup_of_processes,
    own_pod,  # noqa: F401
)
from modelops_dask import executors
from modelops_dask.executors import messages, shortage
from modelops_dask.executors.crash import Crash
from modelops_dask.executors.limited import LimitedExecutor
from modelops_dask.store.files import Store
from modelops_dask.store.fold import MAX_ATTEMPTS, fold
from modelops_dask.study.batch import Failed
from modelops_dask.study.ledger import CONFIRMED, Ledger
from store_helpers import begin
from study_helpers import COMMAND, environ

MIB = 1024 * 1024
LIMIT = 200 * MIB
KINDS = ["isolated_warm", "isolated_fork", "cold"]

MODEL = '''
import ctypes, mmap, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def wire(entrypoint, params, seed):
    return {"out": str(globals()[params["does"]](params))}

def nothing(params):
    return "nothing"

def ends(params):
    """As a native program that is refused an allocation when it holds so much, or that crashes then."""
    for _ in range(params["mib"]):
        block = libc.malloc(1 << 20)
        if not block:
            break
        if params["touches"]:
            libc.memset(block, 1, 1 << 20)
    if params.get("prints"):
        os.write(2, params["prints"].encode())
    getattr(libc, "raise")(params["signal"])

def null_pointer(params):
    libc.memset(libc.malloc(params["mib"] << 20), 1, params["mib"] << 20)
    return "filled"

def crash(params):
    ctypes.string_at(0)

def private_map(params):
    return len(mmap.mmap(-1, 800 << 20, flags=mmap.MAP_PRIVATE))

def many_threads(params):
    with ThreadPoolExecutor(256) as pool:
        return sum(pool.map(lambda _: time.sleep(0.05) or 1, range(256)))

def in_another_exception(params):
    try:
        bytearray(800 << 20)
    except MemoryError:
        raise ValueError("no solution") from None

def returned(params):
    try:
        bytearray(800 << 20)
    except MemoryError as error:
        return {"error": {"error": str(error), "type": "MemoryError"}}

def program(params):
    subprocess.run([sys.executable, "-c", "len(bytearray(800 << 20))"], check=True)

def quiet_program(params):
    code = """
import os
blocks = []
try:
    while True: blocks.append(b"x" * (1 << 20))
except MemoryError:
    os.abort()
"""
    subprocess.run([sys.executable, "-c", code], check=True)

def recursion(params):
    """As a model that turns Python's limit off: its frames use up the memory."""
    sys.setrecursionlimit(10**9)
    def deeper(n):
        return deeper(n + 1)
    return deeper(0)

def says(params):
    """Raise a type of a module with words, or print them and crash."""
    if "crash" in params:
        print(params["words"], flush=True)
        ctypes.string_at(0)
    raise type(params["type"], (Exception,), {"__module__": params.get("module", "m")})(params["words"])

def failing_program(params):
    subprocess.run([sys.executable, "-c", "import os; os.abort()"], check=True)

def pool_of_processes(params):
    import multiprocessing
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(ends, {"mib": 800, "touches": True, "signal": 6}).result()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module", params=KINDS)
def run(request, folder):
    """Run one thing that the model does, under a limit."""
    chosen = settings(folder, executor_type=request.param, executor_environment="image")
    source = write_bundle(folder / "native", {"wire.py": MODEL})
    with executors.create(chosen) as executor:
        yield lambda does, limit_bytes=LIMIT, **params: executor.run(
            task(source, chosen, does=does, **params)._replace(limit_bytes=limit_bytes)
        )


@pytest.mark.parametrize(
    ("does", "params", "evidence"),
    [
        ("ends", {"mib": 800, "touches": True, "signal": 11}, "killed by signal 11 after"),
        ("ends", {"mib": 800, "touches": False, "signal": 6}, "killed by signal 6 after"),
        (
            "ends",
            {"mib": 1, "touches": True, "signal": 6, "prints": "  what():  std::bad_alloc\n"},
            'killed by signal 6 after "what(): std::bad_alloc" was printed',
        ),
        ("private_map", {}, "OSError: [Errno 12] Cannot allocate memory"),
        ("many_threads", {}, "a thread could not start: each reserves"),
        ("in_another_exception", {}, "an allocation failed"),
        ("program", {}, 'CalledProcessError after "MemoryError" was printed'),
        ("quiet_program", {}, "a program that it started was killed by signal 6"),
        ("pool_of_processes", {}, "BrokenProcessPool after"),
    ],
    ids=["crash", "reserved", "bad_alloc", "mmap", "threads", "renamed", "program", "quiet_program", "pool"],
)
def test_native_code_at_the_limit_died_of_want_of_memory(run, does, params, evidence):
    outcome = run(does, **params)
    assert (outcome.status, outcome.reason) == ("died", "TaskOOM"), outcome
    last_line = outcome.error.splitlines()[-1]
    assert last_line.startswith(f"TaskOOM: {evidence}"), outcome.error
    assert last_line.endswith("; the task's limit is 200 MiB")
    assert outcome.failure == ""
    assert run("nothing").status == "ok"


def test_a_crash_with_room_left_stays_a_crash(run):
    outcome = run("crash")
    assert (outcome.status, outcome.reason) == ("died", "killed by signal 11"), outcome
    assert "Segmentation fault; it had allocated" in outcome.error and "of at most 2" in outcome.error
    assert "string_at" in outcome.log and 0 < outcome.peak_bytes + (outcome.runner_task == 1) < LIMIT


def test_a_program_that_fails_with_room_left_is_its_models_failure(run):
    outcome = run("failing_program")
    assert (outcome.status, outcome.reason, outcome.failure) == ("failed", "CalledProcessError", "model")


def test_endless_recursion_without_pythons_limit_ends_for_want_of_memory(run):
    """Python 3.11 raises SystemError there, others MemoryError. The traceback has 100,000 frames and more."""
    outcome = run("recursion", limit_bytes=100 * MIB)
    assert (outcome.status, outcome.reason) == ("died", "TaskOOM"), outcome
    assert "in deeper" in outcome.error and "Previous line repeated" in outcome.error


@pytest.mark.parametrize("does", ["private_map", "in_another_exception", "program"])
def test_without_a_limit_nothing_is_for_want_of_it(run, does):
    """As under `direct`: 800 MiB that nobody touches are there."""
    outcome = run(does, limit_bytes=0)
    assert outcome.reason != "TaskOOM", outcome


def test_property_a_death_is_for_want_of_memory_if_and_only_if_the_limit_was_reached(folder):
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    chosen = settings(folder, executor_type="isolated_warm", executor_environment="image")
    source = write_bundle(folder / "native", {"wire.py": MODEL})
    with executors.create(chosen) as executor:
        for _ in range(12):
            limit_mib = draw.randrange(80, 300)
            is_full = draw.random() < 0.5
            params = {
                "mib": 4 * limit_mib if is_full else draw.randrange(int(0.7 * limit_mib)),
                "touches": draw.random() < 0.5,
                "signal": draw.choice([4, 6, 7, 8, 11]),
                "prints": draw.choice(["", "progress 12%\n", "CUDA out of memory\n"]),
            }
            ended = executor.run(
                task(source, chosen, does="ends", **params)._replace(limit_bytes=limit_mib * MIB)
            )
            expected = "TaskOOM" if is_full else f"killed by signal {params['signal']}"
            assert (ended.status, ended.reason) == ("died", expected), (seed, limit_mib, params, ended)


SAID = [
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "memory allocation of 1073741824 bytes failed",  # Rust
    "LLVM ERROR: out of memory",
    "Error: cannot allocate vector of size 762.9 Mb",  # R
    "ERROR: OutOfMemoryError()",  # Julia
    'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space',
    "fatal error: runtime: out of memory",  # Go
    "Operating system error: Cannot allocate memory",  # Fortran
    "Error allocating 800000000 bytes",
    "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 1.49 GiB for an array with shape (2,)",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes. Error code 12",
    "virtual memory exhausted",
    "# There is insufficient memory for the Java Runtime Environment to continue.",
    "# Native memory allocation (mmap) failed to map 8589934592 bytes for committing reserved memory.",
    "# Native memory allocation (malloc) failed to allocate 1048576 bytes for AllocateHeap",
    "Could not reserve enough space for 8388608KB object heap",
    "OOM when allocating tensor with shape[99,99] and type float on /job:localhost/device:CPU:0 by cpu",
    "RESOURCE_EXHAUSTED: Out of memory allocating 40000000000 bytes.",  # JAX on a CPU
    "GurobiError: Out of memory",
    "solver.Error: Out of memory!",
    "cc1plus: out of memory allocating 65536 bytes after a total of 0 bytes",
    "MemoryError",
    "Failed to allocate memory for the matrix",
]
THREADS_SAID = [
    "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: Resource temporarily unavailable",
    "libgomp: Thread creation failed: Resource temporarily unavailable",
    "RuntimeError: can't start new thread",
    'failed to spawn thread: Os { code: 11, kind: WouldBlock, message: "Resource temporarily unavailable" }',
    "runtime: failed to create new OS thread (have 5 already; errno=11)",
]
OTHERS_SAID = [
    "",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "the GPU is out of memory",
    "free(): invalid pointer",
    "Segmentation fault",
    "memory: 12 MiB",
    "cache: out of memory budget, using the disk",
    "cache: MemoryError, using the disk",
    "failed to allocate memory T cells: 3 of 5",
    "cannot allocate 20 B cells to the compartment",
    "ImportError: libgomp.so.1: cannot allocate memory in static TLS block",  # a limit of the loader
    "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,000,000,000 bytes",
    "pyopencl._cl.MemoryError: create_buffer failed: MEM_OBJECT_ALLOCATION_FAILURE",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes.",
    "OOM when allocating tensor with shape[99] on /job:localhost/device:GPU:0 by allocator GPU_0_bfc",
]
REPORT = (
    'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "a.py", line 1\n'
)


@pytest.mark.parametrize("line", SAID + THREADS_SAID)
@pytest.mark.parametrize("ended", ["killed by signal 6", "exited with status 1"])
def test_what_runtimes_print_when_memory_is_refused(line, ended):
    log = f"step 1\n{line}\nExecution halted\n{REPORT}"
    evidence, _ = shortage.judge_end(ended, log, 64 * MIB, None)
    assert evidence.startswith(f'{ended} after "{line}" was printed')
    assert shortage.judge_end(ended, log, 0, None)[0] == "", "without a limit"
    long_ago = f"{line}\n" + "step\n" * shortage.LINES
    assert shortage.judge_end(ended, long_ago, 64 * MIB, None)[0] == "", "the model went on"


@pytest.mark.parametrize("line", OTHERS_SAID)
def test_what_is_printed_for_other_reasons(line):
    crash = Crash(1, 9, 50, 100)
    assert shortage.judge_end("killed by signal 6", f"{line}\n{REPORT}", 64 * MIB, crash) == ("", False)


class Refused(Exception):
    """Words of a binding."""


class OutOfMemoryError(MemoryError):
    """As cupy has it."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class ArrayMemoryError(MemoryError):
    """As NumPy has it."""


ArrayMemoryError.__module__ = "numpy._core._exceptions"


class XlaRuntimeError(RuntimeError):
    """As JAX has it."""


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        try:
            raise cause or KeyError("before")
        except BaseException:
            raise error from None
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "is_shortage"),
    [
        (MemoryError(), True),
        (raised(ValueError("no"), MemoryError()), True),
        (raised(ValueError("no"), OSError(errno.ENOMEM, "Cannot allocate memory")), True),
        (ExceptionGroup("several", [KeyError("a"), MemoryError()]), True),
        (Refused("std::bad_alloc"), True),
        (Refused("cannot allocate vector of size 762.9 Mb"), True),
        (RuntimeError("can't start new thread"), True),
        (raised(ValueError("no")), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), False),
        (RuntimeError("CUDA out of memory"), False),
        (OutOfMemoryError("Out of memory allocating 8,000,000,000 bytes"), False),
        (MemoryError("std::bad_alloc: CUDA error at: cuda_memory_resource.hpp"), False),  # RAPIDS
        (ArrayMemoryError("Unable to allocate 1.49 GiB for an array"), True),
        (XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99999 bytes."), False),
        (SystemError("error return without exception set"), False),  # far from the limit
        (XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99999 bytes."), True),
        (ValueError("failed to allocate memory T cells: 3 of 5"), False),
        (subprocess.CalledProcessError(1, ["solve", "--on", "MemoryError"]), False),
        (subprocess.CalledProcessError(1, ["solve"], stderr=b"std::bad_alloc\n"), True),
    ],
    ids=lambda value: None if isinstance(value, bool) else type(value).__name__,
)
def test_which_exceptions_are_for_want_of_memory(error, is_shortage):
    failed = messages.Answer("failed", {}, type(error).__name__, "traceback\n", 1.0, 5, "model")
    judged = shortage.judge_exception(failed, error, 64 * MIB)
    assert (judged.reason == "TaskOOM") == is_shortage
    assert shortage.judge_exception(failed, error, 0).status == "failed"
    if is_shortage:
        assert judged.error.startswith("traceback\nTaskOOM: ") and judged.seconds == 1.0


@pytest.mark.parametrize(
    ("params", "is_vague", "end"),
    [
        ({"type": "Error", "words": "Out of memory"}, True, ("failed", "Error", "model")),
        (
            {"type": "SolverError", "words": "memory exhausted"},
            True,
            ("failed", "SolverError", "model"),
        ),
        ({"crash": True, "words": "cache: out of memory"}, True, ("died", "killed by signal 11", "")),
        ({"type": "Error", "words": "cannot allocate vector of size 7 Gb"}, False, ("died", "TaskOOM", "")),
    ],
    ids=["exception", "other_words", "crash", "names_bytes"],
)
def test_vague_words_of_a_task_far_below_its_limit_are_believed_once(run, params, is_vague, end):
    outcome = run("says", limit_bytes=400 * MIB, **params)
    assert (outcome.status, outcome.reason) == ("died", "TaskOOM"), outcome
    assert ("; only its words tell (" in outcome.error) == is_vague
    alone = shortage.retract(outcome)
    assert (alone.status, alone.reason, alone.failure) == end
    if is_vague:
        assert "TaskOOM" not in alone.error and alone.error.rstrip()
    near = outcome._replace(peak_bytes=300 * MIB)
    assert shortage.retract(near) == near


@pytest.mark.parametrize("does", ["in_another_exception", "private_map", "null_pointer"])
def test_one_giant_refused_allocation_is_not_taken_back(run, does):
    outcome = run(does, limit_bytes=400 * MIB, mib=800)
    assert outcome.peak_bytes < 0.5 * outcome.limit_bytes, "it held little"
    assert shortage.retract(outcome) == outcome


def test_vague_words_of_a_task_that_ran_alone_are_taken_back(folder, own_pod):  # noqa: ARG001, F811
    chosen = settings(folder, executor_type="isolated_warm", executor_environment="image")
    source = write_bundle(folder / "native", {"wire.py": MODEL})
    asked = task(source, chosen, does="says", type="Error", words="Out of memory")._replace(
        limit_bytes=400 * MIB
    )
    plain = executors.create(chosen)
    with LimitedExecutor(plain, MemoryOfRunners(900 * MIB), 400 * MIB, worker_bytes=0) as executor:
        assert executor.run(asked).reason == "TaskOOM"
        assert executor.run(asked._replace(alone=True)).reason == "Error"


def test_an_error_that_a_model_returns_in_the_way_of_modelops(folder):
    source = write_bundle(
        folder / "returns",
        {
            "wire.py": "import json\n\ndef wire(entrypoint, params, seed):\n"
            "    return {'error': json.dumps({'error': params['says'], 'type': params['type']})}\n"
        },
    )
    chosen = settings(folder, executor_type="isolated_warm", executor_environment="image")
    with executors.create(chosen) as executor:

        def run(**params) -> executors.Outcome:
            return executor.run(task(source, chosen, **params)._replace(limit_bytes=LIMIT))

        refused = run(type="MemoryError", says="no 800 MiB")
        assert (refused.status, refused.reason) == ("died", "TaskOOM")
        assert refused.error.endswith("TaskOOM: MemoryError: no 800 MiB; the task's limit is 200 MiB\n")
        assert run(type="ValueError", says="no such district").reason == "ValueError"


SCRIPT = """
import sys
from pathlib import Path
from executor_helpers import settings, task
from modelops_dask import executors
folder = Path(sys.argv[1])
chosen = settings(folder, executor_type=sys.argv[2], executor_environment="image")
with executors.create(chosen) as executor:
    asked = task(folder / "native", chosen, does="many_threads")
    outcome = executor.run(asked._replace(limit_bytes=2000 << 20))
print(outcome.status, outcome.reason, outcome.failure)
print(outcome.error)
"""


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
def test_where_threads_meet_pids_max_that_is_named(folder, kind):
    """The limit of memory has room for 250 stacks, a cgroup for 60 threads."""
    write_bundle(folder / "native", {"wire.py": MODEL})
    with cgroup_of_processes(60) as join:
        ended = subprocess.run(
            [*join, sys.executable, "-c", SCRIPT, folder, kind],
            env=environ(folder) | {"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert ended.stdout.startswith("failed RuntimeError transient\n"), ended.stdout + ended.stderr
    assert (
        "RuntimeError: can't start new thread\na thread could not be started: pids.max of /" in ended.stdout
    )
    assert "allows 60 processes and threads, of which" in ended.stdout


def test_a_task_that_crashed_under_a_limit_runs_alone_next_until_that_has_not_helped(tmp_path):
    """A crash may not tell whether an allocation was refused, so it is tried with all memory."""
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path, sets=f"[{', '.join(f'{{a: {i}}}' for i in range(20))}]", replicates=1)
    ledger = Ledger(plan, fold(files, plan), MAX_ATTEMPTS)

    def crash(index: int, status: str = "died", reason: str = "killed by signal 11") -> bool:
        ledger.record_failure(Failed(index, status, reason, limit_bytes=LIMIT))
        return bool(ledger.find_too_large(((index, index + 1),)))

    assert not crash(0, reason="killed by signal 9") and not crash(1, reason="exited with status 1")
    for index in range(2, 2 + CONFIRMED):
        assert crash(index)
        crash(index, "poisoned")
    assert not crash(10)
    assert crash(11, reason="TaskOOM")


SHAPE = "workers.replicas=1,workers.processes=1,workers.threads=2,workers.memoryPerProcess=480Mi"


def test_a_study_tries_such_tasks_again_with_more(tmp_path):
    """A share is 160 MiB, and 300 for a task by itself. The last set needs more than that."""
    sets = [
        {"does": "nothing"},
        {"does": "null_pointer", "mib": 200},
        {"does": "in_another_exception"},
        {"does": "ends", "mib": 250, "touches": True, "signal": 6},
    ]
    study = {"name": "native", "entrypoint": "native.wire/any", "replicates": 1}
    study["bundle"] = str(write_bundle(tmp_path / "model", {"wire.py": MODEL}))
    study["sets"] = [{"params": params} for params in sets]
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    values = f"{SHAPE},executor.workerMemory=160Mi,executor.environment=image"
    with cgroup_of_memory(512 * MIB) as join:
        ran = subprocess.run(
            [*join, *COMMAND, "study", "run", "study.yaml", "--check", "0", "--set", values],
            cwd=tmp_path,
            env=environ(tmp_path),
            capture_output=True,
            text=True,
            timeout=200,
        )
    columns = ["set", "status", "reason", "limit_bytes"]
    rows = [
        row
        for part in (tmp_path / "out" / "native" / "parts").glob("*.parquet")
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    ends = [
        sorted((row["status"], row["reason"]) for row in rows if row["set"] == number) for number in range(4)
    ]
    assert ends[0] == [("ok", "")], ran.stderr
    assert ends[1] == [("died", "killed by signal 11"), ("ok", "")], "it asked for more than a share"
    assert ends[2] == [("died", "TaskOOM"), ("poisoned", "TaskOOM")]
    assert ends[3] == [("died", "TaskOOM"), ("poisoned", "killed by signal 6")], "with room it crashes too"
    first, second = sorted(row["limit_bytes"] for row in rows if row["set"] == 2)
    assert first < second, "the second time it had more"
    assert "TaskOOM: an allocation failed; the task's limit is" in ran.stdout, ran.stdout
    assert ran.returncode == 3, ran.stderr
