"""Is a release what its values say? `helm test` runs `python -m modelops_dask.check ADDRESS EXPECTED`.

    EXPECTED (JSON) -> enough workers -> a task in each process -> settings, shape, result -> problems

EXPECTED is what the chart computes: executor, preset, and each pool's processes, threads, memory_limit_bytes.
There may be more processes, for autoscalers add some. The task is like a study's: a wire function of a
bundle, called by the process's executor; one more Dask task adds up all results. Ends with status 5 and
every problem when something differs.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import ClusterFailed, MopsError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 60
WORKERS_SECONDS = 180  # until all have joined
ANSWER_SECONDS = 180  # for imports, an environment, other people's tasks

WIRE = """
def wire(entrypoint, params, seed):
    return {"answer": str(params["base"] ** 2 + seed).encode()}
"""
BASE, SEED = 111, 21
ANSWER = BASE**2 + SEED


@dataclass(frozen=True)
class Shape:
    """What makes the processes of a pool alike."""

    threads: int
    memory_limit_bytes: int

    def __str__(self) -> str:
        return f"{self.threads} threads and a limit of {self.memory_limit_bytes:,} bytes"


@dataclass(frozen=True)
class Found:
    """What a worker process is. `answer` is what its executor made of the task, or what went wrong."""

    executor: str
    preset: str
    shape: Shape
    answer: str


def check(client: "Client", expected: dict[str, Any]) -> list[str]:
    """Everything that is not as expected, a line each; [] when all is well.

    Raises ClusterFailed when workers are missing or do not answer.
    """
    wanted: Counter[Shape] = Counter()
    for pool in expected["pools"].values():
        wanted[Shape(pool["threads"], pool["memory_limit_bytes"])] += pool["processes"]
    try:
        client.wait_for_workers(wanted.total(), timeout=WORKERS_SECONDS)
    except TimeoutError:
        raise ClusterFailed(
            f"{len(client.nthreads())} of {wanted.total()} worker processes came within {WORKERS_SECONDS} s; "
            "`kubectl get pods` and their events say why"
        ) from None
    asked = {
        worker: client.submit(look, workers=[worker], allow_other_workers=False, pure=False, priority=10)
        for worker in client.nthreads()
    }
    total = client.submit(add, list(asked.values()), pure=False, priority=10)
    try:
        answer = total.result(timeout=ANSWER_SECONDS)
    except TimeoutError:
        silent = [worker for worker, future in asked.items() if not future.done()]
        raise ClusterFailed(
            f"No answer within {ANSWER_SECONDS} s from {', '.join(silent) or 'the last task'}"
        ) from None
    found = dict(zip(asked, client.gather(list(asked.values())), strict=True))
    problems = [f"{worker}: {line}" for worker, one in found.items() for line in differences(one, expected)]
    present = Counter(one.shape for one in found.values())
    for shape, count in wanted.items():
        if present[shape] < count:
            problems.append(f"{present[shape]} of {count} processes have {shape}")
    others = present.keys() - wanted.keys()
    problems += [f"{present[shape]} processes have {shape}, which is no pool's" for shape in others]
    if not problems and answer != ANSWER * len(found):
        problems.append(f"the sum of all results is {answer}, expected {ANSWER * len(found)}")
    return problems


def differences(found: Found, expected: dict[str, Any]) -> list[str]:
    """What is wrong with one process, but for its shape."""
    pairs = [
        ("executor", found.executor, expected["executor"]),
        ("preset", found.preset, expected["preset"]),
        ("result of a task", found.answer, str(ANSWER)),
    ]
    return [f"{name} is {is_!r}, expected {should!r}" for name, is_, should in pairs if is_ != should]


def look() -> Found:
    """On a worker: what it is, and a task run by its executor."""
    from distributed import get_worker

    worker = get_worker()
    shape = Shape(worker.state.nthreads, int(worker.memory_manager.memory_limit or 0))
    runtime = getattr(worker, "modelops", None)
    if runtime is None or runtime.executor is None:
        return Found("none", "", shape, "no executor: the preload modelops_dask.worker is missing")
    try:
        answer = _compute(runtime)
    except MopsError as error:
        answer = str(error)
    return Found(runtime.settings.executor_type, runtime.settings.preset, shape, answer)


def _compute(runtime: Any) -> str:
    from modelops_dask.bundle import fetch
    from modelops_dask.executors import Task

    with TemporaryDirectory() as folder:
        (Path(folder) / "wire.py").write_text(WIRE)
        bundle = fetch(folder, runtime.settings.bundles_cache_dir)
    outcome = runtime.executor.run(Task(bundle, "check/any", {"base": BASE}, SEED))
    if outcome.status != "ok":
        return f"{outcome.status}: {outcome.reason}\n{outcome.error}"
    return outcome.outputs["answer"].decode()


def add(found: list[Found]) -> int:
    """On a worker: the sum of all answers, which come from the others."""
    return sum(int(one.answer) for one in found if one.answer.isdigit())


def main(address: str, expected: dict[str, Any]) -> int:
    """Print the verdict and return the exit status."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        print(f"FAILED: no scheduler answers at {address}: {error}")
        return ClusterFailed.exit_code
    with client:
        try:
            problems = check(client, expected)
        except ClusterFailed as error:
            problems = [str(error)]
        if problems:
            print("FAILED:", *problems, sep="\n  ")
            return ClusterFailed.exit_code
        executor, count = expected["executor"], len(client.nthreads())
        print(f"OK: {count} worker processes computed with executor {executor}, as the values say")
        return 0


if __name__ == "__main__":
    from modelops_dask import (
        check as by_name,
    )  # workers import what they are sent; they have another __main__

    sys.exit(by_name.main(sys.argv[1], json.loads(sys.argv[2])))
