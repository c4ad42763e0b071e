"""Whether a release matches its values: `helm test` runs `python -m modelops_dask.check ADDRESS EXPECTED`.

    EXPECTED (JSON) -> enough workers -> a task in each process -> settings, shape, result -> problems

EXPECTED is computed by the chart: executor, preset, and each pool's processes, threads, memory_limit_bytes.
There may be more processes, because autoscalers add some. The task is like a study's: a wire function of a
bundle, called by the process's executor; one more Dask task adds up all results. Ends with status 5 and every
problem if something differs.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import ClusterFailed, MopsError

if TYPE_CHECKING:
    from distributed import Client

    from modelops_dask.executors import Executor
    from modelops_dask.settings import Settings

CONNECT_SECONDS = 60
WORKERS_SECONDS = 180  # until all have joined
ANSWER_SECONDS = 180  # for imports, an environment, other users' tasks

WIRE = """
def wire(entrypoint, params, seed):
    return {"answer": str(params["base"] ** 2 + seed).encode()}
"""
BASE, SEED = 111, 21
ANSWER = BASE**2 + SEED


@dataclass(frozen=True)
class ProcessShape:
    """The properties that processes of a pool share."""

    threads: int
    memory_limit_bytes: int

    def __str__(self) -> str:
        return f"{self.threads} threads and a limit of {self.memory_limit_bytes:,} bytes"


@dataclass(frozen=True)
class ProcessReport:
    """A report of a worker process. `answer` is its executor's result of the task, or the problem."""

    executor: str
    preset: str
    shape: ProcessShape
    answer: str
    shortage: str = ""  # of processes and threads, in its pod


def check(client: "Client", expected: dict[str, Any]) -> list[str]:
    """Return a line for everything that differs from the expectation.

    Raises ClusterFailed if workers are missing or do not answer.
    """
    expected_shapes: Counter[ProcessShape] = Counter()
    for pool in expected["pools"].values():
        expected_shapes[ProcessShape(pool["threads"], pool["memory_limit_bytes"])] += pool["processes"]
    try:
        client.wait_for_workers(expected_shapes.total(), timeout=WORKERS_SECONDS)
    except TimeoutError:
        raise ClusterFailed(
            f"{len(client.nthreads())} of {expected_shapes.total()} worker processes connected within "
            f"{WORKERS_SECONDS} s; see `kubectl get pods` and the pods' events"
        ) from None
    futures = {
        worker: client.submit(probe, workers=[worker], allow_other_workers=False, pure=False, priority=10)
        for worker in client.nthreads()
    }
    total = client.submit(sum_answers, list(futures.values()), pure=False, priority=10)
    try:
        answer = total.result(timeout=ANSWER_SECONDS)
    except TimeoutError:
        silent = [worker for worker, future in futures.items() if not future.done()]
        raise ClusterFailed(
            f"No answer within {ANSWER_SECONDS} s from {', '.join(silent) or 'the last task'}"
        ) from None
    reports = dict(zip(futures, client.gather(list(futures.values())), strict=True))
    problems = [
        f"{worker}: {line}" for worker, report in reports.items() for line in differences(report, expected)
    ]
    problems += sorted({report.shortage for report in reports.values() if report.shortage})
    present = Counter(report.shape for report in reports.values())
    for shape, count in expected_shapes.items():
        if present[shape] < count:
            problems.append(f"{present[shape]} of {count} processes have {shape}")
    others = present.keys() - expected_shapes.keys()
    problems += [
        f"{present[shape]} processes have {shape}, which does not match any pool" for shape in others
    ]
    if not problems and answer != ANSWER * len(reports):
        problems.append(f"the sum of all results is {answer}, expected {ANSWER * len(reports)}")
    return problems


def differences(report: ProcessReport, expected: dict[str, Any]) -> list[str]:
    """Return the problems of one process, apart from its shape."""
    pairs = [
        ("executor", report.executor, expected["executor"]),
        ("preset", report.preset, expected["preset"]),
        ("result of a task", report.answer, str(ANSWER)),
    ]
    return [
        f"{name} is {actual!r}, expected {expected_value!r}"
        for name, actual, expected_value in pairs
        if actual != expected_value
    ]


def probe() -> ProcessReport:
    """On a worker: report on it, with the result of a task that its executor runs."""
    from distributed import get_worker

    from modelops_dask.workers import process_room
    from modelops_dask.workers.runtime import runtime_of

    worker = get_worker()
    shape = ProcessShape(worker.state.nthreads, int(worker.memory_manager.memory_limit or 0))
    runtime = runtime_of(worker)
    if runtime is None or runtime.executor is None:
        return ProcessReport("none", "", shape, "no executor: the preload modelops_dask.worker is missing")
    try:
        answer = _compute(runtime.settings, runtime.executor)
    except MopsError as error:
        answer = str(error)
    shortage = process_room.check_pod(runtime.threads, runtime.settings)
    return ProcessReport(runtime.settings.executor_type, runtime.settings.preset, shape, answer, shortage)


def _compute(settings: "Settings", executor: "Executor") -> str:
    from modelops_dask.bundle import fetch
    from modelops_dask.executors import Task

    with TemporaryDirectory() as folder:
        (Path(folder) / "wire.py").write_text(WIRE)
        bundle = fetch(folder, settings.bundles_cache_dir)
    outcome = executor.run(Task(bundle, "check/any", {"base": BASE}, SEED))
    if outcome.status != "ok":
        return f"{outcome.status}: {outcome.reason}\n{outcome.error}"
    return outcome.outputs["answer"].decode()


def sum_answers(reports: list[ProcessReport]) -> int:
    """On a worker: the sum of all answers, which come from the others."""
    return sum(int(report.answer) for report in reports if report.answer.isdigit())


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
        print(f"OK: {count} worker processes computed with executor {executor}, as the values state")
        return 0
