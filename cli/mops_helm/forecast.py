"""What a study will take in the shape of the values, and the preset that suits it better.

Spec, bundle, store, Workers -> the model's profile -> Forecast
"""

from dataclasses import dataclass, replace

from modelops_dask.bundle import Bundle
from modelops_dask.local import machine
from modelops_dask.shape import fit
from modelops_dask.store.files import Files
from modelops_dask.study import profile
from modelops_dask.study.estimate import Estimate, estimate
from modelops_dask.study.spec import Spec
from mops_helm.studies import Workers

# Workload presets for tasks of one thread, from the least to the most memory a task.
CANDIDATES = ("simulation", "memory-heavy")


@dataclass(frozen=True)
class Forecast:
    """`preset` is one whose tasks have the memory that these need; "" when no preset gives so much. `here` is
    for this machine, where less of the shape may fit. `executor` is the one that tasks will run with.
    """

    estimate: Estimate
    preset: str
    here: Estimate
    executor: str


def forecast(study: Spec, bundle: Bundle | None, files: Files, on: Workers) -> Forecast | None:
    """None while nothing was measured."""
    found = profile.find(files, bundle.digest, study.entrypoint) if bundle else None
    if found is None or on.shape is None:
        return None
    expected = estimate(found, study.n_tasks, on.shape, on.settings)
    fitted, _ = fit(on.shape, *machine())
    here = estimate(found, study.n_tasks, fitted, on.settings)
    return Forecast(expected, _preset(expected, on), here, on.settings.executor_type)


def _preset(expected: Estimate, on: Workers) -> str:
    from mops_helm.values import effective, layers

    for name in CANDIDATES:
        values = layers.resolve([name], (), ()).values
        settings = replace(on.settings, subprocess_pool_size=effective.settings(values).subprocess_pool_size)
        if (
            estimate(expected.profile, 1, effective.shape(values), settings).limit_bytes
            >= expected.needed_bytes
        ):
            return name
    return ""
