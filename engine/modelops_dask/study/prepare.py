"""The model's environment, built before the first task asks for it.

Source -> one worker: bundle, environment -> whatever cannot be built is said at once, and not as a batch
                                          -> the Condition under which this run makes its results

Workers that share a cache with that one find it there; others build their own with their first batch.
"""

import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask import venv
from modelops_dask.errors import MopsError
from modelops_dask.executors import native_threads
from modelops_dask.remote import SchedulerLost, asking
from modelops_dask.store.conditions import Condition
from modelops_dask.study.batch import Source, bundle_here, share

if TYPE_CHECKING:
    from distributed import Client

    from modelops_dask.study.events import Event

POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0  # between looks at whether there is still a worker


def prepare(client: "Client", source: Source, inbox: "SimpleQueue[Event]") -> Condition | None:
    """Return when a worker has the environment, or when something happens that dispatch should hear first.

    None when it is not known under which conditions tasks will run.

    Raises what makes the bundle useless to every worker: BadInput, BuildFailed. Anything else is left for
    dispatch, which knows what to do about workers that die.
    """
    if not _has_workers(client):
        return None
    built, looked = client.submit(build, source, pure=False), time.monotonic()
    while not built.done():
        try:
            inbox.put(inbox.get(timeout=POLL_SECONDS))
            return None
        except Empty:
            pass
        if time.monotonic() - looked > LOOK_SECONDS:
            if not _has_workers(client):  # the last one died: Dask would wait for ever
                return None
            looked = time.monotonic()
    error = built.exception() if built.status == "error" else None
    if isinstance(error, MopsError):
        raise error
    return built.result() if built.status == "finished" else None


def _has_workers(client: "Client") -> bool:
    try:
        with asking(client):
            return bool(client.nthreads())
    except SchedulerLost:
        return False


def build(source: Source) -> Condition | None:
    """On a worker: have the bundle and, where its executor uses one that is shared, its environment."""
    from distributed import get_worker

    runtime = get_worker().modelops
    settings = runtime.settings
    bundle = bundle_here(source.bundle, settings.bundles_cache_dir)
    if settings.executor_type == "direct":
        return Condition(native_threads(), venv.here())
    if settings.force_fresh_venv:
        return None
    _, n_threads, _ = share(source.request, runtime)
    return Condition(n_threads or native_threads(1), venv.environment(bundle, settings).digest)
