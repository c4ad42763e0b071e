"""Submit a study as a Job: what a release offers, and the Job that is made from it.

    ConfigMap RELEASE-studies -> Offer;   Offer + Order -> Job, and a ConfigMap of its files -> the API server

The Job owns the ConfigMap, which is deleted with it. Both are created only if they do not exist, under a name
made from their content, so submitting twice is harmless. Specs, bundles and the state of a Job are not read
here: study_jobs.py reads the state.
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
from modelops_dask.kube.connect import (
    ANSWER_SECONDS,
    Cluster,
    RequestRefused,
    api_request,
    format_location,
    request_body,
)

STUDY, RELEASE = "modelops.io/study", "modelops.io/release"  # labels; the study's is its name, made a label
STORE, BUNDLE = "modelops.io/store", "modelops.io/bundle"  # annotations, like the following
COMMAND, CANCELLED = "modelops.io/command", "modelops.io/cancelled"
FOLDER = "/study"  # where a pod sees the files
MOST_FILE_BYTES = 900 * 1024  # all files together: an object of the API server is limited to 1 MiB
CONTAINER = "driver"
OURS = "app.kubernetes.io/managed-by=mops-helm"
REMOVED_SECONDS = 180  # for pods to end, including a minute of grace

Object = dict[str, Any]  # an object of the API, as its JSON


class NoStudies(BadInput):
    """The release does not accept studies or does not exist. `others` are releases that accept them."""

    def __init__(
        self, release: str, namespace: str, others: list[str], *, exists: bool, context: str = ""
    ) -> None:
        super().__init__(release, namespace, others, exists)
        self.release, self.namespace, self.others, self.exists = release, namespace, others, exists
        self.context = context

    def __str__(self) -> str:
        if self.exists:
            problem = (
                f"Release {self.release} does not accept studies: its values have studies.enabled=false "
                "or executor.type=none."
            )
        else:
            problem = f"Release {self.release} does not exist in namespace {self.namespace}."
        if self.others:
            return f"{problem} Releases there that accept studies: {', '.join(self.others)}"
        return (
            f"{problem} No release there accepts studies. Install one: mops-helm install RELEASE "
            f"{format_location(self.namespace, self.context)}"
        )


class StillThere(ClusterFailed):
    """A deleted Job still exists, because one of its pods does not end."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(name, command)
        self.name, self.command = name, command

    def __str__(self) -> str:
        return (
            f"Job {self.name} was deleted but still exists after {REMOVED_SECONDS} s, because one of its "
            "pods does not "
            f"end. Inspect it:  {self.command}"
        )


@dataclass(frozen=True)
class Offer:
    """What a release offers to studies: facts (the chart's release.json), and Jobs without name and
    arguments.
    """

    facts: Mapping[str, Any]
    job: Object = field(repr=False)
    chunk: Object = field(repr=False)

    @property
    def release(self) -> str:
        return self.facts["release"]


@dataclass(frozen=True)
class Order:
    """One study to run: the arguments of its driver, and the files that its pod finds in FOLDER."""

    name: str  # of Job and ConfigMap
    study: str
    store: str
    bundle: str  # digest
    command: str  # the command that submitted it
    args: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)
    chunks: int = 0  # pods of an Indexed Job; 0 is one driver


def read_offer(cluster: Cluster, release: str) -> Offer:
    """Return what a release offers, by its name or that of its objects. Raises NoStudies."""
    offers = _list_offers(cluster)
    if release in offers:
        return offers[release]
    of_release = [offer for offer in offers.values() if offer.release == release]
    if len(of_release) == 1:
        return of_release[0]
    if of_release:
        names = ", ".join(name for name, offer in offers.items() if offer.release == release)
        raise BadInput(f"Release {release} has this chart several times; name one of these: {names}")
    raise NoStudies(
        release,
        cluster.namespace,
        sorted(offers),
        exists=_has_release(cluster, release),
        context=cluster.context,
    )


def _list_offers(cluster: Cluster) -> dict[str, Offer]:
    with api_request("read what releases offer to studies", cluster.context):
        selector = "app.kubernetes.io/part-of=modelops"
        answer = cluster.core.list_namespaced_config_map(cluster.namespace, label_selector=selector)
    offers = {}
    for config_map in cluster.as_json(answer.items):
        texts = config_map.get("data") or {}
        if "release.json" in texts:
            facts, job, chunk = (json.loads(texts[f"{part}.json"]) for part in ("release", "job", "chunk"))
            offers[config_map["metadata"]["name"].removesuffix("-studies")] = Offer(facts, job, chunk)
    return offers


def _has_release(cluster: Cluster, release: str) -> bool:
    selector = f"app.kubernetes.io/part-of=modelops,app.kubernetes.io/instance={release}"
    with suppress(RequestRefused), api_request("look for the release", cluster.context):
        return bool(cluster.apps.list_namespaced_deployment(cluster.namespace, label_selector=selector).items)
    return False


def build(offer: Offer, order: Order) -> tuple[Object, Object]:
    """The Job of an order, and the ConfigMap with its files."""
    job = deepcopy(offer.chunk if order.chunks else offer.job)
    metadata, spec = job["metadata"], job["spec"]
    labels = {RELEASE: offer.release, STUDY: as_label(order.study)}
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
    container = driver_container(job["spec"]["template"])
    container["args"] = list(order.args)
    container["volumeMounts"].append({"name": "study", "mountPath": FOLDER, "readOnly": True})
    pod["volumes"].append({"name": "study", "configMap": {"name": order.name}})
    config_map: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": order.name, "labels": dict(metadata["labels"])},
        "binaryData": {name: b64encode(data).decode() for name, data in order.files.items()},
    }
    return job, config_map


