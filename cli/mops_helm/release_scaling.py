"""Who owns the number of a pool's pods, when an upgrade gives it to an autoscaler or takes it back.

    manifests before and after, the live Deployments -> Handover -> flags for helm, and steps around it

The chart leaves `spec.replicas` out while a pool autoscales. helm then takes away the number that it had
stated, and Kubernetes makes it 1: pods that should stay would go. Helm 4 leaves it to whoever else states it,
so we do; Helm 3 cannot be kept from it, and the number is put back at once. In the other direction, and where
somebody changed a Deployment past helm, Helm 4 refuses to go on until it is told that the values win, as they
do with Helm 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelops_dask.kube.connect import Cluster, asking

OWNER = "mops-helm"  # what Kubernetes notes as the one who stated the number
HELM = {"helm", "helm3", "helm4"}  # their names are those of the program
TAKE_OVER = ("--server-side=true", "--force-conflicts")

Objects = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Handover:
    """Pools whose number an autoscaler gets, by Deployment; Deployments that others changed, and who did."""

    given: Mapping[str, int]
    taken: Mapping[str, str]

    def flags(self, helm_major: int) -> tuple[str, ...]:
        """What helm needs for this upgrade alone."""
        return TAKE_OVER if helm_major >= 4 and (self.given or self.taken) else ()


def find(cluster: Cluster, before: Objects, after: Objects) -> Handover:
    """What an upgrade from these manifests to those means for the numbers that are live."""
    names = [
        each["metadata"]["name"]
        for key, each in after.items()
        if each["kind"] == "Deployment" and key in before
    ]
    given, taken = {}, {}
    with asking("list Deployments", cluster.context):
        live = {
            each.metadata.name: each
            for each in cluster.apps.list_namespaced_deployment(cluster.namespace).items
        }
    for name in names:
        if name not in live:
            continue
        old, new = (objects[f"Deployment/{name}"]["spec"] for objects in (before, after))
        if "replicas" in old and "replicas" not in new:
            given[name] = live[name].spec.replicas
        if others := _others(cluster.plain(live[name]), new):
            taken[name] = ", ".join(others)
    return Handover(given, taken)


def hand_over(cluster: Cluster, handover: Handover) -> None:
    """State the numbers that helm is about to leave, so that they stay."""
    for name, replicas in handover.given.items():
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": replicas},
        }
        with asking(f"keep the number of pods of {name}", cluster.context):
            cluster.apps.patch_namespaced_deployment(
                name, cluster.namespace, body, field_manager=OWNER, force=True, _content_type=_APPLY
            )


def put_back(cluster: Cluster, handover: Handover) -> list[str]:
    """Ask for the number of pods again where it fell; the Deployments where it had."""
    fell = []
    for name, replicas in handover.given.items():
        with asking(f"put the number of pods of {name} back", cluster.context):
            now = cluster.apps.read_namespaced_deployment_scale(name, cluster.namespace).spec.replicas
            if (now or 0) < replicas:
                cluster.apps.patch_namespaced_deployment_scale(
                    name, cluster.namespace, {"spec": {"replicas": replicas}}
                )
                fell.append(name)
    return fell


_APPLY = "application/apply-patch+yaml"


def _others(deployment: Mapping[str, Any], stated: Mapping[str, Any]) -> list[str]:
    """Who besides helm has set something in its spec that the values may state too."""
    left = set() if "replicas" in stated else {"f:replicas"}  # an autoscaler's
    return sorted(
        entry["manager"]
        for entry in deployment["metadata"].get("managedFields", ())
        if entry.get("manager") not in HELM and set(entry["fieldsV1"].get("f:spec", ())) - left
    )
