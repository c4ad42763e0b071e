"""Check a store, and run some of its tasks again to compare their bytes.

STUDY -> store/verify.py -> Report;   a sampled task -> an executor as on record -> its outputs
"""

from contextlib import ExitStack
from dataclasses import replace

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.executors import Executor, Task
from modelops_dask.store.files import Files
from modelops_dask.store.identity import read_study
from modelops_dask.store.verify import Sampled, verify
from modelops_dask.store.verify_tasks import Report
from modelops_dask.study.plan import Request
from mops_helm.studies import Workers, bundle_in, with_packages


def check(store: str, sample: int, bundle: str | None, on: Workers, request: Request | None = None) -> Report:
    """The report of a store; `sample` ok tasks are run again, with the bundle that the study was run with.

    Of the tasks of a request, else of the last one.

    NoStudy, and what fetching that bundle raises when there is something to run.
    """
    study = read_study(Files(store))
    asked = request and (request.replicates, request.sets)
    if not sample:
        return verify(Files(store).where(), request=asked)
    given = bundle and bundles.fetch(bundle, on.settings.bundles_cache_dir, study.bundle)
    held = with_packages(Files(store), given or bundle_in(Files(store), on.settings))
    made: dict[str, Executor] = {}
    with ExitStack() as stack:

        def rerun(task: Sampled) -> tuple[dict[str, bytes], str]:
            kind = task.executor if task.executor in executors.TYPES else on.settings.executor_type
            if kind not in made:
                settings = replace(on.settings, executor_type=kind)
                made[kind] = stack.enter_context(executors.create(settings))
            outcome = made[kind].run(
                Task(held, study.entrypoint, task.params, task.seed, threads=task.threads)
            )
            if outcome.status != "ok":
                raise RuntimeError(f"{outcome.status}, {outcome.reason}")
            return outcome.outputs, outcome.environment

        return verify(Files(store).where(), sample, rerun, asked)
