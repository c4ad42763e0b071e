"""Compare the settings in effect in a release with its values.

    helm's values -> rendered manifest -> each live pod -> the report of each worker process -> Row per value

A difference anywhere is drift. Ending pods, and their processes, are left out: they finish their tasks.
Nothing is changed here.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import exec as pod_exec
from modelops_dask.kube import pods, study_jobs
from modelops_dask.kube.connect import Cluster
from mops_helm import helm
from mops_helm.helm import ReleaseRef
from mops_helm.release import diff as release_diff
from mops_helm.release import rollout as release_rollout
from mops_helm.release import stages as release_stages
from mops_helm.release.diff import Object
from mops_helm.release.release import NoRelease
from mops_helm.release.rollout import Rollout
from mops_helm.release.stages import Facts
from mops_helm.values.tree import ValueTree, flatten_dotted

POOL = "modelops.io/pool"
SourcesByValue = Mapping[str, tuple[str, ...]]  # text -> names of the pods or processes that report it


@dataclass(frozen=True)
class ValueStages:
    """A value of a pool at its four stages."""

    pool: str
    name: str
    value: str
    rendered: str
    pods: SourcesByValue
    processes: SourcesByValue

    @property
    def drift(self) -> bool:
        return {self.rendered, *self.pods, *self.processes} != {self.value}


@dataclass(frozen=True)
class PoolStatus:
    """Live pods of a pool, and how many of their worker processes answered."""

    name: str
    pods: tuple[str, ...]
    answered: int
    n_processes: int


@dataclass(frozen=True)
class Status:
    """The status of a release. `unknown` describes facts that could not be determined."""

    place: ReleaseRef
    preset: str
    executor: str
    rollout: Rollout
    pools: tuple[PoolStatus, ...]
    rows: tuple[ValueStages, ...]
    unknown: tuple[str, ...]
    scheduler: str  # its Service
    studies: tuple[study_jobs.StudyJob, ...] = field(repr=False)

    @property
    def drift(self) -> tuple[ValueStages, ...]:
        return tuple(row for row in self.rows if row.drift)

    @property
    def proven(self) -> bool:
        """Whether all expected pods and processes exist and match the values."""
        complete = all(pool.answered == pool.n_processes for pool in self.pools)
        return self.rollout.complete and complete and not self.drift and not self.unknown


def read_status(cluster: Cluster, place: ReleaseRef) -> Status:
    """The state of a release. Raises NoRelease, HelmFailed, RequestRefused."""
    values = helm.values(place, with_defaults=True)
    if values is None:
        raise NoRelease(place)
    own_names = flatten_dotted(values).keys()
    values = release_stages.complete_values(values)
    deployments = _by_pool(release_diff.objects(helm.manifest(place)).values())
    rollout = release_rollout.read_rollout(cluster, place.release)
    release_pods = pods.list_pods(cluster, release_rollout.selector(place.release))
    live = [pod for pod in release_pods if _is_live(pod)]
    is_plain_dask = values["executor"]["type"] == "none"
    answers, unknown = ([], []) if is_plain_dask else _ask_processes(cluster, values, deployments, live)
    unknown += _find_strangers(answers, release_pods)
    pools, rows = [], []
    for name, deployment in deployments.items():
        pool_pods = [pod for pod in live if pod["metadata"].get("labels", {}).get(POOL) == name]
        facts = release_stages.read_values(values, name, own_names)
        hosts = {pod["status"].get("podIP") for pod in pool_pods}
        pool_answers = [answer for answer in answers if answer["host"] in hosts and "error" not in answer]
        rows += compare(name, facts, deployment, pool_pods, pool_answers)
        n_processes = 0 if is_plain_dask else int(facts["processes"]) * len(pool_pods)
        pod_names = tuple(pod["metadata"]["name"] for pod in pool_pods)
        pools.append(PoolStatus(name, pod_names, len(pool_answers), n_processes))
    address = release_stages.scheduler_address(next(iter(deployments.values())))
    return Status(
        place=place,
        preset=values["preset"],
        executor=values["executor"]["type"],
        rollout=rollout,
        pools=tuple(pools),
        rows=tuple(rows),
        unknown=tuple(unknown),
        scheduler=address.split("//")[1].split(":")[0],
        studies=tuple(study_jobs.list_study_jobs(cluster, place.release)),
    )


def _is_live(pod: Object) -> bool:
    """Whether a pod is neither ending nor has ended, such as an evicted one."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")


def _by_pool(rendered: Iterable[Object]) -> dict[str, Object]:
    """The Deployment of each pool."""
    return {
        manifest["metadata"]["labels"][POOL]: manifest
        for manifest in rendered
        if manifest["kind"] == "Deployment" and POOL in manifest["metadata"]["labels"]
    }


def _ask_processes(
    cluster: Cluster, values: ValueTree, deployments: Mapping[str, Object], live: Sequence[Object]
) -> tuple[list[Object], list[str]]:
    """The answers of the worker processes, through the scheduler's pod, and what prevented them."""
    scheduler = next(
        (
            pod["metadata"]["name"]
            for pod in live
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "scheduler"
            and pods.is_ready(pod)
        ),
        None,
    )
    if scheduler is None:
        return [], ["no scheduler is ready, so no worker process can be asked"]
    address = release_stages.scheduler_address(next(iter(deployments.values())))
    keys = release_stages.dask_settings(values)
    try:
        output = pod_exec.output(cluster, scheduler, ["python", "-m", "modelops_dask.ask", address, *keys])
    except ClusterFailed as error:
        return [], [str(error)]
    answers = json.loads(output)
    return answers, [f"{answer['address']}: {answer['error']}" for answer in answers if "error" in answer]


def _find_strangers(answers: Sequence[Object], release_pods: Sequence[Object]) -> list[str]:
    """Processes that belong to no pod of the release, including ending ones."""
    addresses = {pod["status"].get("podIP") for pod in release_pods}
    return [
        f"{answer['address']} is a worker, but not in a pod of the release"
        for answer in answers
        if answer["host"] not in addresses
    ]


def compare(
    pool: str,
    values: Facts,
    deployment: Object,
    live: Sequence[Object],
    answers: Sequence[Object],
) -> list[ValueStages]:
    """A row for each value: requested, rendered, in each live pod, in each process that answered."""
    rendered = release_stages.read_pod(deployment["spec"]["template"])
    pod_facts = {pod["metadata"]["name"]: release_stages.read_pod(pod) for pod in live}
    by_host = {pod["status"].get("podIP"): pod["metadata"]["name"] for pod in live}
    counts = Counter(answer["host"] for answer in answers)
    process_facts = {
        f"{by_host[answer['host']]} {answer['address']}": release_stages.read_process(
            answer, counts[answer["host"]]
        )
        for answer in answers
    }
    rows = []
    for name in [*values, *(other for other in rendered if other not in values)]:
        # Values that only the chart computes (the image) are compared from there on; a pod has only a
        # checksum of Dask's configuration, and a process does not know its image.
        at_pods = name in rendered
        at_processes = name in values
        value = values.get(name, rendered.get(name, ""))
        rows.append(
            ValueStages(
                pool=pool,
                name=name,
                value=value,
                rendered=rendered.get(name, "") if at_pods else value,
                pods=_group_by_value(pod_facts, name) if at_pods else {},
                processes=_group_by_value(process_facts, name) if at_processes else {},
            )
        )
    return rows


def _group_by_value(facts: Mapping[str, Facts], name: str) -> SourcesByValue:
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for source, source_facts in facts.items():
        sources[source_facts.get(name, "nothing")].append(source)
    return {value: tuple(names) for value, names in sources.items()}
