"""What is in effect in a release, against what its values say.

    helm's values -> rendered manifest -> each live pod -> what each worker process reports -> Row per value

A difference anywhere is drift. Pods that are on their way out, and their processes, are left out: they finish
what they run. Changes nothing.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import exec as pod_exec
from modelops_dask.kube import pods, submitted
from modelops_dask.kube.connect import Cluster
from mops_helm import helm, release_diff, release_rollout, release_stages
from mops_helm.helm import Place
from mops_helm.release import NoRelease
from mops_helm.release_rollout import Rollout
from mops_helm.release_stages import Facts, Object

POOL = "modelops.io/pool"
NAMED = Mapping[str, tuple[str, ...]]  # what is found -> where


@dataclass(frozen=True)
class Row:
    """A value of a pool at its four stages."""

    pool: str
    name: str
    wanted: str
    rendered: str
    pods: NAMED
    processes: NAMED

    @property
    def drift(self) -> bool:
        return {self.rendered, *self.pods, *self.processes} != {self.wanted}


@dataclass(frozen=True)
class Pool:
    """Live pods of a pool, and how many worker processes answered of those that these should have."""

    name: str
    pods: tuple[str, ...]
    answered: int
    wanted: int


@dataclass(frozen=True)
class Status:
    """All of it. `unknown` says what could not be found out."""

    place: Place
    preset: str
    executor: str
    rollout: Rollout
    pools: tuple[Pool, ...]
    rows: tuple[Row, ...]
    unknown: tuple[str, ...]
    scheduler: str  # its Service
    studies: tuple[submitted.Submitted, ...] = field(repr=False)

    @property
    def drift(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.drift)

    @property
    def proven(self) -> bool:
        """Whether all that should be there is, and says that it is as wanted."""
        complete = all(pool.answered == pool.wanted for pool in self.pools)
        return self.rollout.done and complete and not self.drift and not self.unknown


def look(cluster: Cluster, place: Place) -> Status:
    """The state of a release. NoRelease, HelmFailed, Refused."""
    values = helm.values(place, with_defaults=True)
    if values is None:
        raise NoRelease(place)
    deployments = _deployments(release_diff.objects(helm.manifest(place)).values())
    rollout = release_rollout.look(cluster, place.release)
    found = pods.find(cluster, release_rollout.selector(place.release))
    live = [pod for pod in found if _lives(pod)]
    plain = values["executor"]["type"] == "none"
    answers, unknown = ([], []) if plain else _asked(cluster, values, deployments, live)
    unknown += _strangers(answers, found)
    pools, rows = [], []
    for name, deployment in deployments.items():
        own = [pod for pod in live if pod["metadata"].get("labels", {}).get(POOL) == name]
        facts = release_stages.of_values(values, name)
        hosts = {pod["status"].get("podIP") for pod in own}
        told = [each for each in answers if each["host"] in hosts and "error" not in each]
        rows += compare(name, facts, deployment, own, told)
        wanted = 0 if plain else int(facts["processes"]) * len(own)
        pools.append(Pool(name, tuple(pod["metadata"]["name"] for pod in own), len(told), wanted))
    return Status(
        place=place,
        preset=values["preset"],
        executor=values["executor"]["type"],
        rollout=rollout,
        pools=tuple(pools),
        rows=tuple(rows),
        unknown=tuple(unknown),
        scheduler=release_stages.address(next(iter(deployments.values()))).split("//")[1].split(":")[0],
        studies=tuple(submitted.listed(cluster, place.release)),
    )


def _lives(pod: Object) -> bool:
    """Whether a pod is neither on its way out nor over, as one that was evicted."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")


def _deployments(rendered: Iterable[Object]) -> dict[str, Object]:
    """The Deployment of each pool."""
    return {
        each["metadata"]["labels"][POOL]: each
        for each in rendered
        if each["kind"] == "Deployment" and POOL in each["metadata"]["labels"]
    }


def _asked(
    cluster: Cluster, values: dict[str, Any], deployments: Mapping[str, Object], live: Sequence[Object]
) -> tuple[list[Object], list[str]]:
    """What the worker processes answer, through the scheduler's pod, and what kept them from it."""
    scheduler = next(
        (
            pod["metadata"]["name"]
            for pod in live
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "scheduler" and pods.ready(pod)
        ),
        None,
    )
    if scheduler is None:
        return [], ["no scheduler is ready, so no worker process can be asked"]
    address = release_stages.address(next(iter(deployments.values())))
    keys = release_stages.dask_settings(values)
    try:
        said = pod_exec.output(cluster, scheduler, ["python", "-m", "modelops_dask.ask", address, *keys])
    except ClusterFailed as error:
        return [], [str(error)]
    answers = json.loads(said)
    return answers, [f"{each['address']}: {each['error']}" for each in answers if "error" in each]


def _strangers(answers: Sequence[Object], found: Sequence[Object]) -> list[str]:
    """Processes that no pod of the release has, of those that end too."""
    known = {pod["status"].get("podIP") for pod in found}
    return [
        f"{each['address']} is a worker, and in no pod of the release"
        for each in answers
        if each["host"] not in known
    ]


def compare(
    pool: str,
    wanted: Facts,
    deployment: Object,
    live: Sequence[Object],
    answers: Sequence[Object],
) -> list[Row]:
    """A row for each value: asked for, rendered, in each live pod, in each process that answered."""
    rendered = release_stages.of_pod(deployment["spec"]["template"])
    of_pods = {pod["metadata"]["name"]: release_stages.of_pod(pod) for pod in live}
    by_host = {pod["status"].get("podIP"): pod["metadata"]["name"] for pod in live}
    counts = Counter(each["host"] for each in answers)
    of_processes = {
        f"{by_host[each['host']]} {each['address']}": release_stages.of_process(each, counts[each["host"]])
        for each in answers
    }
    rows = []
    for name in [*wanted, *(each for each in rendered if each not in wanted)]:
        # What the chart alone computes (the image) is compared from there on; a pod says nothing of Dask's
        # configuration but its checksum, and a process nothing of its image.
        at_pods = name in rendered
        at_processes = name in wanted
        first = wanted.get(name, rendered.get(name, ""))
        rows.append(
            Row(
                pool,
                name,
                first,
                rendered.get(name, "") if at_pods else first,
                _grouped(of_pods, name) if at_pods else {},
                _grouped(of_processes, name) if at_processes else {},
            )
        )
    return rows


def _grouped(facts: Mapping[str, Facts], name: str) -> NAMED:
    found = defaultdict(list)
    for where, each in facts.items():
        found[each.get(name, "nothing")].append(where)
    return {value: tuple(places) for value, places in found.items()}
