"""A task alone: in a new process of a worker, which runs no other, to compare with a row of the store.

LoneRequest -> on a worker: run_lone() -> Executor.run_alone() -> LoneResult: digests, not the outputs

Memory limits, packages and native threads are those of the worker's other tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelops_dask.executors import Task
from modelops_dask.limits import worker_memory
from modelops_dask.store import parts
from modelops_dask.study.batch import RunContext, is_reseeding, share, study_bundle
from modelops_dask.workers.processor import processor_kind


@dataclass(frozen=True)
class LoneRequest:
    """A task to be run alone. needed_bytes: its expected need; limit_bytes: its earlier limit."""

    context: RunContext
    entrypoint: str
    params: dict[str, Any]
    seed: int
    needed_bytes: int
    limit_bytes: int


@dataclass(frozen=True)
class LoneResult:
    """How a task ended alone. `digests` are those of the outputs by name, `digest` that of all."""

    status: str
    reason: str
    digest: bytes
    digests: Mapping[str, bytes]
    threads: int
    environment: str


@dataclass(frozen=True)
class WorkerFacts:
    """Facts about a worker: seconds of a start (0: not known), and its kind of processor."""

    start_seconds: float
    processor: str


def report_facts(context: RunContext) -> WorkerFacts:
    """How long a start of the model takes on this worker, and its kind of processor."""
    from modelops_dask.workers.runtime import current_runtime

    runtime = current_runtime()
    assert runtime.executor is not None, "workers of type none are refused before a study begins"
    bundle = study_bundle(context, runtime.settings)
    return WorkerFacts(runtime.executor.start_seconds(bundle), processor_kind())


def run_lone(request: LoneRequest) -> LoneResult:
    """Run a task alone in a new process of this worker, with the limits of its other tasks."""
    from modelops_dask.workers.runtime import current_runtime

    runtime, context = current_runtime(), request.context
    assert runtime.executor is not None, "workers of type none are refused before a study begins"
    _, n_threads, limit_bytes = share(context.request, runtime)
    bundle = study_bundle(context, runtime.settings)
    outcome = runtime.executor.run_alone(
        Task(
            bundle=replace(bundle, reseeds=is_reseeding(bundle, runtime)),
            entrypoint=request.entrypoint,
            params=request.params,
            seed=request.seed,
            limit_bytes=max(limit_bytes, request.limit_bytes) if limit_bytes else 0,
            threads=n_threads,
            needed_bytes=request.needed_bytes,
            timeout_seconds=context.request.timeout_seconds,
        )
    )
    result = LoneResult(
        status=outcome.status,
        reason=outcome.reason,
        digest=parts.outputs_digest(outcome.outputs),
        digests={name: parts.outputs_digest({name: data}) for name, data in outcome.outputs.items()},
        threads=outcome.threads,
        environment=outcome.environment,
    )
    del outcome
    worker_memory.release()
    return result
