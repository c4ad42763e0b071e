"""Read the store of a study in the cluster by running the same command in a pod that can access it.

    `mops-helm study VERB STORE ... --spec FILE` -> a short-lived pod like the study's driver -> its output

FILE is the study file that the Job was submitted with, because its store may hold another request by now. The
same kind of pod puts a bundle that is too large for a Job into a store.
"""

import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import jobs, study_jobs
from modelops_dask.kube.connect import Cluster, connect
from modelops_dask.kube.jobs import CONTAINER, Object, Offer
from modelops_dask.kube.pods import KILLED
from modelops_dask.kube.study_jobs import StudyJob
from modelops_dask.kube.visit import open_visit
from modelops_dask.pod import upload
from modelops_dask.study.breaker import DRIVER_MEMORY, TablesNeedMemory
from mops_helm.values import quantity

Say = Callable[[str], None]

USAGE = 2  # exit status of a command for an unknown option
UNKNOWN = re.compile(rb"[Nn]o such option:? '?--(spec|table)|Invalid value for '-o'")
LAST_REQUEST = (
    "This Job's image cannot distinguish the requests of a store. The following belongs to the store's last "
    "request, which may be another Job's."
)


class ReaderKilled(ClusterFailed):
    """The command was killed in its pod: exit status 137 without a message."""

    def __init__(self, study: StudyJob, location: str) -> None:
        super().__init__(study, location)
        self.study, self.location = study, location

    def __str__(self) -> str:
        limit = _find_driver(self.study.template).get("resources", {}).get("limits", {}).get("memory", "")
        try:
            limit_bytes = quantity.to_bytes(limit)
        except quantity.BadQuantity:
            limit_bytes = 0
        memory = TablesNeedMemory("reading", limit_bytes).suggested_memory
        return (
            f"The pod that reads {self.study.store} was killed, probably for lack of memory: it has the "
            "memory limit of the "
            f"study's driver{limit and f', {limit}'}. Results are stored. "
            "Give drivers more memory, then submit the study again:\n"
            f"  mops-helm upgrade {self.study.release} {self.location} --set {DRIVER_MEMORY}={memory}\n"
            f"  {self.study.command}"
        )


class NotSent(ClusterFailed):
    """A bundle did not reach the store."""

    def __init__(self, store: str, message: str) -> None:
        super().__init__(store, message)
        self.store, self.message = store, message

    def __str__(self) -> str:
        return f"The bundle could not be copied to {self.store}:\n{self.message}"


def read_study_in_cluster(
    name: str,
    namespace: str,
    context: str,
    verb: str,
    arguments: Sequence[str],
    *,
    stdout: BinaryIO,
    say: Say,
) -> int:
    """Run `mops-helm study VERB` for a study in the cluster, and return its exit status.

    Args:
        name: The study's name, or its Job's.
        namespace: "" for the context's.
        context: "" for the current one.
        verb: status, results, report or verify.
        arguments: The arguments after the store on that command's line.
        stdout: Receives the output of the command.
        say: Receives messages while waiting for the pod.
    """
    cluster = connect(context, namespace)
    study = study_jobs.find_study_job(cluster, name)
    if verb == "verify" and _runs_tasks(arguments):
        arguments = [*arguments, *rerun_arguments(study)]
    code = run_in_pod(cluster, study, verb, arguments, stdout, say=say)
    stdout.flush()
    return code


def _runs_tasks(arguments: Sequence[str]) -> bool:
    """Whether `study verify` with these arguments, --sample first, runs tasks again."""
    return "--sample" in arguments and arguments[1] != "0"


def run_in_pod(
    cluster: Cluster, study: StudyJob, verb: str, arguments: Sequence[str], stdout: BinaryIO, *, say: Say
) -> int:
    """Run `mops-helm study VERB STORE ARGUMENTS` where the store is accessible; return its exit status.

    The tasks are those of this Job.

    Raises ReaderKilled.
    """
    owner = jobs.owner_reference(study.job, study.uid)
    command, request = ["mops-helm", "study", verb, study.store, *arguments], request_arguments(study)
    spellings = _list_spellings(command, request)
    errors = io.BytesIO()  # until it is known whether the image understood the command
    with open_visit(cluster, study.template, study.job, say, owner) as visit:
        if not request:
            say(LAST_REQUEST)
        try:
            for words in spellings:
                if request and words is spellings[-1]:
                    say(LAST_REQUEST)
                errors = io.BytesIO()
                code = visit.run(words, stdout, stderr=errors)
                if code != USAGE or not UNKNOWN.search(errors.getvalue()):
                    break
            return _check_status(code, study, cluster)
        finally:
            sys.stderr.buffer.write(errors.getvalue())
            sys.stderr.flush()


def _list_spellings(command: list[str], request: list[str]) -> list[list[str]]:
    """A command in the spelling of this version, then of 0.1, then without options that 0.1 lacks."""
    next_words = [*command[1:], ""]
    old_command = [
        "--output" if word == "--table" else "--to" if word == "-o" and value in ("csv", "parquet") else word
        for word, value in zip(command, next_words, strict=True)
    ]
    spellings = [[*command, *request], [*old_command, *request], old_command]
    return [words for index, words in enumerate(spellings) if words not in spellings[:index]]


def _check_status(code: int, study: StudyJob, cluster: Cluster) -> int:
    """The exit status of a command that was not killed. Raises ReaderKilled."""
    if code == KILLED:
        raise ReaderKilled(study, cluster.flags)
    return code


def request_arguments(study: StudyJob) -> list[str]:
    """--spec and the study file of a Job in its pods; [] for a Job without this fact."""
    arguments = list(_find_driver(study.template).get("args") or ())
    index = arguments.index("--spec") if "--spec" in arguments else len(arguments)
    return arguments[index : index + 2]


def rerun_arguments(study: StudyJob) -> list[str]:
    """For `verify --sample`: the environment that the release uses."""
    kind = _read_variables(study.template).get("MODELOPS_EXECUTOR_ENVIRONMENT", "bundle")
    return ["--set", f"executor.environment={kind}"]


def send_bundle(cluster: Cluster, offer: Offer, store: str, digest: str, data: bytes, *, say: Say) -> None:
    """Put a bundle into a store, like a driver of that release. Raises NotSent."""
    log = io.BytesIO()
    template = offer.job["spec"]["template"]
    with open_visit(cluster, template, "study", say) as visit:
        command = ["python", "-c", inspect.getsource(upload), store, digest]
        if visit.run(command, log, stdin=io.BytesIO(data), stderr=log) != 0:
            raise NotSent(store, log.getvalue().decode(errors="replace").strip())


def _find_driver(template: Object) -> Object:
    containers = template["spec"]["containers"]
    (container,) = (container for container in containers if container["name"] == CONTAINER)
    return container


def _read_variables(template: Object) -> dict[str, str]:
    variables = _find_driver(template).get("env", ())
    return {variable["name"]: variable.get("value", "") for variable in variables}
