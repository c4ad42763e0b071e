"""Pods of people who are not the release: a notebook, a neighbour. They run a program and end.

labels, program, secrets -> pod under Pod Security `restricted` -> what it printed
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from e2e.cluster import IMAGE, Release, eventually


def restricted(
    name: str, command: Sequence[str], labels: Mapping[str, str], /, **container: Any
) -> dict[str, Any]:
    """A pod of one container of IMAGE, under the name `main`, that Pod Security `restricted` lets in."""
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    main["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    user = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": user}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {**spec, "containers": [main | container]},
    }


@contextmanager
def client(
    release: Release, name: str, program: str, labels: Mapping[str, str], secrets: Sequence[str] = ()
) -> Iterator[None]:
    """A pod that runs a Python program; it is gone at the end. Secrets are mounted at /secrets/NAME."""
    pod = restricted(name, ["python", "-c", program], labels)
    (container,) = pod["spec"]["containers"]
    container["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    container["volumeMounts"] = [{"name": name, "mountPath": f"/secrets/{name}"} for name in secrets]
    pod["spec"]["volumes"] = [{"name": name, "secret": {"secretName": name}} for name in secrets]
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(pod))
    try:
        yield
    finally:
        release.kubectl("delete", "pod", name, "--grace-period", "1")


def said(release: Release, name: str) -> str:
    """What the program of a client printed, once it has ended well."""

    def phase() -> str:
        now = release.kubectl("get", "pod", name, "--output", "jsonpath={.status.phase}")
        return now if now in ("Succeeded", "Failed") else ""

    ended = eventually(phase, f"end of pod {name}")
    log = release.kubectl("logs", name)
    assert ended == "Succeeded", log
    return log
