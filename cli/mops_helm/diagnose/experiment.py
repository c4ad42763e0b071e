"""A diagnosis by experiment: on this machine, or with the workers of a release.

DiagnosisRequest -> study_diagnosis.py, or a cluster and pod_diagnosis.py -> StudyDiagnosis, and the release
for its values
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelops_dask.plan.spec import Spec
from mops_helm import helm
from mops_helm.diagnose import study_diagnosis
from mops_helm.diagnose.study_diagnosis import ExperimentOptions, Say, StudyDiagnosis
from mops_helm.helm import ReleaseRef
from mops_helm.study import studies

LOOK_SECONDS = 3  # for a cluster that may name a release


@dataclass(frozen=True)
class DiagnosisRequest:
    """What the user requested. With `release`, `namespace` and `context` give its location; without, presets,
    files and sets are the values of the workers on this machine.
    """

    study: Spec
    bundle: str | None
    options: ExperimentOptions
    release: str = ""
    namespace: str = ""
    context: str = ""
    preset_names: Sequence[str] = ()
    files: Sequence[Path] = ()
    sets: Sequence[str] = ()


def diagnose_study(request: DiagnosisRequest, say: Say) -> tuple[StudyDiagnosis, ReleaseRef | None]:
    """Run the experiment. The returned release is that of the request, or the only one of the cluster, if
    any.
    """
    if not request.release:
        workers = studies.choose_workers(request.preset_names, request.files, request.sets)
        result = study_diagnosis.diagnose_here(request.study, request.bundle, workers, request.options, say)
        return result, find_release()
    from modelops_dask.kube.connect import connect
    from mops_helm.diagnose import pod_diagnosis

    cluster = connect(request.context, request.namespace)
    result = pod_diagnosis.diagnose_in_pod(
        cluster, request.release, request.study, request.bundle, request.options, say=say
    )
    return result, ReleaseRef(request.release, cluster.namespace, request.context)


def find_release() -> ReleaseRef | None:
    """The only release of this chart in the cluster, if there is one and the cluster answers soon."""
    return helm.only_release(LOOK_SECONDS)
