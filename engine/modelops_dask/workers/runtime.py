"""Turn a Dask worker into a ModelOps worker: `dask worker … --preload modelops_dask.worker`.

    MODELOPS_ variables -> Settings -> executor -> worker.modelops, which batches use
                                                -> a line of the log, runtime(), /metrics

A worker with unusable settings ends instead of joining, because it would fail every task. Tasks are run in
batch.py.
"""

import logging
import os
import platform
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
import pyarrow.parquet  # noqa: F401 (batches need it: now, or the first would wait for the import)
from distributed.comm.utils import get_tcp_server_addresses
from distributed.utils import clean_dashboard_address, sync

import modelops_dask
from modelops_dask import executors, metrics
from modelops_dask.errors import MopsError
from modelops_dask.limits import worker_memory
from modelops_dask.settings import Settings
from modelops_dask.shape import runner_limit, runners
from modelops_dask.workers import process_room

logger = logging.getLogger("distributed.modelops")  # below `distributed`, whose messages Dask shows

ATTRIBUTE = "modelops"  # attribute of a Dask worker with its Runtime, also for models and clients
MAX_PROCESSES = 64  # worker processes of a pod that get a port for /metrics
# for the scheduler to receive the reason why this process ends; a busy machine takes a second
NEWS_SECONDS = 5.0


@dataclass(frozen=True)
class Runtime:
    """What a worker process uses to run tasks. Memory in bytes, 0 for no limit; executor None for type
    `none`.

    runner_limit_bytes is the share of one runner; for `direct` it is the process's own limit.
    """

    settings: Settings
    executor: executors.Executor | None
    threads: int = 1
    memory_limit_bytes: int = 0
    runner_limit_bytes: int = 0


def runtime_of(worker: distributed.Worker) -> Runtime | None:
    """Return a Dask worker's Runtime from the preload; None for one that was started without it."""
    runtime: Runtime | None = getattr(worker, ATTRIBUTE, None)
    return runtime


def current_runtime() -> Runtime:
    """Return the Runtime of the worker that runs the calling task. Raises LookupError without the preload."""
    runtime = runtime_of(distributed.get_worker())
    if runtime is None:
        raise LookupError("this Dask worker was started without the preload modelops_dask.worker")
    return runtime


def dask_setup(worker: distributed.Worker) -> None:
    """Give the worker its Runtime, log it in one line and show it at /metrics."""
    try:
        runtime = create_runtime(
            worker.state.nthreads,
            worker.memory_manager.memory_limit or 0,
            partial(restart, worker) if worker.nanny else None,
        )
    except MopsError as error:
        # Dask logs an exception of a preload and continues; only SystemExit ends the worker.
        logger.error("ModelOps cannot start: %s", error)
        raise SystemExit(error.exit_code) from None
    setattr(worker, ATTRIBUTE, runtime)
    logger.info("%s", describe(runtime))
    if shortage := process_room.check_pod(runtime.threads, runtime.settings):
        logger.warning("%s", shortage)
    if runtime.executor is not None:
        # A batch is pinned to its worker: a worker that Dask pauses without ending it would hold it forever.
        worker.memory_manager.memory_pause_fraction = False
        metrics.serve(facts(runtime), runtime.executor.pool)
    _listen(worker)


def dask_teardown(worker: distributed.Worker) -> None:
    """End the executor's processes with the worker."""
    runtime = runtime_of(worker)
    if runtime is not None and runtime.executor is not None:
        runtime.executor.__exit__(None, None, None)


