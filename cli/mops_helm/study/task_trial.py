"""One task of a study, run in the foreground: `study try`.

SPEC or a store, SET/REPLICATE -> the task, its model -> an executor -> TaskTrial

Stores nothing and prints nothing.
"""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.environments import uv
from modelops_dask.errors import BadInput
from modelops_dask.executors import Outcome, Task
from modelops_dask.plan import spec as specs
from modelops_dask.plan.plan import Plan, PlannedTask
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import counts, read_generations
from modelops_dask.store.identity import read_study
from modelops_dask.store.requests import plan_of
from modelops_dask.study import packages
from modelops_dask.study.calls import describe_call
from modelops_dask.study.commands import check_program
from modelops_dask.workers.local import environment
from mops_helm.study import studies
from mops_helm.study.studies import Workers


@dataclass(frozen=True)
class TaskTrial:
    """A task that ran in the foreground. `hint`: a possible cause, besides the outcome."""

    task: PlannedTask
    outcome: Outcome
    hint: str = ""


def try_task(
    source: str,
    task_id: str,
    bundle: str | None,
    workers: Workers,
    *,
    echo: Callable[[bytes], object],
    say: Callable[[str], object] = lambda _: None,
    request: Spec | None = None,
) -> TaskTrial:
    """Run one task of a spec or of a store here.

    A store's bundle and packages are those that it was run with, unless another bundle is given; a task that
    ran out of memory has the same limit as there.

    Args:
        source: A study file, or the folder or URL of a store.
        task_id: SET/REPLICATE.
        bundle: --bundle; None for the study's own.
        workers: The settings for the task.
        echo: Receives the model's output immediately.
        say: Receives messages before the task runs.
        request: For a store, the study file with the task; by default the last request.

    Raises:
        StaleLock: The uv.lock of a spec's bundle is outdated.
        BadInput: The task does not exist.
    """
    settings = workers.settings
    store: Store | None = None
    reference = bundle or ""
    if Path(source).is_file():
        spec = specs.load(Path(source))
        reference = studies.find_reference(spec, bundle)
        plan, model = studies.make_plan(spec), studies.fetch_bundle(spec, reference, settings)
    else:
        store = Store(source)
        plan = plan_of(store, request)
        other = bundles.fetch(bundle, settings.bundles_cache_dir) if bundle else None
        model = studies.add_packages(store, other or studies.fetch_stored_bundle(store, settings), settings)
        model = replace(model, program=read_study(store).program)
        check_program(model)
    task = plan.task(_task_index(plan, task_id))
    limit_bytes = _find_limit(store, plan, task) if store else 0
    if store is None:
        packages.check(model, settings)
    say(str(describe_call(model, plan.entrypoint)))
    for note in packages.notes(model, settings):
        say(note)
    with (
        uv.listening(_Stages(say)),
        environment(workers.env or {}),
        executors.create(settings, echo=echo) as executor,
        redirect_stdout(_Echo(echo)),
    ):
        outcome = executor.run(
            Task(
                bundle=model,
                entrypoint=plan.entrypoint,
                params=task.params,
                seed=task.seed,
                limit_bytes=limit_bytes,
                timeout_seconds=plan.request.timeout_seconds,
            )
        )
    # Its files as the user knows them, not their copies in the cache, which must not be edited.
    folder = f"{reference}/" if reference and Path(reference).is_dir() else ""
    return TaskTrial(
        task,
        outcome._replace(error=outcome.error.replace(f"{model.path}/", folder)),
        _find_hint(model, settings, outcome.reason),
    )


class _Stages:
    """Prints the stages of a build, which may take minutes; of several downloads only the first."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say, self._stage = say, ""

    def __call__(self, stage: str) -> None:
        verb = stage.partition(" ")[0]
        if verb != self._stage:
            self._stage = verb
            self._say(f"Preparing the model's environment: {stage}")


def _find_hint(model: bundles.Bundle, settings: Settings, reason: str) -> str:
    """What may help with a failure, beside its error; "" for most."""
    if reason.rpartition(".")[2] == "BdbQuit" and settings.executor_type != "direct":
        return "A debugger needs the terminal, which only this process has: add --preset direct"
    return packages.hint(model, [reason]) if settings.builds_environment else ""


def _find_limit(store: Store, plan: Plan, task: PlannedTask) -> int:
    """The limit in bytes under which the task ran out of memory, by the rows that count; 0 if it did not."""
    generations = read_generations(store, plan)
    return parts.largest_oom_limit(
        store, task.set, task.replicate, lambda rows: counts(rows, plan, generations)
    )


def _task_index(plan: Plan, task_id: str) -> int:
    """The index of SET/REPLICATE (or SET-REPLICATE). Raises BadInput with the bounds."""
    number, _, replicate = task_id.replace("-", "/").partition("/")
    try:
        return plan.index(int(number), int(replicate or 0))
    except (ValueError, KeyError):
        raise BadInput(
            f"No task {task_id}; a task is SET/REPLICATE, here 0/0 to "
            f"{plan.n_sets - 1}/{plan.replicates - 1} (mops-helm study plan SPEC --list-tasks)."
        ) from None


class _Echo:
    """A text stream for the output of a model under `direct`, where it runs in this process."""

    def __init__(self, echo: Callable[[bytes], object]) -> None:
        self._echo = echo

    def write(self, text: str) -> int:
        self._echo(text.encode())
        return len(text)

    def flush(self) -> None:
        pass
