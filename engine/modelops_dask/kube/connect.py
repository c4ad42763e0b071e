"""Find the cluster, as kubectl does, and turn its errors into messages.

    a context of the kubeconfig, or a pod's service account -> Cluster(api, namespace) -> .core .batch .apps

Raises ClusterFailed with advice. Requests are not retried here: callers that must survive a lost API server
retry.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import ClusterFailed

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, AppsV1Api, BatchV1Api, Configuration, CoreV1Api

ANSWER_SECONDS = 15  # for the first answer of a cluster
IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoCluster(ClusterFailed):
    """No cluster can be reached: no configuration, no such context, no answer."""

    def __init__(self, reason: str, context: str = "") -> None:
        super().__init__(reason, context)
        self.reason = reason
        self.context = context

    def __str__(self) -> str:
        context_text = f" of context {self.context}" if self.context else ""
        command = " ".join(["kubectl", *_kubectl_context(self.context), "cluster-info"])
        return (
            f"No connection to the cluster{context_text}: {self.reason}\n"
            f"Try: {command}   (KUBECONFIG or --kube-context choose another cluster)"
        )


class NoNamespace(ClusterFailed):
    """The cluster has no such namespace."""

    def __init__(self, namespace: str, context: str = "") -> None:
        super().__init__(namespace, context)
        self.namespace, self.context = namespace, context

    def __str__(self) -> str:
        command = ["kubectl", *_kubectl_context(self.context), "create", "namespace", self.namespace]
        return (
            f"Namespace {self.namespace} does not exist in this cluster. "
            f"Create it: {' '.join(command)}   (-n chooses another)"
        )


class RequestRefused(ClusterFailed):
    """The API server refused a request. status: 403 forbidden, 404 not found, 409 already exists."""

    def __init__(self, action: str, status: int, reason: str) -> None:
        super().__init__(action, status, reason)
        self.action = action
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        problem = f"Could not {self.action}: {self.reason}"
        if self.status == 401:
            return (
                f"{problem}\nThe cluster did not accept your credentials: log in again, then try "
                "kubectl auth whoami"
            )
        if self.status == 403 and " cannot " in self.reason:  # not for a quota, which is also a 403
            return (
                f"{problem}\nYou lack the permission: ask for it, and list yours with kubectl auth "
                "can-i --list"
            )
        return problem


@dataclass(frozen=True)
class Cluster:
    """A client of the API server and the namespace to use. context is "" for the kubeconfig's current one."""

    api: "ApiClient"
    namespace: str
    context: str = ""

    @cached_property
    def core(self) -> "CoreV1Api":
        """Pods, events, ConfigMaps, quotas."""
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self.api)

    @cached_property
    def batch(self) -> "BatchV1Api":
        """Jobs."""
        from kubernetes.client import BatchV1Api

        return BatchV1Api(self.api)

    @cached_property
    def apps(self) -> "AppsV1Api":
        """Deployments and ReplicaSets."""
        from kubernetes.client import AppsV1Api

        return AppsV1Api(self.api)

    def as_json(self, answer: Any) -> Any:
        """An object of the client library, or a list of them, as the JSON of the API: camelCase, no nulls."""
        return self.api.sanitize_for_serialization(answer)

    def kubectl(self, *arguments: str) -> str:
        """A kubectl command for this cluster and namespace, to paste: kubectl -n NAMESPACE ARGUMENTS."""
        return " ".join(["kubectl", *_kubectl_context(self.context), "-n", self.namespace, *arguments])

    def add_context(self, command: str) -> str:
        """A kubectl command that names no context, for this cluster; other commands unchanged."""
        program, _, arguments = command.partition(" ")
        if program != "kubectl" or not self.context:
            return command
        return " ".join([program, *_kubectl_context(self.context), arguments])

    @property
    def flags(self) -> str:
        """The flags of mops-helm for this cluster and namespace: -n NAMESPACE --kube-context NAME."""
        return format_location(self.namespace, self.context)


def format_location(namespace: str, context: str) -> str:
    """The flags of mops-helm for a namespace and a context, "" for the current one."""
    flags = f"-n {shlex.quote(namespace)}"
    return f"{flags} --kube-context {shlex.quote(context)}" if context else flags


def _kubectl_context(context: str) -> list[str]:
    return ["--context", shlex.quote(context)] if context else []


def connect(context: str = "", namespace: str = "") -> Cluster:
    """Return the cluster of a context of the kubeconfig, or the one that this pod runs in.

    The default namespace is the context's, or the pod's. Raises NoCluster, NoNamespace.
    """
    from kubernetes import config

    paths = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
    if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep)):
        return _from_kubeconfig(context, namespace)
    if not context and (IN_POD / "token").exists():
        api = _pod_client()
        return Cluster(api, namespace or (IN_POD / "namespace").read_text().strip())
    raise NoCluster(f"no kubeconfig exists at {paths}", context)


def _from_kubeconfig(context: str, namespace: str) -> Cluster:
    import yaml
    from kubernetes import client, config

    try:
        contexts, active = config.list_kube_config_contexts()
        chosen_context = (
            next((entry for entry in contexts if entry["name"] == context), None) if context else active
        )
        if chosen_context is None:
            names = ", ".join(entry["name"] for entry in contexts)
            raise NoCluster(f"the kubeconfig has no such context; it has {names}", context)
        settings = _settings()
        config.load_kube_config(context=chosen_context["name"], client_configuration=settings)
    except (config.ConfigException, yaml.YAMLError, OSError) as error:
        raise NoCluster(str(error), context) from None
    chosen_namespace = namespace or chosen_context["context"].get("namespace") or "default"
    cluster = Cluster(client.ApiClient(settings), chosen_namespace, context)
    _check_namespace(cluster)
    return cluster


def _pod_client() -> "ApiClient":
    from kubernetes import client, config

    settings = _settings()
    config.load_incluster_config(settings)
    return client.ApiClient(settings)


def _settings() -> "Configuration":
    """A configuration without retries: the default is four, each with the caller's whole timeout."""
    from kubernetes.client import Configuration

    settings = Configuration()
    settings.retries = 0
    return settings


def _check_namespace(cluster: Cluster) -> None:
    """Raise unless the cluster answers and has the namespace; a user without permission to read it passes."""
    try:
        with api_request(f"see namespace {cluster.namespace}", cluster.context):
            cluster.core.read_namespace(cluster.namespace, _request_timeout=ANSWER_SECONDS)
    except RequestRefused as refused:
        if refused.status == 404:
            raise NoNamespace(cluster.namespace, cluster.context) from None
        if refused.status != 403:
            raise


def request_body(content: Mapping[str, Any]) -> Any:
    """The JSON of an object for the client, whose types only allow its own models."""
    return content


@contextmanager
def api_request(action: str, context: str = "") -> Iterator[None]:
    """Turn errors of the client library into RequestRefused, or NoCluster if there is no answer.

    `action` completes the sentence "Could not …".
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise RequestRefused(action, error.status or 0, _read_message(error)) from None
    except (HTTPError, OSError) as error:
        raise NoCluster(str(getattr(error, "reason", None) or error), context) from None


def _read_message(error: Any) -> str:
    """The API server's message about an error: that of its Status object, else HTTP's reason."""
    import json

    # A refused websocket has its Status at the end of the reason, after the headers.
    for text in (error.body, str(error.reason).rpartition(" -+-+- ")[2]):
        try:
            return json.loads(text)["message"]
        except (ValueError, TypeError, KeyError):
            continue
    return str(error.reason)
