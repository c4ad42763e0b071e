"""Check a store, and run some of its tasks again to compare their bytes.

STUDY -> store/verify.py -> Report;   a sampled task -> an executor as on record -> its outputs
"""

from contextlib import ExitStack
from dataclasses import replace

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.executors import Executor, Task
from modelops_dask.plan.spec import Spec
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study
from modelops_dask.store.requests import plan_of
from modelops_dask.store.verify import Sampled, verify
from modelops_dask.store.verify_tasks import Report
from mops_helm.study.studies import Workers, add_packages, fetch_stored_bundle


def verify_study(
    store_url: str, n_samples: int, bundle: str | None, workers: Workers, spec: Spec | None = None
) -> Report:
    """Check a store, and run `n_samples` ok tasks again with the bundle that the study was run with.

    The tasks are those of `spec`, else of the store's last request.

    Raises:
        NoStudy: The store holds no study.
        BadInput: The bundle cannot be fetched, and there is something to run.
    """
    store = Store(store_url)
    request = plan_of(store, spec).request if spec else None
    study = read_study(store)
    tasks = (request.replicates, request.sets) if request else None
    if not n_samples:
        return verify(store.location(), request=tasks)
    other = bundles.fetch(bundle, workers.settings.bundles_cache_dir, study.bundle) if bundle else None
    model = add_packages(store, other or fetch_stored_bundle(store, workers.settings))
    executors_by_type: dict[str, Executor] = {}
    with ExitStack() as stack:

        def rerun(task: Sampled) -> tuple[dict[str, bytes], str]:
            kind = task.executor if task.executor in executors.TYPES else workers.settings.executor_type
            if kind not in executors_by_type:
                settings = replace(workers.settings, executor_type=kind)
                executors_by_type[kind] = stack.enter_context(executors.create(settings))
            outcome = executors_by_type[kind].run(
                Task(
                    replace(model, reseeds=task.reseeded),
                    study.entrypoint,
                    task.params,
                    task.seed,
                    threads=task.threads,
                )
            )
            if outcome.status != "ok":
                raise RuntimeError(f"{outcome.status}, {outcome.reason}")
            return dict(outcome.outputs), outcome.environment

        return verify(store.location(), n_samples, rerun, tasks)
