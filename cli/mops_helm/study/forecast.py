"""The expected time and memory of a study in the shape of the values, and a more suitable preset.

Spec, bundle, store, Workers -> the model's profile -> Forecast -> StudyPreview: the output of `study plan`
"""

from dataclasses import dataclass, replace

from modelops_dask.bundle import Bundle
from modelops_dask.environments import interpreters
from modelops_dask.errors import MopsError
from modelops_dask.plan.document import BadDocument
from modelops_dask.plan.spec import Spec
from modelops_dask.shape import fit
from modelops_dask.store import profile
from modelops_dask.store.files import Store
from modelops_dask.study.acceptance import apply_digest_rule
from modelops_dask.study.calls import Call, describe_call
from modelops_dask.study.drive import find_refusal
from modelops_dask.study.estimate import Estimate, estimate
from modelops_dask.workers.local import machine
from mops_helm.study import studies
from mops_helm.study.studies import Workers

# Workload presets for single-threaded tasks, from the least to the most memory per task.
CANDIDATES = ("simulation", "memory-heavy")


@dataclass(frozen=True)
class Forecast:
    """A forecast. `preset` is one whose tasks have enough memory; "" if there is none. `local_estimate` is
    for this machine, where less of the shape may fit. `executor` is the one that tasks will run with.
    """

    estimate: Estimate
    preset: str
    local_estimate: Estimate
    executor: str


@dataclass(frozen=True)
class StudyPreview:
    """The facts about a study before it runs.

    `bundle` is its reference, "" if none was found, and `call` what its tasks call. `forecast` is None
    without measurements. `refusal` is why `study run` would end immediately.
    """

    bundle: str
    forecast: Forecast | None
    refusal: MopsError | None
    call: Call | None = None


def preview_study(spec: Spec, bundle: str | None, store: Store, workers: Workers) -> StudyPreview:
    """What running a study would take, and what is in its way. Runs nothing.

    Raises BadDocument where the study does not fit its bundle.
    """
    reference = ""
    call: Call | None = None
    model: Bundle | None = None
    reason: MopsError | None = None
    try:
        reference = studies.find_reference(spec, bundle)
        model = apply_digest_rule(store, studies.fetch_bundle(spec, reference, workers.settings))
        call = describe_call(model, spec.entrypoint)
        reason = find_refusal(spec, model, store)
        if reason is None:
            interpreters.check_machine(model, workers.settings)
    except BadDocument:
        raise
    except MopsError as error:  # also a store that does not answer: nothing runs here
        reason = error
    return StudyPreview(reference, forecast(spec, model, store, workers), reason, call)


def forecast(spec: Spec, bundle: Bundle | None, store: Store, workers: Workers) -> Forecast | None:
    """Time and memory, from measurements of earlier runs of the same model; None without any."""
    measured_profile = profile.find(store, bundle.digest, spec.entrypoint) if bundle else None
    if measured_profile is None or workers.shape is None:
        return None
    expected = estimate(measured_profile, spec.n_tasks, workers.shape, workers.settings)
    local_shape, _ = fit(workers.shape, *machine())
    local = estimate(measured_profile, spec.n_tasks, local_shape, workers.settings)
    return Forecast(expected, _choose_preset(expected, workers), local, workers.settings.executor_type)


def _choose_preset(expected: Estimate, workers: Workers) -> str:
    from mops_helm.values import effective, layers

    for name in CANDIDATES:
        values = layers.resolve([name], (), ()).values
        pool_size = effective.settings(values).subprocess_pool_size
        settings = replace(workers.settings, subprocess_pool_size=pool_size)
        of_preset = estimate(expected.profile, 1, effective.shape(values), settings)
        if of_preset.limit_bytes >= expected.needed_bytes:
            return name
    return ""
