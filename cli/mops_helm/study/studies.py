"""Turn the arguments of a command into the engine's objects: the bundle, the store, the workers.

    SPEC, --bundle, --store -> Spec, Bundle, Store;   --preset, -f, --set or -d -> Workers -> a Dask client;
    all of them -> a Summary

Nothing is printed here: messages are passed to a Watcher.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.errors import BadInput, MopsError
from modelops_dask.plan.plan import Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.signals import stop_on_signals
from modelops_dask.store.bundles import find_bundle
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy, read_study
from modelops_dask.study import calls, events, packages
from modelops_dask.study.acceptance import apply_digest_rule
from modelops_dask.study.check import N_TASKS
from modelops_dask.study.commands import find_bundle_of
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.summary import Summary
from modelops_dask.workers import memory
from modelops_dask.workers.local import local_cluster
from modelops_dask.workers.remote import connect, find_process_shortages

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Workers:
    """How to make workers: on this machine from values, or those of `scheduler`, which have their own."""

    settings: Settings
    shape: Shape | None = None  # None: they run elsewhere
    dask_config: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    scheduler: str = ""

    @property
    def local_shape(self) -> Shape:
        """The shape of workers on this machine, which always have one."""
        assert self.shape is not None, f"the workers of {self.scheduler} have their own shape"
        return self.shape


def choose_workers(
    preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str], scheduler: str = ""
) -> Workers:
    """Workers from the flags of a command. Raises BadInput if values are given for workers that run
    elsewhere.
    """
    local_settings = Settings.from_env()
    if scheduler:
        if preset_names or files or sets:
            raise BadInput(
                f"The workers of {scheduler} have their own settings: leave out --preset, -f and --set, "
                "or leave out -d to run on this machine."
            )
        return Workers(local_settings, scheduler=scheduler)
    from mops_helm.values import effective, layers

    values = layers.resolve(preset_names, files, sets).values
    settings = replace(
        effective.settings(values),
        bundles_cache_dir=local_settings.bundles_cache_dir,
        venvs_dir=local_settings.venvs_dir,
    )
    return Workers(
        settings, effective.shape(values), effective.dask_config(values), effective.worker_env(values)
    )


def open_store(spec: Spec, store: str | None) -> Store:
    """--store, else out/NAME under the current folder."""
    return Store(store or f"out/{spec.name}")


def find_reference(spec: Spec, bundle: str | None) -> str:
    """The reference of the bundle: --bundle, otherwise the spec's, otherwise a folder.

    The folder is the nearest one above the study file that is a bundle; for a study with a command it is the
    study file's own folder. Raises BadInput.
    """
    return bundle or spec.bundle or find_bundle_of(spec)


def fetch_bundle(spec: Spec, bundle: str | None, settings: Settings) -> bundles.Bundle:
    """The bundle of find_reference(), in the cache.

    Raises BadDocument if the study does not fit it, and BadInput if its program cannot start.
    """
    fetched = bundles.fetch(find_reference(spec, bundle), settings.bundles_cache_dir)
    model = replace(fetched, program=spec.program)
    calls.check_call(spec, model, settings)
    return model


def fetch_stored_bundle(store: Store, settings: Settings) -> bundles.Bundle:
    """The bundle that a store's study was last run with, otherwise an earlier one that its results count for:
    from the cache, or from the store if it has the bundle.
    """
    digests = read_study(store).bundles

    def fetch(digest: str) -> bundles.Bundle:
        return bundles.fetch(find_bundle(store, digest) or digest, settings.bundles_cache_dir, digest)

    for digest in reversed(digests):
        with suppress(MopsError):
            return fetch(digest)
    return fetch(digests[-1])  # its error is the most useful one


def add_packages(store: Store, bundle: bundles.Bundle, settings: Settings) -> bundles.Bundle:
    """The bundle with the settings of an existing store: whether its generators are seeded and, if the bundle
    is the same, its Python and packages.
    """
    try:
        study = read_study(store)
    except NoStudy:
        return bundle
    bundle = replace(apply_digest_rule(store, bundle), reseeds=study.reseeds)
    return packages.read_pinned(store, bundle, settings) if bundle.digest in study.bundles else bundle


def run_study(
    spec: Spec,
    bundle: bundles.Bundle,
    store: Store,
    workers: Workers,
    *,
    watcher: Watcher,
    retry: Collection[str] = (),
    redo: str = "",
    pilot: int | None = None,
    n_checks: int = N_TASKS,
) -> Summary:
    """Run pending tasks. The first Ctrl-C or SIGTERM lets running batches be stored, the second one quits
    immediately.

    Args:
        spec: The study file.
        bundle: The model.
        store: The store of the results; an existing study continues.
        workers: The workers that run the tasks.
        watcher: Receives phases, progress and messages.
        retry: States of tasks to try again: failed, poisoned.
        redo: Tasks whose results are replaced, as typed; "" for none.
        pilot: Run only this many tasks, evenly spaced.
        n_checks: Check this many tasks at the end.
    """
    inbox: SimpleQueue[events.Event] = SimpleQueue()

    def stop() -> None:
        inbox.put(events.StopRequested())
        watcher.note("Stopping: saving running batches. Press Ctrl-C again to quit now.")

    with _cluster(workers, spec, watcher.note) as (start, task_memory):

        @contextmanager
        def client() -> Iterator["Client"]:
            with stop_on_signals(stop), start() as dask_client:
                yield dask_client

        return drive(
            spec,
            bundle,
            store,
            client,
            retry=retry,
            redo=redo,
            pilot=pilot,
            n_checks=n_checks,
            memory=task_memory,
            inbox=inbox,
            watcher=watcher,
        )


@contextmanager
def _cluster(
    workers: Workers, spec: Spec, say: Callable[[str], None]
) -> Iterator[tuple[Callable[[], AbstractContextManager["Client"]], memory.TaskMemory | None]]:
    """How to get the workers, and their memory: those that run elsewhere must be asked."""
    if workers.scheduler:
        say(f"Connecting to {workers.scheduler}")
        with connect(workers.scheduler, spec.resources) as client:
            for shortage in find_process_shortages(client):
                say(shortage)
            yield lambda: nullcontext(client), memory.ask_workers(client, spec.resources)
        return
    with executors.create(workers.settings):
        pass  # settings that no worker can use are refused here, before any is started
    shape = workers.local_shape
    start = partial(local_cluster, shape, workers.settings, workers.dask_config, workers.env, say)
    yield start, memory.compute_local(shape, workers.settings)


def make_plan(spec: Spec) -> Plan:
    """The plan of a spec without a store: its sets in its own order."""
    return Plan(spec.entrypoint, spec.table, spec.request(((0, spec.n_sets),)))
