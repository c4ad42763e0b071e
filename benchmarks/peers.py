"""What others make of the same tasks, each used as its own documentation has it, on 2 processes.

    Job -> client.map | submit and as_completed | Ray | ProcessPoolExecutor, task by task and in chunks
        -> results in this process, or, when the job has a folder, each stored durably first

Durable is what the disk was told to keep (fsync) before the result counts, done in the way that comes first
to mind: where the task runs, a file for each (client.map, Ray); where results arrive, a line for each in one
file (both as_completed); where a chunk runs, a Parquet file for it. None of these tells a torn file from a
whole one, goes on where it stopped, or survives a worker that dies.

Does not measure: study_rate.py does. The processes of all sides import this module.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from busy.wire import wire

from modelops_dask.shape import Shape
from modelops_dask.workers.dask_logs import ABOUT_CONNECTIONS, quieter
from modelops_dask.workers.local import environment

if TYPE_CHECKING:
    from distributed import Client

PROCESSES = 2
SHAPE = Shape(1, PROCESSES, 1, 2 * 1024**3)
CHUNKS_A_PROCESS = 4  # as multiprocessing.Pool cuts what map is given


@dataclass(frozen=True)
class Job:
    """So many tasks of so many milliseconds; a new, empty folder for results, or None not to store them."""

    milliseconds: float
    count: int
    folder: Path | None = None


Run = Callable[[Job], None]


@contextmanager
def client_map() -> Iterator[Run]:
    """Dask's client.map and gather."""
    with _dask() as client:

        def run(job: Job) -> None:
            call = partial(task, job.milliseconds) if job.folder is None else partial(_to_file, job)
            _check(job, client.gather(client.map(call, range(job.count), pure=False)))

        yield run


@contextmanager
def dask_as_completed() -> Iterator[Run]:
    """Dask's client.submit for each task, and as_completed."""
    from distributed import as_completed

    with _dask() as client:

        def run(job: Job) -> None:
            call = partial(task, job.milliseconds)
            waiting = [client.submit(call, number, pure=False) for number in range(job.count)]
            _receive(
                job, (result for _, result in as_completed(waiting, loop=client.loop, with_results=True))
            )

        yield run


@contextmanager
def ray_tasks() -> Iterator[Run]:
    """A Ray task for each task, and one ray.get."""
    variables = {
        "PYTHONPATH": str(Path(__file__).parent),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on loopback, as it is by default on those
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with environment(variables):
        import ray

        ray.init(
            num_cpus=PROCESSES,
            include_dashboard=False,
            object_store_memory=256 * 1024**2,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:

        def run(job: Job) -> None:
            call, first = (task, job.milliseconds) if job.folder is None else (_to_file, job)
            remote = ray.remote(call)
            _check(job, ray.get([remote.remote(first, number) for number in range(job.count)]))

        yield run
    finally:
        ray.shutdown()


@contextmanager
def pool_submit() -> Iterator[Run]:
    """concurrent.futures: ProcessPoolExecutor.submit for each task, and as_completed."""
    with futures.ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:

        def run(job: Job) -> None:
            call = partial(task, job.milliseconds)
            waiting = [pool.submit(call, number) for number in range(job.count)]
            _receive(job, (future.result() for future in futures.as_completed(waiting)))

        yield run


@contextmanager
def pool_chunks() -> Iterator[Run]:
    """concurrent.futures: ProcessPoolExecutor.map with chunks; stored, the chunks are cut by hand."""
    with futures.ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:

        def run(job: Job) -> None:
            size = max(1, job.count // (CHUNKS_A_PROCESS * PROCESSES))
            if job.folder is None:
                call = partial(task, job.milliseconds)
                _check(job, list(pool.map(call, range(job.count), chunksize=size)))
            else:
                chunks = [range(job.count)[start : start + size] for start in range(0, job.count, size)]
                _check(job, [None] * sum(pool.map(partial(_to_parquet, job), chunks)))

        yield run


# What runs there


def task(milliseconds: float, number: int) -> dict[str, bytes]:
    """One task: the call of the model that studies make."""
    return wire("busy.wire/any", {"milliseconds": milliseconds}, number)


def _to_file(job: Job, number: int) -> None:
    assert job.folder is not None
    with (job.folder / f"{number}.bin").open("xb") as file:
        file.write(task(job.milliseconds, number)["y"])
        _keep(file)


def _to_parquet(job: Job, numbers: range) -> int:
    assert job.folder is not None
    results = [task(job.milliseconds, number)["y"] for number in numbers]
    with (job.folder / f"{numbers.start}.parquet").open("xb") as file:
        pq.write_table(pa.table({"seed": numbers, "y": results}), file)
        _keep(file)
    return len(results)


# What runs here


def _receive(job: Job, results: Iterable[dict[str, bytes]]) -> None:
    if job.folder is None:
        _check(job, list(results))
        return
    count = 0
    with (job.folder / "results.jsonl").open("x") as file:
        for count, result in enumerate(results, 1):  # noqa: B007 (the last is the count)
            file.write(json.dumps({name: value.hex() for name, value in result.items()}) + "\n")
            _keep(file)
    _check(job, [None] * count)


def _keep(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check(job: Job, results: list) -> None:
    assert len(results) == job.count, (len(results), job)


@contextmanager
def _dask() -> Iterator["Client"]:
    from distributed import Client, LocalCluster

    with (
        quieter(*ABOUT_CONNECTIONS),
        LocalCluster(PROCESSES, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
