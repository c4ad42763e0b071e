"""A diagnosis where the workers of a release run: the same experiment, in a pod that is as theirs are.

spec, bundle -> a pod with the image, environment, variables, volumes, placement and memory of a worker
             -> `python -m modelops_dask.diagnose` in it: a request in, talk as it comes, a Diagnosis back

The pod is made as a chunk of a study would be. It is none of the release's workers, which go on undisturbed,
and it is deleted at the end, however that comes. What comes back is data: the model ran there.
"""

import io
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelops_dask.bundle.pack import pack
from modelops_dask.diagnose import arms, result
from modelops_dask.errors import ClusterFailed, MopsError
from modelops_dask.kube import jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.visit import READY_SECONDS, visiting
from modelops_dask.settings import Settings
from modelops_dask.signals import sigterm_as_ctrl_c
from modelops_dask.study import spec
from mops_helm import studies, submission
from mops_helm.diagnosing import Experiment

COMMAND = ("python", "-m", "modelops_dask.diagnose")
AFTERWARDS_SECONDS = 120  # that the pod may live beyond the budget
PYTHON = Path("python")  # the one of the pod is gone with it


class FailedThere(MopsError):
    """The diagnosis ended with an error in the pod, in its words."""

    def __init__(self, said: str, exit_code: int) -> None:
        super().__init__(said)
        self.exit_code = exit_code


class NoAnswer(ClusterFailed):
    """The program in the pod ended without an answer; what it said has been told."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return (
            f"{' '.join(COMMAND)} ended with status {self.status} in the pod, and without an answer. "
            "The release's image must have the same version of mops-helm as this machine."
        )


def run(
    cluster: Cluster,
    release: str,
    study: spec.Spec,
    given: str | None,
    say: Callable[[str], object],
    **options: Any,
) -> Experiment:
    """Diagnose a study in a pod of a release. `options` are those of diagnose().

    BadInput, NoStudies, Refused, NotReady, CommandLost, FailedThere, NoAnswer.
    """
    arms.chosen(options["arms"])  # what cannot be run is said before there is a pod
    bundle = studies.bundle_of(study, given, Settings.from_env())
    offered = jobs.offer(cluster, release)
    asked = {
        "spec": submission.document_of(study),
        "path": str(study.path),
        "bundle": b64encode(pack(bundle)).decode(),
        "digest": bundle.digest,
        "shape": offered.facts["shape"],
        "options": options,
    }
    stdout, talk = io.BytesIO(), _Talk(say)
    say(f"starting a pod as the workers of {release} are")
    with (
        sigterm_as_ctrl_c(),
        visiting(
            cluster,
            offered.chunk["spec"]["template"],
            release,
            say,
            purpose="diagnose the study",
            cpu="",
            life_seconds=READY_SECONDS + options["budget_seconds"] + AFTERWARDS_SECONDS,
        ) as pod,
    ):
        status = pod.run(COMMAND, stdout, io.BytesIO(json.dumps(asked).encode()), talk)
    try:
        answer = json.loads(stdout.getvalue())
    except ValueError:
        raise NoAnswer(status) from None
    if "error" in answer:
        raise FailedThere(answer["error"], status)
    found = result.read(answer["found"])
    return Experiment(study, bundle, _at_home(found, answer["folder"], bundle.path), PYTHON)


def _at_home(found: result.Diagnosis, there: str, here: Path) -> result.Diagnosis:
    """With the script made for this machine's copy of the bundle."""
    if not found.polluter:
        return found
    script = found.polluter.script.replace(repr(there), repr(str(here)), 1)
    return replace(found, polluter=replace(found.polluter, script=script))


class _Talk:
    """A stream of bytes whose lines are told one by one."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say, self._rest = say, b""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line.decode(errors="replace"))
