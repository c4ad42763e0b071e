"""A diagnosis in the environment of a release's workers: the same experiment, in a pod like theirs.

    spec, bundle -> a pod with the image, environment, variables, volumes, placement and memory of a worker
                 -> `python -m modelops_dask.diagnose` in it: request in, progress lines, Diagnosis back

The pod is made like a chunk of a study. It is not one of the release's workers, which are not disturbed, and
it is deleted at the end in any case. The answer is plain data, because the model ran there.
"""

import io
import json
from base64 import b64encode
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.bundle.pack import pack
from modelops_dask.diagnose import result
from modelops_dask.diagnose.trials import arms
from modelops_dask.errors import ClusterFailed, MopsError
from modelops_dask.kube import jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.visit import READY_SECONDS, open_visit
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.signals import sigterm_as_ctrl_c
from mops_helm.diagnose.study_diagnosis import ExperimentOptions, Say, StudyDiagnosis
from mops_helm.study import studies, submission

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

COMMAND = ("python", "-m", "modelops_dask.diagnose")
AFTERWARDS_SECONDS = 120  # that the pod may live beyond the budget
PYTHON = Path("python")  # that of the pod is deleted with it


class FailedInPod(MopsError):
    """The diagnosis ended with an error in the pod; str() is its message."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoAnswer(ClusterFailed):
    """The program in the pod ended without an answer; its output has been reported."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return (
            f"{' '.join(COMMAND)} ended with status {self.status} in the pod and sent no answer. "
            "The release's image must have the same version of mops-helm as this machine."
        )


def diagnose_in_pod(
    cluster: Cluster, release: str, study: Spec, bundle: str | None, options: ExperimentOptions, *, say: Say
) -> StudyDiagnosis:
    """Diagnose a study in a pod of a release.

    Raises BadInput, NoStudies, RequestRefused, NotReady, CommandLost, FailedInPod, NoAnswer.
    """
    arms.select_arms(options.arms)  # an unknown arm is refused before a pod is created
    model = studies.fetch_bundle(study, bundle, Settings.from_env())
    offer = jobs.read_offer(cluster, release)
    request = {
        "spec": submission.make_document(study),
        "path": str(study.path),
        "bundle": b64encode(pack(model)).decode(),
        "digest": model.digest,
        "shape": offer.facts["shape"],
        "options": asdict(options),
    }
    stdout, log = io.BytesIO(), _LineStream(say)
    say(f"starting a pod like the workers of {release}")
    with (
        sigterm_as_ctrl_c(),
        open_visit(
            cluster,
            offer.chunk["spec"]["template"],
            release,
            say,
            purpose="diagnose the study",
            cpu="",
            life_seconds=READY_SECONDS + options.budget_seconds + AFTERWARDS_SECONDS,
        ) as pod,
    ):
        status = pod.run(COMMAND, stdout, io.BytesIO(json.dumps(request).encode()), log)
    try:
        answer = json.loads(stdout.getvalue())
    except ValueError:
        raise NoAnswer(status) from None
    if "error" in answer:
        raise FailedInPod(answer["error"], status)
    diagnosis = _with_local_paths(result.read(answer["found"]), answer["folder"], model.path)
    return StudyDiagnosis(study, model, diagnosis, PYTHON)


def _with_local_paths(diagnosis: result.Diagnosis, pod_folder: str, folder: Path) -> result.Diagnosis:
    """Make the script again for this machine's copy of the bundle."""
    if not diagnosis.polluter:
        return diagnosis
    script = diagnosis.polluter.script.replace(repr(pod_folder), repr(str(folder)), 1)
    return replace(diagnosis, polluter=replace(diagnosis.polluter, script=script))


class _LineStream(io.BytesIO):
    """A stream of bytes whose lines are reported immediately."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say, self._rest = say, b""

    def write(self, data: "ReadableBuffer", /) -> int:
        chunk = bytes(data)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._say(line.decode(errors="replace"))
        return len(chunk)
