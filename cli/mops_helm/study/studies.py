"""From what a person typed to the engine: which bundle, which store, which workers.

SPEC, --bundle, --store -> Spec, Bundle, Store;   --preset, -f, --set or -d -> Workers -> a Dask client;
all of them -> a Summary

Prints nothing, but tells a Watcher: commands print.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.errors import BadInput
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
from modelops_dask.workers import memory, process_room
from modelops_dask.workers.local import local_cluster
from modelops_dask.workers.remote import connect

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Workers:
    """What workers are made of: on this machine by values, or those of `scheduler`, which have their own."""

    settings: Settings
    shape: Shape | None = None  # None: they run elsewhere
    dask_config: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    scheduler: str = ""

    @property
    def local_shape(self) -> Shape:
        """The shape of workers on this machine, which always have one."""
        assert self.shape is not None, f"the workers of {self.scheduler} have a shape of their own"
        return self.shape


def choose_workers(
    preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str], scheduler: str = ""
) -> Workers:
    """Workers by the flags of a command. BadInput when values are given for workers that run elsewhere."""
    local_settings = Settings.from_env()
    if scheduler:
        if preset_names or files or sets:
            raise BadInput(
                f"The workers of {scheduler} have settings of their own: leave out --preset, -f and --set, "
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
    """--bundle, else the spec's, else the nearest folder above it that is one; of a study with a command the
    study file's own folder. BadInput.
    """
    return bundle or spec.bundle or find_bundle_of(spec)


def fetch_bundle(spec: Spec, bundle: str | None, settings: Settings) -> bundles.Bundle:
    """The bundle of find_reference(), in the cache. Raises BadDocument where the study does not fit it, and
    BadInput where its program cannot start.
    """
    fetched = bundles.fetch(find_reference(spec, bundle), settings.bundles_cache_dir)
    model = replace(fetched, program=spec.program)
    calls.check_call(spec, model, settings)
    return model


def fetch_stored_bundle(store: Store, settings: Settings) -> bundles.Bundle:
    """The bundle that a store's study was run with: from the cache, or from the store if that has it."""
    digest = read_study(store).bundle
    return bundles.fetch(find_bundle(store, digest) or digest, settings.bundles_cache_dir, digest)


def add_packages(store: Store, bundle: bundles.Bundle, settings: Settings) -> bundles.Bundle:
    """The bundle as a store's study runs it, if there is one: whether its generators are seeded and, if it is
    of this bundle, the Python and the packages that it used.
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
    """Run what is pending. The first Ctrl-C or SIGTERM lets what runs be stored, the second ends at once.

    Args:
        spec: The study file.
        bundle: The model.
        store: Where results are kept; a study that is there already goes on.
        workers: What runs the tasks.
        watcher: Is told of phases, progress and what a person should know.
        retry: States of tasks to try again: failed, poisoned.
        redo: Tasks whose results are replaced, as typed; "" for none.
        pilot: Run only so many tasks, from all over the study.
        n_checks: Check so many tasks at the end.
    """
    inbox: SimpleQueue[events.Event] = SimpleQueue()

    def stop() -> None:
        inbox.put(events.StopRequested())
        watcher.note("Stopping: what runs is stored first. Once more ends at once.")

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
    """How to get the workers, and what memory they have: those that run elsewhere must be asked."""
    if workers.scheduler:
        say(f"Connecting to {workers.scheduler}")
        with connect(workers.scheduler, spec.resources) as client:
            for shortage in process_room.ask_workers(client):
                say(shortage)
            yield lambda: nullcontext(client), memory.ask_workers(client, spec.resources)
        return
    with executors.create(workers.settings):
        pass  # settings that no worker could use are refused here, before any is started
    shape = workers.local_shape
    start = partial(local_cluster, shape, workers.settings, workers.dask_config, workers.env, say)
    yield start, memory.compute_local(shape, workers.settings)


def make_plan(spec: Spec) -> Plan:
    """The plan of a spec that has no store yet: its sets in its own order."""
    return Plan(spec.entrypoint, spec.table, spec.request(((0, spec.n_sets),)))
