"""What turns a Dask worker into a ModelOps worker: `dask worker … --preload modelops_dask.worker`.

    MODELOPS_ variables -> Settings -> executor -> worker.modelops, which batches use

A worker whose settings cannot be used ends instead of joining: it would fail every task. Does not run tasks:
batch.py does.
"""

import logging
import platform
from dataclasses import dataclass

import dask
import distributed
import pyarrow.parquet  # noqa: F401 (batches need it: now, or the first would wait for the import)

import modelops_dask
from modelops_dask import executors
from modelops_dask.errors import MopsError
from modelops_dask.settings import Settings
from modelops_dask.shape import child_limit, runners

logger = logging.getLogger("distributed.modelops")  # below `distributed`, whose messages Dask shows


@dataclass(frozen=True)
class Runtime:
    """What a worker process runs tasks with. Memory in bytes, 0 for no limit; executor None for type `none`.

    child_limit_bytes is the share of one runner; for `direct` it is the process's own limit.
    """

    settings: Settings
    executor: executors.Executor | None
    threads: int = 1
    memory_limit_bytes: int = 0
    child_limit_bytes: int = 0


def dask_setup(worker: distributed.Worker) -> None:
    """Give the worker its Runtime and log it in one line."""
    try:
        worker.modelops = create_runtime(worker.state.nthreads, worker.memory_manager.memory_limit or 0)
    except MopsError as error:
        # Dask logs an exception of a preload and goes on; only SystemExit ends the worker.
        logger.error("ModelOps cannot start: %s", error)
        raise SystemExit(error.exit_code) from None
    logger.info("%s", describe(worker.modelops))


def dask_teardown(worker: distributed.Worker) -> None:
    """End the executor's processes with the worker."""
    runtime = getattr(worker, "modelops", None)
    if runtime is not None and runtime.executor is not None:
        runtime.executor.__exit__(None, None, None)


def create_runtime(threads: int, memory_limit_bytes: int) -> Runtime:
    """A Runtime from the MODELOPS_ variables. Raises BadInput."""
    settings = Settings.from_env()
    if settings.executor_type == "none":
        return Runtime(settings, None, threads, memory_limit_bytes, memory_limit_bytes)
    share_bytes = memory_limit_bytes
    if memory_limit_bytes and settings.executor_type != "direct":
        count = runners(threads, settings.subprocess_pool_size)
        share_bytes = max(0, child_limit(memory_limit_bytes, settings.worker_memory_bytes, count))
    executor = executors.create(settings, memory_limit_bytes, threads)
    return Runtime(settings, executor, threads, memory_limit_bytes, share_bytes)


def describe(runtime: Runtime) -> str:
    """One line with what is in effect; NAME=VALUE pairs, memory in bytes."""
    settings = runtime.settings
    facts = {
        "preset": settings.preset or "-",
        "executor": settings.executor_type,
        "environment": settings.executor_environment,
        "threads": runtime.threads,
        "runners": runners(runtime.threads, settings.subprocess_pool_size),
        "max_warm_processes": settings.max_warm_processes,
        "max_process_reuse": settings.max_process_reuse,
        "process_ttl_seconds": settings.process_ttl_seconds,
        "force_fresh_venv": str(settings.force_fresh_venv).lower(),
        "validate_deps": str(settings.validate_deps).lower(),
        "task_timeout_seconds": settings.task_timeout_seconds,
        "memory_limit_bytes": runtime.memory_limit_bytes,
        "child_limit_bytes": runtime.child_limit_bytes,
        "modelops_dask": modelops_dask.__version__,
        "dask": dask.__version__,
        "distributed": distributed.__version__,
        "python": platform.python_version(),
    }
    return "ModelOps runtime " + " ".join(f"{name}={value}" for name, value in facts.items())
