"""Read the store of a study in the cluster: the same command, typed in a pod that sees it.

`mops-helm study VERB STORE ...` -> a short-lived pod made as the study's driver is -> its output, as bytes

Also carries a bundle that is too large for a Job into a store, by the same kind of pod.
"""

import io
from collections.abc import Callable, Sequence
from typing import BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.jobs import CONTAINER, Object, Offer
from modelops_dask.kube.submitted import Submitted
from modelops_dask.kube.visit import visiting

KEEP = """
import sys
from modelops_dask.errors import MopsError
from modelops_dask.store.bundles import keep
from modelops_dask.store.files import Files
data = sys.stdin.buffer.read()
try:
    keep(Files(sys.argv[1]), sys.argv[2], data)
except MopsError as error:
    sys.exit(str(error))
"""


class NotSent(ClusterFailed):
    """A bundle did not reach the store."""

    def __init__(self, store: str, said: str) -> None:
        super().__init__(store, said)
        self.store, self.said = store, said

    def __str__(self) -> str:
        return f"The bundle could not be put into {self.store}:\n{self.said}"


def run(
    cluster: Cluster, study: Submitted, verb: str, words: Sequence[str], stdout: BinaryIO, say: Callable
) -> int:
    """The exit status of `mops-helm study VERB STORE WORDS` where the store is seen."""
    owner = jobs.owned_by(study.job, study.uid)
    with visiting(cluster, study.template, study.job, say, owner) as visit:
        return visit.run(["mops-helm", "study", verb, study.store, *words], stdout)


def rerun_words(study: Submitted) -> list[str]:
    """For `verify --sample`: the environment that the release uses."""
    kind = _variables(study.template).get("MODELOPS_EXECUTOR_ENVIRONMENT", "bundle")
    return ["--set", f"executor.environment={kind}"]


def send(cluster: Cluster, offered: Offer, store: str, digest: str, data: bytes, say: Callable) -> None:
    """Put a bundle into a store, as a driver of that release would. NotSent."""
    said = io.BytesIO()
    template = offered.job["spec"]["template"]
    with visiting(cluster, template, "study", say) as visit:
        command = ["python", "-c", KEEP, store, digest]
        if visit.run(command, said, stdin=io.BytesIO(data), stderr=said) != 0:
            raise NotSent(store, said.getvalue().decode(errors="replace").strip())


def _variables(template: Object) -> dict[str, str]:
    (container,) = (one for one in template["spec"]["containers"] if one["name"] == CONTAINER)
    return {one["name"]: one.get("value", "") for one in container.get("env", ())}
