"""Read the store of a study in the cluster: the same command, typed in a pod that sees it.

`mops-helm study VERB STORE ... --spec FILE` -> a short-lived pod made as the study's driver is -> its output,
as bytes

FILE is the study file that the Job was submitted with: its store may hold another request by now. Also
carries a bundle that is too large for a Job into a store, by the same kind of pod.
"""

import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.jobs import CONTAINER, Object, Offer
from modelops_dask.kube.pods import KILLED
from modelops_dask.kube.submitted import Submitted
from modelops_dask.kube.visit import visiting
from modelops_dask.study.breaker import DRIVER_MEMORY, TablesNeedMemory
from mops_helm.values import quantity

USAGE = 2  # exit status of a command that does not know an option
UNKNOWN = re.compile(rb"[Nn]o such option:? '?--spec")
LAST_REQUEST = (
    "This Job's image cannot tell one request of a store from another. What follows is of the store's last "
    "request, which may be another Job's."
)

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


class ReaderKilled(ClusterFailed):
    """The command was killed in its pod: an exit status of 137 and not a word."""

    def __init__(self, study: Submitted, namespace: str) -> None:
        super().__init__(study, namespace)
        self.study, self.namespace = study, namespace

    def __str__(self) -> str:
        limit = _driver(self.study.template).get("resources", {}).get("limits", {}).get("memory", "")
        try:
            had_bytes = quantity.to_bytes(limit)
        except quantity.BadQuantity:
            had_bytes = 0
        wanted = TablesNeedMemory("reading", had_bytes).wanted
        return (
            f"The pod that reads {self.study.store} was killed, probably for lack of memory: it has the "
            f"study's driver's{limit and f', {limit}'}. Results are stored. "
            "Give drivers more memory, then submit the study again:\n"
            f"  mops-helm upgrade {self.study.release} -n {self.namespace} --set {DRIVER_MEMORY}={wanted}\n"
            f"  {self.study.command}"
        )


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
    """The exit status of `mops-helm study VERB STORE WORDS` where the store is seen, for this Job's tasks.

    Raises ReaderKilled.
    """
    owner = jobs.owned_by(study.job, study.uid)
    command, request = ["mops-helm", "study", verb, study.store, *words], request_words(study)
    with visiting(cluster, study.template, study.job, say, owner) as visit:
        errors = io.BytesIO()  # until it is known whether the command took --spec
        try:
            if request:
                code = visit.run([*command, *request], stdout, stderr=errors)
                if code != USAGE or not UNKNOWN.search(errors.getvalue()):
                    return _whole(code, study, cluster)
                errors = io.BytesIO()
            say(LAST_REQUEST)
            return _whole(visit.run(command, stdout, stderr=errors), study, cluster)
        finally:
            sys.stderr.buffer.write(errors.getvalue())
            sys.stderr.flush()


def _whole(code: int, study: Submitted, cluster: Cluster) -> int:
    """The exit status of a command that was not killed. ReaderKilled."""
    if code == KILLED:
        raise ReaderKilled(study, cluster.namespace)
    return code


def request_words(study: Submitted) -> list[str]:
    """--spec and the study file of a Job as its pods see it; [] for a Job that does not say."""
    words = list(_driver(study.template).get("args") or ())
    at = words.index("--spec") if "--spec" in words else len(words)
    return words[at : at + 2]


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


def _driver(template: Object) -> Object:
    (container,) = (one for one in template["spec"]["containers"] if one["name"] == CONTAINER)
    return container


def _variables(template: Object) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in _driver(template).get("env", ())}
