"""A release with a shared volume, on a cluster whose volumes are folders of a node.

an installed release -> its volume, writable by pods that are not root -> after it claim and volume are free
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from e2e.cluster import IMAGE, Release, kubectl


@contextmanager
def shared_volume(installing: AbstractContextManager[Release]) -> Iterator[Release]:
    """A release that has sharedVolume.enabled, with that volume ready."""
    with installing as release:
        volume = release.get("pvc", "shared")["spec"]["volumeName"]
        on_the_node = json.loads(kubectl("get", "pv", volume, "--output", "json"))["spec"].get("hostPath")
        if on_the_node:
            _give_to_all(on_the_node["path"])
        yield release
    release.kubectl("delete", "pvc", f"{release.name}-shared")
    if on_the_node:  # nobody frees a folder of a node
        kubectl("patch", "pv", volume, "--patch", '{"spec": {"claimRef": null}}')


def _give_to_all(path: str) -> None:
    """Let every user write to a folder of the node: for such a volume Kubernetes does not heed fsGroup."""
    container = {"name": "chmod", "image": IMAGE, "command": ["chmod", "0777", "/volume"]}
    container |= {"volumeMounts": [{"name": "volume", "mountPath": "/volume"}]}
    container |= {"securityContext": {"runAsUser": 0}, "imagePullPolicy": "IfNotPresent"}
    volume = {"name": "volume", "hostPath": {"path": path}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "give-to-all-"}}
    pod["spec"] = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    made = kubectl("--namespace", "default", "create", "-f", "-", "--output", "name", stdin=json.dumps(pod))
    try:
        condition = "--for=jsonpath={.status.phase}=Succeeded"
        kubectl("--namespace", "default", "wait", made.strip(), condition, "--timeout=300s")
    finally:
        kubectl("--namespace", "default", "delete", made.strip(), "--grace-period=1")
