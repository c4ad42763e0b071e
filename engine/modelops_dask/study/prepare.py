"""Build the model's environment before the first task needs it.

    RunContext -> one worker: bundle, list of packages, environment
           -> its progress, by events of Dask -> the driver's `stage`
           -> errors of the build are reported immediately, not as a failed batch
           -> Prepared: the Condition under which this run makes its results, and messages

Workers that share a cache with that one find it there; others build their own, from the same list, with their
first batch.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask.environments import uv, venv
from modelops_dask.errors import MopsError
from modelops_dask.executors import native_threads
from modelops_dask.store.conditions import Condition
from modelops_dask.study import jax_keys, packages
from modelops_dask.study.batch import RunContext, is_reseeding, share, study_bundle
from modelops_dask.workers.remote import SchedulerLost, asking

if TYPE_CHECKING:
    from distributed import Client

    from modelops_dask.study.events import Event

POLL_SECONDS = 0.05
NO_TIME_LIMIT = (
    "The time limit of the study file (timeout) is not enforced: executor direct runs tasks in its own "
    "process and cannot end them. Every other executor can"
)
LOOK_SECONDS = 1.0  # between checks for a remaining worker
TOPIC = "modelops-environment"  # of Dask's events: progress of a worker's build


@dataclass(frozen=True)
class Prepared:
    """A report of a worker with the environment. condition is None if each process has its own.

    built describes the build; "" if the environment existed.
    """

    condition: Condition | None
    notes: tuple[str, ...] = ()
    built: str = ""


def prepare(
    client: "Client",
    context: RunContext,
    inbox: "SimpleQueue[Event]",
    on_stage: Callable[[str], object] = lambda _: None,
) -> Prepared | None:
    """Wait until a worker has the environment, or until an event that dispatch should handle first.

    on_stage is called every second with the worker's progress. Returns None if no worker has reported.

    Raises errors that make the bundle useless to every worker: BadInput, BuildFailed. Others are left for
    dispatch, which handles dying workers.
    """
    if not _has_workers(client):
        return None
    with _stages(client) as (run, stages):
        future, checked_at = client.submit(build, context, run, pure=False), time.monotonic()
        while not future.done():
            try:
                inbox.put(inbox.get(timeout=POLL_SECONDS))
                return None
            except Empty:
                pass
            if time.monotonic() - checked_at > LOOK_SECONDS:
                if not _has_workers(client):  # the last one died: Dask would wait forever
                    return None
                checked_at = time.monotonic()
                if stages:
                    on_stage(stages[-1])
    error = future.exception() if future.status == "error" else None
    if isinstance(error, MopsError):
        raise error
    return future.result() if future.status == "finished" else None


def _has_workers(client: "Client") -> bool:
    try:
        with asking(client):
            return bool(client.nthreads())
    except SchedulerLost:
        return False


@contextmanager
def _stages(client: "Client") -> Iterator[tuple[str, list[str]]]:
    """An id for a worker's stages, and the list that collects them for the duration of the `with`."""
    run, stages = uuid.uuid4().hex, list[str]()

    def add(event: tuple[float, dict[str, str]]) -> None:
        message = event[1]
        if message["run"] == run:  # others build on the same scheduler
            stages.append(message["stage"])

    with asking(client):
        client.subscribe_topic(TOPIC, add)
    try:
        yield run, stages
    finally:
        with suppress(SchedulerLost), asking(client):
            client.unsubscribe_topic(TOPIC)


def build(context: RunContext, run: str) -> Prepared:
    """On a worker: prepare the bundle, its packages and, if its executor uses a shared one, its environment.

    Progress is sent as events with the id `run`.
    """
    from distributed import get_worker

    worker = get_worker()

    def send(stage: str) -> None:
        worker.log_event(TOPIC, {"run": run, "stage": stage})

    with uv.listening(send):
        return _build(context)


def _build(context: RunContext) -> Prepared:
    from modelops_dask.workers.runtime import current_runtime

    runtime = current_runtime()
    settings = runtime.settings
    bundle = study_bundle(context, settings)
    notes, reseeds = packages.notes(bundle, settings), is_reseeding(bundle, runtime)
    if keys := jax_keys.describe_keys(bundle):
        notes = (*notes, keys)
    if settings.executor_type == "direct":
        if context.request.timeout_seconds:
            notes = (*notes, NO_TIME_LIMIT)
        return Prepared(Condition(native_threads(), venv.digest_of_process(), reseeds), notes)
    if settings.force_fresh_venv:
        return Prepared(None, notes)
    _, n_threads, _ = share(context.request, runtime)
    environment = venv.environment(bundle, settings)
    condition = Condition(n_threads or native_threads(1), environment.digest, reseeds)
    return Prepared(condition, notes, environment.built)
