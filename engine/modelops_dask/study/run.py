"""Run a study to its end, or go on with it: the whole path, from a spec to tables.

Spec + Bundle -> plan in the store -> what is pending -> dispatch on a Dask client -> tables -> Summary

Running the same study again does only what is left; when nothing is, no cluster is started.

Does not know where the workers are: `connect` gives a client, local.local_cluster or remote.connect.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle
from modelops_dask.store.compact import MixedOutputs, compact
from modelops_dask.store.files import Files
from modelops_dask.store.fold import fold
from modelops_dask.store.study import begin
from modelops_dask.study import dispatch, events
from modelops_dask.study.batch import Source
from modelops_dask.study.dispatch import DEFAULT_LIMITS, Limits
from modelops_dask.study.plan import FAILED, POISONED
from modelops_dask.study.progress import Progress
from modelops_dask.study.spec import Spec
from modelops_dask.study.summary import Summary, summarize

if TYPE_CHECKING:
    from distributed import Client

RETRY_CODES = {"failed": FAILED, "poisoned": POISONED}


@dataclass(frozen=True)
class Watcher:
    """Who hears how a run goes: `phase` a line when something long begins, `progress` after each batch."""

    phase: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None


SILENT = Watcher()


def run(
    spec: Spec,
    bundle: Bundle,
    files: Files,
    connect: Callable[[], AbstractContextManager["Client"]],
    *,
    retry: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
    inbox: "SimpleQueue[events.Event] | None" = None,
    watcher: Watcher = SILENT,
) -> Summary:
    """Run what is pending of a study and compact the results.

    `retry` names states, of failed and poisoned, whose tasks are tried again. `inbox` takes events from
    others, such as Stop. Raises OtherStudy, and what dispatch.run raises.
    """
    plan = begin(files, spec, bundle.digest)
    state = fold(files, plan, limits.max_attempts)
    if retry:
        state = state.retry(*(RETRY_CODES[name] for name in retry))
    ran = None
    if state.counts()["pending"]:
        source = Source(Files(files.where()), plan.request, bundle)  # workers have another current folder
        with connect() as client:
            watcher.phase(f"Running {state.counts()['pending']:,} tasks")
            ran = dispatch.run(client, source, plan, state, limits, inbox, watcher.progress)
        state = fold(files, plan, limits.max_attempts)
    interrupted = ran is not None and ran.done < ran.total
    if interrupted:
        return summarize(files, plan, state, ran=ran, interrupted=True)
    results, problem = (), ""
    if ran is not None:
        watcher.phase("Writing the tables")
    try:
        results = tuple(compact(files, plan, limits.max_attempts))
    except MixedOutputs as error:
        problem = str(error)
    return summarize(files, plan, state, ran=ran, results=results, problem=problem)
