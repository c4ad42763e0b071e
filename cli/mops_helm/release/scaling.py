"""The owner of the number of a pool's pods, when an upgrade gives it to an autoscaler or takes it back.

    manifests before and after, the live Deployments -> Handover -> flags for helm, and steps around it

The chart leaves `spec.replicas` out while a pool autoscales. helm then removes the number that it had set,
and Kubernetes sets it to 1: pods that should stay would end. Helm 4 leaves it to another manager that sets
it, so we do that; Helm 3 cannot be prevented from removing it, and the number is restored immediately. In the
other direction, and if a Deployment was changed by others than helm, Helm 4 refuses to continue unless it may
override the changes, as Helm 3 does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelops_dask.kube.connect import Cluster, api_request
from mops_helm.release.diff import Object, Objects

OWNER = "mops-helm"  # the manager that Kubernetes records for the number
HELM = {"helm", "helm3", "helm4"}  # names of helm's managers begin with the program's
TAKE_OVER = ("--server-side=true", "--force-conflicts")


@dataclass(frozen=True)
class Handover:
    """The pods of each Deployment that an autoscaler gets, and other managers of each Deployment."""

    n_pods: Mapping[str, int]
    managers: Mapping[str, str]

    def flags(self, helm_major: int) -> tuple[str, ...]:
        """The flags that helm needs for this upgrade only."""
        return TAKE_OVER if helm_major >= 4 and (self.n_pods or self.managers) else ()


def plan_handover(cluster: Cluster, before: Objects, after: Objects) -> Handover:
    """The consequences of an upgrade from these manifests to those for the live numbers."""
    names = [
        manifest["metadata"]["name"]
        for key, manifest in after.items()
        if manifest["kind"] == "Deployment" and key in before
    ]
    n_pods, managers = {}, {}
    with api_request("list Deployments", cluster.context):
        response = cluster.apps.list_namespaced_deployment(cluster.namespace)
    live = {manifest["metadata"]["name"]: manifest for manifest in cluster.as_json(response.items)}
    for name in names:
        if name not in live:
            continue
        old, new = (objects[f"Deployment/{name}"]["spec"] for objects in (before, after))
        if "replicas" in old and "replicas" not in new:
            n_pods[name] = live[name]["spec"]["replicas"]
        if names_of_managers := _find_managers(live[name], new):
            managers[name] = ", ".join(names_of_managers)
    return Handover(n_pods, managers)


def hand_over(cluster: Cluster, handover: Handover) -> None:
    """Set the numbers that helm is about to remove, so that they stay."""
    for name, replicas in handover.n_pods.items():
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": replicas},
        }
        with api_request(f"keep the number of pods of {name}", cluster.context):
            cluster.apps.patch_namespaced_deployment(
                name, cluster.namespace, body, field_manager=OWNER, force=True, _content_type=_APPLY
            )


def put_back(cluster: Cluster, handover: Handover) -> list[str]:
    """Restore numbers of pods that fell; returns these Deployments."""
    lowered = []
    for name, replicas in handover.n_pods.items():
        with api_request(f"restore the number of pods of {name}", cluster.context):
            scale = cluster.apps.read_namespaced_deployment_scale(name, cluster.namespace)
            n_live = (scale.spec.replicas if scale.spec else None) or 0
            if n_live < replicas:
                cluster.apps.patch_namespaced_deployment_scale(
                    name, cluster.namespace, {"spec": {"replicas": replicas}}
                )
                lowered.append(name)
    return lowered


_APPLY = "application/apply-patch+yaml"


def _find_managers(deployment: Object, spec: Mapping[str, Any]) -> list[str]:
    """Managers other than helm that set something in its spec that the values may also set."""
    autoscaled = set() if "replicas" in spec else {"f:replicas"}
    return sorted(
        entry["manager"]
        for entry in deployment["metadata"].get("managedFields", ())
        if entry.get("manager") not in HELM and set(entry["fieldsV1"].get("f:spec", ())) - autoscaled
    )
