"""From what a person typed to the engine: which bundle, which store, which workers.

SPEC, --bundle, --store -> Opened;   --preset, -f, --set or -d -> Workers -> a Dask client;   both -> a
Summary

Prints nothing, but tells a Watcher: commands print.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.errors import BadInput
from modelops_dask.executors import Outcome, Task
from modelops_dask.local import environment, local_cluster
from modelops_dask.remote import connect
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.signals import stop_on_signals
from modelops_dask.store import parts
from modelops_dask.store.bundles import held
from modelops_dask.store.files import Files
from modelops_dask.store.identity import NoStudy, read_study
from modelops_dask.store.requests import plan_of as plan_of_store
from modelops_dask.study import events, memory, packages, spec
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.plan import Plan, PlannedTask, Request
from modelops_dask.study.summary import Summary

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Workers:
    """What workers are made of: on this machine by values, or those of `scheduler`, which have their own."""

    settings: Settings
    shape: Shape | None = None
    dask_config: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    scheduler: str = ""


def workers(
    preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str], scheduler: str = ""
) -> Workers:
    """Workers by the flags of a command. BadInput when values are given for workers that run elsewhere."""
    own = Settings.from_env()
    if scheduler:
        if preset_names or files or sets:
            raise BadInput(
                f"The workers of {scheduler} have settings of their own: leave out --preset, -f and --set, "
                "or leave out -d to run on this machine."
            )
        return Workers(own, scheduler=scheduler)
    from mops_helm.values import effective, layers

    values = layers.resolve(preset_names, files, sets).values
    settings = replace(
        effective.settings(values), bundles_cache_dir=own.bundles_cache_dir, venvs_dir=own.venvs_dir
    )
    return Workers(
        settings, effective.shape(values), effective.dask_config(values), effective.worker_env(values)
    )


def store_of(study: spec.Spec, store: str | None) -> Files:
    """--store, else out/NAME under the current folder."""
    return Files(store or f"out/{study.name}")


def reference_of(study: spec.Spec, given: str | None) -> str:
    """--bundle, else the spec's, else the nearest folder above it that is one. BadInput."""
    return given or study.bundle or str(bundles.find(study.path.resolve().parent))


def bundle_of(study: spec.Spec, given: str | None, settings: Settings) -> bundles.Bundle:
    """The bundle of reference_of(), copied into the cache."""
    return bundles.fetch(reference_of(study, given), settings.bundles_cache_dir)


def bundle_in(files: Files, settings: Settings) -> bundles.Bundle:
    """The bundle that a store's study was run with: from the cache, or from the store if that has it."""
    digest = read_study(files).bundle
    return bundles.fetch(held(files, digest) or digest, settings.bundles_cache_dir, digest)


def with_packages(files: Files, bundle: bundles.Bundle) -> bundles.Bundle:
    """The bundle with the packages that a study installed, if the store holds a study of this very bundle."""
    try:
        same = read_study(files).bundle == bundle.digest
    except NoStudy:
        return bundle
    return packages.in_store(files, bundle) if same else bundle


def run_study(
    study: spec.Spec,
    bundle: bundles.Bundle,
    files: Files,
    on: Workers,
    retry: Collection[str],
    watcher: Watcher,
    pilot: int | None = None,
) -> Summary:
    """Run what is pending. The first Ctrl-C or SIGTERM lets what runs be stored, the second ends at once."""
    inbox: SimpleQueue[events.Event] = SimpleQueue()

    def stop() -> None:
        inbox.put(events.Stop())
        watcher.note("Stopping: what runs is stored first. Once more ends at once.")

    with _cluster(on, study, watcher.note) as (start, room):

        @contextmanager
        def client() -> Iterator["Client"]:
            with stop_on_signals(stop), start() as connected:
                yield connected

        return drive(
            study, bundle, files, client, retry=retry, pilot=pilot, memory=room, inbox=inbox, watcher=watcher
        )


