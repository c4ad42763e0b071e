"""The pod of a study's Job: `python -m modelops_dask.driver --spec FILE --bundle REFERENCE --store URL …`.

    arguments -> spec, bundle (kept in the store), workers -> study.drive -> tables, exit status
    what the release's pods do (kube/watch.py), signals -> events -> study.drive
    phases, progress, the verdict -> the Job's annotations (kube/annotate.py), the end of the pod, the log

The workers are those of a release (--scheduler), or, for a chunk of the study (--chunk I/N), processes of
this pod. A scheduler that goes is waited for, and the study goes on from its store; so it does in the next
pod, when this one goes. Without a cluster to talk to, it runs all the same, and is not heard.

Exit status: 0, 2, 3, 4 and 5 as those of mops-helm; 130: it was told to stop, and has stored what ran.
Does not start, scale or change any pod.
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

from modelops_dask import remote
from modelops_dask.bundle import Bundle, fetch
from modelops_dask.bundle.pack import pack
from modelops_dask.errors import MopsError
from modelops_dask.kube.reporter import Reporter
from modelops_dask.local import local_cluster
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.signals import stop_on_signals
from modelops_dask.store import bundles
from modelops_dask.store.files import Files
from modelops_dask.store.requests import own_sets
from modelops_dask.study import events, memory, packed, spec
from modelops_dask.study.breaker import DRIVER_MEMORY, CannotFit, NoWorkers, OutOfMemory, TablesNeedMemory
from modelops_dask.study.dispatch import DEFAULT_LIMITS, Limits
from modelops_dask.study.drive import RETRY_CODES, Watcher, drive
from modelops_dask.study.plan import Share
from modelops_dask.study.summary import INTERRUPTED, Summary, status

if TYPE_CHECKING:
    from distributed import Client

WAIT_SECONDS = 300.0  # for a scheduler, for a first worker, and for another one when all are gone
LOSSES_IN_A_ROW = 5  # of the scheduler, without a task that ended between
LIMITS = replace(DEFAULT_LIMITS, grace_seconds=30.0, reason_seconds=3.0)


class Interrupted(MopsError):
    """Told to stop before anything ran."""

    exit_code = INTERRUPTED

    def __str__(self) -> str:
        return "Stopped before it began. The same study, submitted again, goes on."


def main(words: Sequence[str] | None = None) -> int:
    """Run a study; the exit status."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("modelops").setLevel(logging.INFO)
    given = _arguments(words)
    inbox: SimpleQueue[events.Event] = SimpleQueue()
    with Reporter(given.share, inbox) as reporter:

        def stop() -> None:
            inbox.put(events.Stop())
            reporter.stop()

        try:
            with stop_on_signals(stop):
                summary = _run(given, inbox, reporter)
        except MopsError as error:
            reporter.failed(error)
            return error.exit_code
        reporter.ended(summary)
        return summary.exit_code


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m modelops_dask.driver", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="study.yaml or study JSON, also .gz")
    parser.add_argument("--bundle", required=True, help="a folder, an archive, or a reference")
    parser.add_argument("--store", required=True, help="a folder that all pods see, or a URL")
    workers = parser.add_mutually_exclusive_group(required=True)
    workers.add_argument("--scheduler", help="address of the release's Dask scheduler")
    workers.add_argument("--chunk", dest="share", type=_share, metavar="I/N", help="part I, from 0, of N")
    parser.add_argument("--shape", type=_shape, metavar="JSON", help="of a worker pod (shape.Shape)")
    parser.add_argument("--retry", default="", help="states to try again: failed,poisoned")
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for scheduler and workers")
    given = parser.parse_args(words)
    given.retry = [state for state in given.retry.split(",") if state]
    if unknown := set(given.retry) - set(RETRY_CODES):
        parser.error(f"--retry: {', '.join(sorted(unknown))}")
    if given.share and not given.shape:
        parser.error("--chunk needs --shape")
    return given


def _share(text: str) -> Share:
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return Share(index, count)


def _shape(text: str) -> Shape:
    return Shape(**json.loads(text))


def _run(given: argparse.Namespace, inbox: "SimpleQueue[events.Event]", reporter: Reporter) -> Summary:
    """As drive(), again each time the scheduler was lost; with the cluster's reasons in what it raises."""
    study, settings, files = packed.load(given.spec), Settings.from_env(), Files(given.store)
    bundle = stored(given.bundle, files, settings)
    limits = replace(LIMITS, worker_wait_seconds=given.wait_seconds)
    room = memory.here if given.share else memory.in_pods

    @contextmanager
    def connect() -> Iterator["Client"]:
        with ExitStack() as stack:
            if given.share:
                yield stack.enter_context(local_cluster(given.shape, settings, say=reporter.note))
            else:
                yield _reached(stack, given.scheduler, study, limits, reporter)

    losses, done = 0, -1
    while True:
        try:
            summary = drive(
                study,
                bundle,
                files,
                connect,
                retry=given.retry,
                share=given.share,
                memory=given.shape and room(given.shape, settings),
                limits=limits,
                inbox=inbox,
                watcher=Watcher(reporter.phase, reporter.progress, reporter.note, lambda: reporter.stopping),
                taken_away=reporter.was_taken_away,
            )
            if summary.failures:
                reporter.own_sets = own_sets(files, study, {failure.set for failure in summary.failures})
            return summary
        except remote.SchedulerLost:
            losses = losses + 1 if reporter.done == done else 1
            done = reporter.done
            if losses >= LOSSES_IN_A_ROW:
                raise
            reporter.note("The Dask scheduler was lost; going on when it is back")
        except NoWorkers as error:
            error.remedy = reporter.pods() or error.remedy
            raise
        except (CannotFit, OutOfMemory) as error:
            error.remedy += reporter.upgrade()
            raise
        except TablesNeedMemory as error:
            if not given.share:  # of a chunk, only its own tasks are counted
                reporter.count(status(files, spec=study))
            value = f"Raise {DRIVER_MEMORY}, for example to {error.wanted}"
            error.remedy = f"{value} (and limits.memory, where that is set)."
            error.remedy += reporter.upgrade(f"--set {DRIVER_MEMORY}={error.wanted}")
            raise


def _reached(
    stack: ExitStack, address: str, study: spec.Spec, limits: Limits, reporter: Reporter
) -> "Client":
    """A client of the release's scheduler, once it and a worker are there."""
    deadline = time.monotonic() + limits.worker_wait_seconds
    while not reporter.stopping:
        try:
            return stack.enter_context(remote.connect(address, study.resources, answer_seconds=5))
        except (remote.NoScheduler, remote.NoWorkersYet) as error:
            if time.monotonic() < deadline:
                missing = "workers" if isinstance(error, remote.NoWorkersYet) else "the Dask scheduler"
                reporter.note(f"Waiting for {missing}. {reporter.pods()}".rstrip())
            elif isinstance(error, remote.NoWorkersYet):
                raise NoWorkers(limits.worker_wait_seconds) from None
            else:
                raise
    raise Interrupted


def stored(reference: str, files: Files, settings: Settings) -> Bundle:
    """The bundle, such that workers elsewhere get it too: from where it is, or else from the store."""
    bundle = fetch(reference, settings.bundles_cache_dir)
    if bundle.source:
        return bundle
    where = bundles.held(files, bundle.digest) or bundles.keep(files, bundle.digest, pack(bundle))
    return replace(bundle, source=f"{where}@{bundle.digest}")


if __name__ == "__main__":
    sys.exit(main())
