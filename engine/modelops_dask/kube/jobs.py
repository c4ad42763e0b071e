"""A study as a Job: what a release offers, and the Job that is made of it.

    ConfigMap RELEASE-studies -> Offer;   Offer + Order -> Job, and a ConfigMap of its files -> the API server

The ConfigMap is owned by the Job and goes with it. Both are created only if they are absent, under a name
that is made of what they hold: whoever comes second finds his own. Does not read specs or bundles, and does
not judge: submitted.py says what becomes of a Job.
"""

import json
import time
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from modelops_dask.errors import BadInput, ClusterFailed
from modelops_dask.kube.connect import ANSWER_SECONDS, Cluster, Refused, asking

STUDY, RELEASE = "modelops.io/study", "modelops.io/release"  # labels; the study's is its name, made a label
STORE, BUNDLE = "modelops.io/store", "modelops.io/bundle"  # annotations, as the next
COMMAND, CANCELLED = "modelops.io/command", "modelops.io/cancelled"
FOLDER = "/study"  # where a pod sees the files
MOST_FILE_BYTES = 900 * 1024  # of all files together: an object of the API server has 1 MiB for everything
CONTAINER = "driver"
OURS = "app.kubernetes.io/managed-by=mops-helm"
REMOVED_SECONDS = 180  # for pods to end, a minute of grace among it

Object = dict[str, Any]  # an object of the API, as its JSON


class NoStudies(BadInput):
    """A release that takes no studies, or that is not there. `others` do take them."""

    def __init__(self, release: str, namespace: str, others: list[str], *, exists: bool) -> None:
        super().__init__(release, namespace, others, exists)
        self.release, self.namespace, self.others, self.exists = release, namespace, others, exists

    def __str__(self) -> str:
        if self.exists:
            said = (
                f"Release {self.release} takes no studies: its values have studies.enabled=false, "
                "or executor.type=none."
            )
        else:
            said = f"There is no release {self.release} in namespace {self.namespace}."
        if self.others:
            return f"{said} Releases there that take studies: {', '.join(self.others)}"
        return f"{said} No release there takes studies (mops-helm install RELEASE -n {self.namespace})."


class StillThere(ClusterFailed):
    """A Job that was deleted does not go: a pod of it does not end."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(name, command)
        self.name, self.command = name, command

    def __str__(self) -> str:
        return (
            f"Job {self.name} was deleted and is still there after {REMOVED_SECONDS} s: a pod of it does not "
            f"end. Look at it:  {self.command}"
        )


@dataclass(frozen=True)
class Offer:
    """What a release has for studies: facts (the chart's release.json), Jobs without name and arguments."""

    facts: Mapping[str, Any]
    job: Object = field(repr=False)
    chunk: Object = field(repr=False)

    @property
    def release(self) -> str:
        return self.facts["release"]


@dataclass(frozen=True)
class Order:
    """One study to be run: the arguments of its driver and the files that it finds in FOLDER."""

    name: str  # of Job and ConfigMap
    study: str
    store: str
    bundle: str  # digest
    command: str  # how it was submitted
    args: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)
    chunks: int = 0  # pods of an Indexed Job; 0 is one driver


def offer(cluster: Cluster, release: str) -> Offer:
    """What a release offers, by its name or by that of its objects. NoStudies."""
    found = _offers(cluster)
    if release in found:
        return found[release]
    of_release = [one for one in found.values() if one.release == release]
    if len(of_release) == 1:
        return of_release[0]
    if of_release:
        names = ", ".join(name for name, one in found.items() if one.release == release)
        raise BadInput(f"Release {release} has this chart several times; name one of them: {names}")
    raise NoStudies(release, cluster.namespace, sorted(found), exists=_exists(cluster, release))


def _offers(cluster: Cluster) -> dict[str, Offer]:
    with asking("read what releases offer to studies", cluster.context):
        selector = "app.kubernetes.io/part-of=modelops"
        maps = cluster.core.list_namespaced_config_map(cluster.namespace, label_selector=selector).items
    found = {}
    for each in maps:
        if "release.json" in (each.data or {}):
            name = each.metadata.name.removesuffix("-studies")
            found[name] = Offer(
                *(json.loads(each.data[f"{part}.json"]) for part in ("release", "job", "chunk"))
            )
    return found


def _exists(cluster: Cluster, release: str) -> bool:
    selector = f"app.kubernetes.io/part-of=modelops,app.kubernetes.io/instance={release}"
    with suppress(Refused), asking("look for the release", cluster.context):
        return bool(cluster.apps.list_namespaced_deployment(cluster.namespace, label_selector=selector).items)
    return False


def build(offered: Offer, order: Order) -> tuple[Object, Object]:
    """The Job of an order, and the ConfigMap with its files."""
    job = deepcopy(offered.chunk if order.chunks else offered.job)
    metadata, spec = job["metadata"], job["spec"]
    labels = {RELEASE: offered.release, STUDY: as_label(order.study)}
    metadata["name"] = order.name
    metadata.setdefault("labels", {}).update(labels)
    metadata["annotations"] = {
        STUDY: order.study,
        STORE: order.store,
        BUNDLE: order.bundle,
        COMMAND: order.command,
    }
    if order.chunks:
        spec["completions"] = spec["parallelism"] = order.chunks
    template = spec["template"]
    template["metadata"].setdefault("labels", {}).update(labels)
    pod = template["spec"]
    container = next(one for one in pod["containers"] if one["name"] == CONTAINER)
    container["args"] = list(order.args)
    container["volumeMounts"].append({"name": "study", "mountPath": FOLDER, "readOnly": True})
    pod["volumes"].append({"name": "study", "configMap": {"name": order.name}})
    kept: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": order.name, "labels": dict(metadata["labels"])},
        "binaryData": {name: b64encode(data).decode() for name, data in order.files.items()},
    }
    return job, kept