@contextmanager
def _cluster(
    on: Workers, study: spec.Spec, say: Callable[[str], None]
) -> Iterator[tuple[Callable[[], AbstractContextManager["Client"]], memory.TaskMemory | None]]:
    """How to get the workers, and what memory they have: those that run elsewhere must be asked."""
    if on.scheduler:
        say(f"Connecting to {on.scheduler}")
        with connect(on.scheduler, study.resources) as client:
            yield lambda: nullcontext(client), memory.of_workers(client, study.resources)
        return
    with executors.create(on.settings):
        pass  # settings that no worker could use are said here, before any is started
    own = partial(local_cluster, on.shape, on.settings, on.dask_config, on.env, say)
    yield own, memory.here(on.shape, on.settings)


def plan_of(study: spec.Spec) -> Plan:
    """The plan of a spec that has no store yet: its sets in its own order."""
    return Plan(study.entrypoint, study.table, Request(study.replicates, ((0, study.n_sets),)))


@dataclass(frozen=True)
class Tried:
    """A task that ran in the foreground. `hint`: what may be the matter, beside the outcome."""

    task: PlannedTask
    outcome: Outcome
    hint: str = ""


def try_task(
    where: str,
    task_id: str,
    bundle: str | None,
    on: Workers,
    echo: Callable[[bytes], object],
    say: Callable[[str], object] = lambda _: None,
    request: spec.Spec | None = None,
) -> Tried:
    """Run one task of a spec or of a store here; `echo` receives what the model prints, as it comes, `say`
    what a person should know before.

    Of a store it is a task of its last request, or of the study file `request`.

    A store's bundle is the one that it was run with, from the cache or the store, with the packages that it
    was run with, unless another is given; a task that ran out of memory there has the limit that it had.
    StaleLock for a spec whose uv.lock does not fit.
    """
    files, source = None, bundle or ""
    if Path(where).is_file():
        study = spec.load(Path(where))
        source = reference_of(study, bundle)
        plan, model = plan_of(study), bundles.fetch(source, on.settings.bundles_cache_dir)
    else:
        files = Files(where)
        plan = plan_of_store(files, request)
        given = bundle and bundles.fetch(bundle, on.settings.bundles_cache_dir)
        model = with_packages(files, given or bundle_in(files, on.settings))
    task = plan.task(_index(plan, task_id))
    limit_bytes = parts.too_little(files, task.set, task.replicate) if files else 0
    if files is None:
        packages.check(model, on.settings)
    for note in packages.notes(model, on.settings):
        say(note)
    with (
        environment(on.env or {}),
        executors.create(on.settings, echo=echo) as executor,
        redirect_stdout(_Echo(echo)),
    ):
        outcome = executor.run(Task(model, plan.entrypoint, task.params, task.seed, limit_bytes))
    # Its files as a person knows them, not their copies in the cache, which are not to be edited.
    shown = f"{source}/" if source and Path(source).is_dir() else ""
    return Tried(
        task,
        outcome._replace(error=outcome.error.replace(f"{model.path}/", shown)),
        packages.hint(model, [outcome.reason]) if packages.builds(on.settings) else "",
    )


def _index(plan: Plan, task_id: str) -> int:
    """The index of SET/REPLICATE (or SET-REPLICATE); BadInput with the bounds."""
    number, _, replicate = task_id.replace("-", "/").partition("/")
    try:
        return plan.index(int(number), int(replicate or 0))
    except (ValueError, KeyError):
        raise BadInput(
            f"There is no task {task_id}; a task is SET/REPLICATE, here 0/0 to "
            f"{plan.n_sets - 1}/{plan.replicates - 1} (mops-helm study plan SPEC --tasks)."
        ) from None


class _Echo:
    """A text stream of what a model prints under `direct`, where it runs in this process."""

    def __init__(self, echo: Callable[[bytes], object]) -> None:
        self._echo = echo

    def write(self, text: str) -> int:
        self._echo(text.encode())
        return len(text)

    def flush(self) -> None:
        pass