def restart(worker: distributed.Worker, held_bytes: int, blameless: bool) -> None:
    """End this process immediately, from its own thread: its nanny starts another, and runners end with it.

    Listeners of the scheduler are first notified that memory was the reason. `blameless`: the memory was held
    before the running tasks started.
    """

    async def tell() -> None:
        news = {
            "action": worker_memory.ACTION,
            "worker": worker.address,
            "held": held_bytes,
            "blameless": blameless,
        }
        await worker.scheduler.log_event(topic="all", msg=news)

    with suppress(Exception):  # a scheduler that does not answer still notices the death
        sync(worker.loop, tell, callback_timeout=NEWS_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def create_runtime(
    threads: int, memory_limit_bytes: int, restart: Callable[[int, bool], object] | None = None
) -> Runtime:
    """Create a Runtime from the MODELOPS_ variables; restart as in executors.create. Raises BadInput."""
    settings = Settings.from_env()
    if settings.executor_type == "none":
        return Runtime(settings, None, threads, memory_limit_bytes, memory_limit_bytes)
    runner_limit_bytes = memory_limit_bytes
    count = threads if settings.executor_type == "direct" else runners(threads, settings.subprocess_pool_size)
    worker_memory.plan_outputs(memory_limit_bytes, count)
    if memory_limit_bytes and settings.executor_type != "direct":
        runner_limit_bytes = max(0, runner_limit(memory_limit_bytes, settings.worker_memory_bytes, count))
    executor = executors.create(
        settings, memory_limit_bytes, threads, runner_limit_bytes=runner_limit_bytes, restart=restart
    )
    return Runtime(settings, executor, threads, memory_limit_bytes, runner_limit_bytes)


def runtime(dask_worker: distributed.Worker) -> dict[str, Any]:
    """The settings in effect in a worker process, as plain data: `client.run(modelops_dask.worker.runtime)`.

    They are the facts of its log line, its process number, the ports of its HTTP server, its runners by
    state. Without the preload `executor` is empty and only versions are given.
    """
    current = runtime_of(dask_worker)
    if current is None:
        return {"executor": "", **versions()}
    ports = sorted({address[1] for address in get_tcp_server_addresses(dask_worker.http_server)})
    pool = current.executor.pool() if current.executor else {}
    return {**facts(current), "pid": os.getpid(), "http_ports": ports, "pool": pool}


def facts(runtime: Runtime) -> dict[str, Any]:
    """The facts in effect: applied settings, limits in bytes, versions."""
    settings: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(runtime.settings).items()
    }
    limit = runtime.executor.limit if runtime.executor else None
    return {
        "preset": settings.pop("preset"),
        "executor": settings.pop("executor_type"),
        "environment": settings.pop("executor_environment"),
        "threads": runtime.threads,
        "runners": runners(runtime.threads, settings.pop("subprocess_pool_size")),
        **settings,
        "max_warm_processes": settings["max_warm_processes"] if limit is None else limit,
        "memory_limit_bytes": runtime.memory_limit_bytes,
        "child_limit_bytes": runtime.runner_limit_bytes,
        **versions(),
    }


def describe(runtime: Runtime) -> str:
    """One line with the facts: NAME=VALUE pairs."""
    pairs = (f"{name}={_word(value)}" for name, value in facts(runtime).items())
    return "ModelOps runtime " + " ".join(pairs)


def versions() -> dict[str, str]:
    """Versions of this package, Dask and Python in this process."""
    return {
        "modelops_dask": modelops_dask.__version__,
        "dask": vars(dask)["__version__"],  # Dask's types do not export them
        "distributed": vars(distributed)["__version__"],
        "python": platform.python_version(),
    }


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "-"


def _listen(worker: distributed.Worker) -> None:
    """Listen at the next free port if another process of the pod has the requested one.

    Dask has then chosen a random one, at which no one would look for /metrics.
    """
    first_port = clean_dashboard_address(worker._dashboard_address or 0)[0]["port"] or 0
    address, port = get_tcp_server_addresses(worker.http_server)[0][:2]
    if first_port in (0, port):
        return
    for port in range(first_port + 1, first_port + MAX_PROCESSES):
        with suppress(OSError):  # also taken
            worker.http_server.listen(port, address)
            logger.info("HTTP also on port %d", port)
            return
