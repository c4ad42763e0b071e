"""The pod of a study's Job: `python -m modelops_dask.driver --spec FILE --bundle REFERENCE --store URL …`.

    arguments -> spec, bundle (kept in the store), workers -> study.drive -> tables, exit status
    the release's pods (kube/watch.py), signals -> events -> study.drive
    phases, progress, the verdict -> the Job's annotations (kube/annotations.py), the end of the pod, the log

The workers are those of a release (--scheduler), or, for a chunk of the study (--chunk I/N), processes of
this pod. If the scheduler is lost, the driver waits for it, and the study continues from its store; the next
pod continues it if this one ends. Without access to the cluster's API it still runs, but does not report.

Exit status: 0, 2, 3, 4 and 5 as those of mops-helm; 130: it was asked to stop, and has stored running
batches. Pods are not started, scaled or changed here.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle, fetch
from modelops_dask.bundle.pack import pack
from modelops_dask.errors import MopsError
from modelops_dask.kube.reporter import Reporter
from modelops_dask.plan import spec
from modelops_dask.plan.plan import Chunk
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.signals import stop_on_signals
from modelops_dask.store import bundles
from modelops_dask.store.files import Store
from modelops_dask.store.requests import numbers_in_spec
from modelops_dask.store.selection import ALL, BadSelection, parse_selection
from modelops_dask.study import events, packed
from modelops_dask.study.acceptance import apply_digest_rule
from modelops_dask.study.breaker import DRIVER_MEMORY, CannotFit, NoWorkers, OutOfMemory, TablesNeedMemory
from modelops_dask.study.check import N_TASKS
from modelops_dask.study.dispatch import DEFAULT_LIMITS, Limits
from modelops_dask.study.drive import RETRY_CODES, Watcher, drive
from modelops_dask.study.summary import INTERRUPTED, Summary, read_summary
from modelops_dask.workers import memory, remote
from modelops_dask.workers.local import local_cluster

if TYPE_CHECKING:
    from distributed import Client

WAIT_SECONDS = 300.0  # for a scheduler, for a first worker, and for another one when all are lost
LOSSES_IN_A_ROW = 5  # of the scheduler, without a finished task in between
LIMITS = replace(DEFAULT_LIMITS, grace_seconds=30.0, reason_seconds=3.0)


class Interrupted(MopsError):
    """It was asked to stop before anything ran."""

    exit_code = INTERRUPTED

    def __str__(self) -> str:
        return "Stopped before the study started. Submit it again to continue."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study and return the exit status."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("modelops").setLevel(logging.INFO)
    arguments = _arguments(argv)
    inbox: SimpleQueue[events.Event] = SimpleQueue()
    with Reporter(arguments.share, inbox) as reporter:

        def stop() -> None:
            inbox.put(events.StopRequested())
            reporter.stop()

        try:
            with stop_on_signals(stop):
                summary = _run(arguments, inbox, reporter)
        except MopsError as error:
            reporter.report_error(error)
            return error.exit_code
        reporter.report_end(summary)
        return summary.exit_code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m modelops_dask.driver", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="study.yaml or study JSON, also .gz")
    parser.add_argument("--bundle", required=True, help="a folder, an archive, or a reference")
    parser.add_argument("--store", required=True, help="a folder that all pods see, or a URL")
    workers = parser.add_mutually_exclusive_group(required=True)
    workers.add_argument("--scheduler", help="address of the release's Dask scheduler")
    workers.add_argument(
        "--chunk", dest="share", type=_parse_share, metavar="I/N", help="part I, from 0, of N"
    )
    parser.add_argument("--shape", type=_parse_shape, metavar="JSON", help="of a worker pod (shape.Shape)")
    parser.add_argument("--retry", default="", help="states to try again: failed,poisoned")
    parser.add_argument("--check", type=int, default=N_TASKS, help="tasks to check at the end; 0: none")
    parser.add_argument("--redo", default="", help="executor=KIND, SET/REPLICATE,... or all")
    parser.add_argument(
        "--redo-request", default="", metavar="ID", help="of the Job, whose pods begin one redo"
    )
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for scheduler and workers")
    arguments = parser.parse_args(argv)
    arguments.retry = [state for state in arguments.retry.split(",") if state]
    if unknown := set(arguments.retry) - set(RETRY_CODES):
        parser.error(f"--retry: {', '.join(sorted(unknown))}")
    try:
        parse_selection(arguments.redo or ALL)
    except BadSelection as error:
        parser.error(str(error))
    if arguments.share and not arguments.shape:
        parser.error("--chunk needs --shape")
    return arguments


def _parse_share(text: str) -> Chunk:
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return Chunk(index, count)


def _parse_shape(text: str) -> Shape:
    return Shape(**json.loads(text))


def _run(arguments: argparse.Namespace, inbox: "SimpleQueue[events.Event]", reporter: Reporter) -> Summary:
    """Call drive(), again each time the scheduler was lost, and add the cluster's reasons to its errors."""
    study, settings, store = packed.load(arguments.spec), Settings.from_env(), Store(arguments.store)
    bundle = store_bundle(arguments.bundle, store, settings)
    limits = replace(LIMITS, worker_wait_seconds=arguments.wait_seconds)
    memory_of = memory.compute_local if arguments.share else memory.compute_for_pods

    @contextmanager
    def connect() -> Iterator["Client"]:
        with ExitStack() as stack:
            if arguments.share:
                yield stack.enter_context(local_cluster(arguments.shape, settings, say=reporter.note))
            else:
                yield _connect(stack, arguments.scheduler, study, limits, reporter)

    losses, n_done = 0, -1
    while True:
        try:
            summary = drive(
                study,
                bundle,
                store,
                connect,
                retry=arguments.retry,
                redo=arguments.redo,
                redo_request=arguments.redo_request,
                share=arguments.share,
                n_checks=arguments.check,
                memory=arguments.shape and memory_of(arguments.shape, settings),
                limits=limits,
                inbox=inbox,
                watcher=Watcher(
                    reporter.phase,
                    reporter.progress,
                    reporter.note,
                    lambda: reporter.stopping,
                    stage=reporter.stage,
                    announce=reporter.note,
                ),
                was_disrupted=reporter.was_disrupted,
            )
            if summary.failures:
                reporter.own_sets = numbers_in_spec(
                    store, study, {failure.set for failure in summary.failures}
                )
            return summary
        except remote.SchedulerLost:
            losses = losses + 1 if reporter.done == n_done else 1
            n_done = reporter.done
            if losses >= LOSSES_IN_A_ROW:
                raise
            reporter.note("The connection to the Dask scheduler was lost; continuing when it is back")
        except NoWorkers as error:
            error.remedy = reporter.describe_missing_workers() or error.remedy
            raise
        except (CannotFit, OutOfMemory) as error:
            error.remedy += reporter.upgrade()
            raise
        except TablesNeedMemory as error:
            if not arguments.share:  # for a chunk, only its own tasks are counted
                reporter.count(read_summary(store, spec=study))
            value = f"Raise {DRIVER_MEMORY}, for example to {error.suggested_memory}"
            error.remedy = f"{value} (and limits.memory, if that is set)."
            error.remedy += reporter.upgrade(f"--set {DRIVER_MEMORY}={error.suggested_memory}")
            raise