def driver_container(template: Object) -> Object:
    """The container of a pod template that runs the study."""
    containers = template["spec"]["containers"]
    (container,) = (candidate for candidate in containers if candidate["name"] == CONTAINER)
    return container


def as_label(name: str) -> str:
    """A name as a label's value: at most 63 letters, digits and - _ . with a letter or digit at both ends."""
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character in "-_.") else "-"
        for character in name
    )
    return plain[:63].strip("-_.") or "study"


def read(cluster: Cluster, name: str) -> Object | None:
    """Read a Job by its name; None if it does not exist."""
    try:
        with api_request(f"read Job {name}", cluster.context):
            job = cluster.batch.read_namespaced_job(name, cluster.namespace, _request_timeout=ANSWER_SECONDS)
            return cluster.as_json(job)
    except RequestRefused as refused:
        if refused.status == 404:
            return None
        raise


def list_jobs(cluster: Cluster, release: str = "") -> list[Object]:
    """The Jobs of all studies, or of those of one release, the oldest first."""
    selector = ",".join(filter(None, (OURS, STUDY, f"{RELEASE}={release}" if release else "")))
    with api_request("list Jobs", cluster.context):
        study_jobs = cluster.batch.list_namespaced_job(cluster.namespace, label_selector=selector).items
    return sorted(map(cluster.as_json, study_jobs), key=lambda job: job["metadata"]["creationTimestamp"])


def dry_run(cluster: Cluster, job: Object, config_map: Object) -> None:
    """Let the API server validate all objects without creating them. Raises RequestRefused.

    This includes a pod, because Pod Security and quotas check pods, not Jobs.
    """
    trial = {**job, "metadata": {**job["metadata"], "name": None, "generateName": "study-"}}
    pod = {"apiVersion": "v1", "kind": "Pod", **deepcopy(job["spec"]["template"])}
    pod["metadata"]["generateName"] = "study-"
    trial_config_map = {
        **config_map,
        "metadata": {**config_map["metadata"], "name": None, "generateName": "study-"},
    }
    namespace = cluster.namespace
    with api_request("submit the study; a dry run on the API server refused its Job", cluster.context):
        cluster.batch.create_namespaced_job(namespace, request_body(trial), dry_run="All")
    with api_request("submit the study; a dry run on the API server refused its pod", cluster.context):
        cluster.core.create_namespaced_pod(namespace, request_body(pod), dry_run="All")
    with api_request("submit the study; a dry run on the API server refused its ConfigMap", cluster.context):
        cluster.core.create_namespaced_config_map(namespace, request_body(trial_config_map), dry_run="All")


def create(cluster: Cluster, job: Object, config_map: Object) -> bool:
    """Create the Job and its ConfigMap, each unless it exists. Returns whether this call created the Job."""
    name, namespace, created_here = job["metadata"]["name"], cluster.namespace, True
    try:
        with api_request(f"create Job {name}", cluster.context):
            owner = cluster.batch.create_namespaced_job(namespace, request_body(job))
    except RequestRefused as refused:
        if refused.status != 409:
            raise
        with api_request(f"read Job {name}", cluster.context):
            owner, created_here = cluster.batch.read_namespaced_job(name, namespace), False
    uid = cluster.as_json(owner)["metadata"]["uid"]
    owned_config_map = deepcopy(config_map)
    # A deleted Job is gone when its ConfigMap is.
    reference = owner_reference(name, uid) | {"blockOwnerDeletion": True}
    owned_config_map["metadata"]["ownerReferences"] = [reference]
    try:
        with api_request(f"create ConfigMap {name}", cluster.context):
            cluster.core.create_namespaced_config_map(namespace, request_body(owned_config_map))
    except RequestRefused as refused:
        if refused.status != 409:
            if created_here:
                remove(cluster, name, uid)
            raise
    return created_here


def owner_reference(name: str, uid: str) -> Object:
    """The ownerReference by which an object is deleted with a Job."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}


def cancel(cluster: Cluster, name: str) -> None:
    """End a Job as its deadline would: pods stop within their grace period, the Job remains.

    A Job that waits in a queue has no deadline yet and is deleted.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patch = {"metadata": {"annotations": {CANCELLED: now}}, "spec": {"activeDeadlineSeconds": 1}}
    with api_request(f"cancel Job {name}", cluster.context):
        job = cluster.as_json(cluster.batch.patch_namespaced_job(name, cluster.namespace, patch))
        if job["spec"].get("suspend"):
            _delete(cluster, name, job["metadata"]["uid"])


def remove(cluster: Cluster, name: str, uid: str) -> None:
    """Delete a Job with its pods and its ConfigMap, and wait until they are gone. Raises StillThere.

    Only the Job with that uid is deleted: another may have the same name now.
    """
    _delete(cluster, name, uid)
    deadline = time.monotonic() + REMOVED_SECONDS
    while (job := read(cluster, name)) and job["metadata"]["uid"] == uid:
        if time.monotonic() > deadline:
            command = cluster.kubectl("get", "pods", "-l", f"batch.kubernetes.io/job-name={name}")
            raise StillThere(name, command)
        time.sleep(0.5)


def _delete(cluster: Cluster, name: str, uid: str) -> None:
    options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
    try:
        with api_request(f"delete Job {name}", cluster.context):
            cluster.batch.delete_namespaced_job(name, cluster.namespace, body=request_body(options))
    except RequestRefused as refused:
        if refused.status not in (404, 409):  # 409: it is another Job
            raise