def as_label(name: str) -> str:
    """A name as the value of a label: 63 characters at most, of letters, digits, - _ . and ends that are not
    signs.
    """
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "-_.") else "-" for one in name)
    return plain[:63].strip("-_.") or "study"


def read(cluster: Cluster, name: str) -> Object | None:
    """A Job by its name; None when there is none."""
    try:
        with asking(f"read Job {name}", cluster.context):
            found = cluster.batch.read_namespaced_job(
                name, cluster.namespace, _request_timeout=ANSWER_SECONDS
            )
            return cluster.plain(found)
    except Refused as refused:
        if refused.status == 404:
            return None
        raise


def listed(cluster: Cluster, release: str = "") -> list[Object]:
    """The Jobs of all studies, or of those of one release, the oldest first."""
    selector = ",".join(filter(None, (OURS, STUDY, f"{RELEASE}={release}" if release else "")))
    with asking("list Jobs", cluster.context):
        found = cluster.batch.list_namespaced_job(cluster.namespace, label_selector=selector).items
    return sorted(map(cluster.plain, found), key=lambda job: job["metadata"]["creationTimestamp"])


def rehearse(cluster: Cluster, job: Object, kept: Object) -> None:
    """Have the API server judge all that would be created, a pod too: Pod Security and quotas judge pods.

    Refused, with its message; nothing is created.
    """
    trial = {**job, "metadata": {**job["metadata"], "name": None, "generateName": "study-"}}
    pod = {"apiVersion": "v1", "kind": "Pod", **deepcopy(job["spec"]["template"])}
    pod["metadata"]["generateName"] = "study-"
    ours = {**kept, "metadata": {**kept["metadata"], "name": None, "generateName": "study-"}}
    where, ask = cluster.namespace, {"dry_run": "All"}
    with asking("submit the study; the API server, asked beforehand, refuses its Job", cluster.context):
        cluster.batch.create_namespaced_job(where, trial, **ask)
    with asking("submit the study; the API server, asked beforehand, refuses its pod", cluster.context):
        cluster.core.create_namespaced_pod(where, pod, **ask)
    with asking("submit the study; the API server, asked beforehand, refuses its ConfigMap", cluster.context):
        cluster.core.create_namespaced_config_map(where, ours, **ask)


def create(cluster: Cluster, job: Object, kept: Object) -> bool:
    """Create the Job and its files, each unless it is there; whether the Job is this call's."""
    name, where, ours = job["metadata"]["name"], cluster.namespace, True
    try:
        with asking(f"create Job {name}", cluster.context):
            owner = cluster.batch.create_namespaced_job(where, job)
    except Refused as refused:
        if refused.status != 409:
            raise
        with asking(f"read Job {name}", cluster.context):
            owner, ours = cluster.batch.read_namespaced_job(name, where), False
    owned = deepcopy(kept)
    # A Job that is deleted is then gone when its ConfigMap is.
    owned["metadata"]["ownerReferences"] = [owned_by(name, owner.metadata.uid) | {"blockOwnerDeletion": True}]
    try:
        with asking(f"create ConfigMap {name}", cluster.context):
            cluster.core.create_namespaced_config_map(where, owned)
    except Refused as refused:
        if refused.status != 409:
            if ours:
                remove(cluster, name, owner.metadata.uid)
            raise
    return ours


def owned_by(name: str, uid: str) -> Object:
    """What makes an object go when a Job goes."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}


def cancel(cluster: Cluster, name: str) -> None:
    """End a Job as its deadline would: pods are told to stop and have their grace period, the Job remains.

    A Job that waits in a queue and never began has no deadline: it is deleted.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patch = {"metadata": {"annotations": {CANCELLED: now}}, "spec": {"activeDeadlineSeconds": 1}}
    with asking(f"cancel Job {name}", cluster.context):
        job = cluster.batch.patch_namespaced_job(name, cluster.namespace, patch)
        if job.spec.suspend:
            _delete(cluster, name, job.metadata.uid)


def remove(cluster: Cluster, name: str, uid: str) -> None:
    """Delete a Job with its pods and its ConfigMap, and wait until they are gone. StillThere.

    Only the Job of that uid: another may have taken its place by now, somebody else's.
    """
    _delete(cluster, name, uid)
    deadline = time.monotonic() + REMOVED_SECONDS
    while (found := read(cluster, name)) and found["metadata"]["uid"] == uid:
        if time.monotonic() > deadline:
            look = cluster.kubectl("get", "pods", "-l", f"batch.kubernetes.io/job-name={name}")
            raise StillThere(name, look)
        time.sleep(0.5)


def _delete(cluster: Cluster, name: str, uid: str) -> None:
    options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
    try:
        with asking(f"delete Job {name}", cluster.context):
            cluster.batch.delete_namespaced_job(name, cluster.namespace, body=options)
    except Refused as refused:
        if refused.status not in (404, 409):  # 409: it is another
            raise