def _connect(
    stack: ExitStack, address: str, study: spec.Spec, limits: Limits, reporter: Reporter
) -> "Client":
    """Connect to the release's scheduler, once it and a worker are available."""
    deadline = time.monotonic() + limits.worker_wait_seconds
    while not reporter.stopping:
        try:
            return stack.enter_context(remote.connect(address, study.resources, answer_seconds=5))
        except (remote.NoScheduler, remote.NoWorkersYet) as error:
            if time.monotonic() < deadline:
                missing = "workers" if isinstance(error, remote.NoWorkersYet) else "the Dask scheduler"
                reporter.note(f"Waiting for {missing}. {reporter.describe_missing_workers()}".rstrip())
            elif isinstance(error, remote.NoWorkersYet):
                raise NoWorkers(limits.worker_wait_seconds) from None
            else:
                raise
    raise Interrupted


def store_bundle(reference: str, store: Store, settings: Settings) -> Bundle:
    """Return the bundle so that workers elsewhere can fetch it: from its source, or else from the store."""
    bundle = apply_digest_rule(store, fetch(reference, settings.bundles_cache_dir))
    if bundle.source:
        return bundle
    bundle_url = bundles.find_bundle(store, bundle.digest) or bundles.keep(store, bundle.digest, pack(bundle))
    return replace(bundle, source=f"{bundle_url}@{bundle.digest}")
