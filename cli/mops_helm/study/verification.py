"""Check a store, and run some of its tasks again to compare their bytes.

STUDY -> store/verify.py -> Report;   a sampled task -> alone in a new process, or after others in one
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.errors import MopsError
from modelops_dask.executors import Executor, Outcome, Task
from modelops_dask.plan.plan import Request
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study
from modelops_dask.store.requests import plan_of
from modelops_dask.store.study import last_request
from modelops_dask.store.verify import verify
from modelops_dask.store.verify_sample import Rerun, Sampled
from modelops_dask.store.verify_tasks import Report
from modelops_dask.study import packages
from modelops_dask.workers.processor import processor_kind
from mops_helm.study.studies import Workers, add_packages, fetch_stored_bundle


def verify_study(
    store_url: str, n_samples: int, bundle: str | None, workers: Workers, spec: Spec | None = None
) -> Report:
    """Check a store, and run `n_samples` ok tasks again with the bundle that the study was run with.

    The tasks are those of `spec`, or else of the store's last request.

    Raises:
        NoStudy: The store holds no study.
        BadInput: The bundle cannot be fetched, and tasks have to run.
    """
    store = Store(store_url)
    request = plan_of(store, spec).request if spec else None
    study = read_study(store)
    tasks = (request.replicates, request.sets) if request else None
    deterministic, volatile = (request.deterministic, request.volatile) if request else (False, ())
    check = partial(
        verify,
        store.location(),
        request=tasks,
        deterministic=deterministic,
        volatile=volatile,
        outputs=request.outputs if request else (),
    )
    if not n_samples:
        return check()
    other = bundles.fetch(bundle, workers.settings.bundles_cache_dir) if bundle else None
    if bundle and other and other.digest not in study.bundles:
        # raises an error with the reason
        other = bundles.fetch(bundle, workers.settings.bundles_cache_dir, study.bundle)
    model = add_packages(store, other or fetch_stored_bundle(store, workers.settings), workers.settings)
    model = replace(model, program=study.program)
    with ExitStack() as stack:
        rerunner = _Rerunner(model, study.entrypoint, workers.settings, stack, _time_limit(store, request))
        return check(sample=n_samples, rerunner=rerunner)


def _time_limit(store: Store, request: Request | None) -> float:
    """The time limit of the study file, in seconds; 0 if it has none, or the last one cannot be read."""
    with suppress(MopsError):  # the report has the problems of the store
        return (request or last_request(store)).timeout_seconds
    return 0


IMAGE_HINT = "It has the packages of this command, not its own: leave out executor.environment=image."


class _Rerunner:
    """Runs tasks on this machine, with the packages and threads of their rows if possible."""

    def __init__(
        self, model: Bundle, entrypoint: str, settings: Settings, stack: ExitStack, timeout_seconds: float
    ) -> None:
        self.processor = processor_kind()
        self._model, self._entrypoint, self._stack = model, entrypoint, stack
        self._timeout_seconds = timeout_seconds
        # One process for `together`, because a new one would hide what tasks leave in it.
        self._settings = replace(
            settings,
            force_fresh_venv=False,
            max_process_reuse=0,
            process_ttl_seconds=0,
            subprocess_pool_size=0,
        )
        self._executors: dict[tuple[str, str], Executor] = {}

    def alone(self, task: Sampled) -> Rerun:
        """Run a task in a new process that runs no other."""
        return self._rerun(self._executor("cold", task).run_alone(self._task(task)))

    def together(self, tasks: Sequence[Sampled]) -> list[Rerun]:
        """Run tasks one after another in one process; in several if packages or threads differ."""
        return [self._rerun(self._executor("isolated_warm", task).run(self._task(task))) for task in tasks]

    def _task(self, task: Sampled) -> Task:
        model = replace(self._model, reseeds=task.reseeded)
        return Task(
            bundle=model,
            entrypoint=self._entrypoint,
            params=task.params,
            seed=task.seed,
            threads=task.threads,
            timeout_seconds=self._timeout_seconds,
        )

    def _executor(self, kind: str, task: Sampled) -> Executor:
        # `direct`, and executor.environment: image, use the packages of the worker's interpreter.
        is_image = task.executor == "direct" or task.environment == venv.digest_of_process()
        environment = "image" if is_image else self._settings.executor_environment
        if (kind, environment) not in self._executors:
            settings = replace(self._settings, executor_type=kind, executor_environment=environment)
            self._executors[kind, environment] = self._stack.enter_context(executors.create(settings))
        return self._executors[kind, environment]

    def _rerun(self, outcome: Outcome) -> Rerun:
        return Rerun(
            outputs=outcome.outputs,
            environment=outcome.environment,
            threads=outcome.threads,
            problem="" if outcome.status == "ok" else f"{outcome.status}, {outcome.reason}",
            reason=outcome.reason,
            limit_bytes=outcome.limit_bytes,
            hint=self._hint(outcome.reason),
        )

    def _hint(self, reason: str) -> str:
        """The likely cause of a failed start."""
        if self._settings.builds_environment:
            return packages.hint(self._model, [reason])
        return IMAGE_HINT if reason == "ModuleNotFoundError" else ""
