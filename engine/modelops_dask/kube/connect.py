"""Find the cluster, as kubectl does, and word what it refuses.

    a context of the kubeconfig, or a pod's service account -> Cluster(api, namespace) -> .core .batch .apps

Raises ClusterFailed that says what to do. Does not retry: whoever must outlive a lost API server does that.
"""

import os
from collections.abc import Iterator
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
    """There is no way to a cluster: no configuration, no such context, no answer."""

    def __init__(self, reason: str, context: str = "") -> None:
        super().__init__(reason, context)
        self.reason = reason
        self.context = context

    def __str__(self) -> str:
        named = f" of context {self.context}" if self.context else ""
        return (
            f"No connection to the cluster{named}: {self.reason}\n"
            "Try: kubectl cluster-info   (KUBECONFIG or --kube-context choose another cluster)"
        )


class NoNamespace(ClusterFailed):
    """The cluster has no such namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.namespace = namespace

    def __str__(self) -> str:
        return (
            f"There is no namespace {self.namespace} in this cluster. "
            f"Create it: kubectl create namespace {self.namespace}   (-n chooses another)"
        )


class Refused(ClusterFailed):
    """The API server said no. status is HTTP's: 403 forbidden, 404 not there, 409 there already."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(what, status, reason)
        self.what = what
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        said = f"Could not {self.what}: {self.reason}"
        if self.status == 401:
            return f"{said}\nThe cluster does not know you: log in again, then try kubectl auth whoami"
        if self.status == 403 and " cannot " in self.reason:  # not a quota, which is a 403 too
            return f"{said}\nYou lack the right: ask for it, and see yours with kubectl auth can-i --list"
        return said


@dataclass(frozen=True)
class Cluster:
    """A way to the API server, and the namespace that is meant. context is "" for the kubeconfig's own."""

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

    def plain(self, answer: Any) -> Any:
        """An object of the client library, or a list of them, as the API's own JSON: camelCase, no nulls."""
        return self.api.sanitize_for_serialization(answer)

    def kubectl(self, *words: str) -> str:
        """The same cluster and namespace as a line to paste: kubectl -n NAMESPACE WORDS."""
        context = ["--context", self.context] if self.context else []
        return " ".join(["kubectl", *context, "-n", self.namespace, *words])


def connect(context: str = "", namespace: str = "") -> Cluster:
    """The cluster of a context of the kubeconfig, or that of the pod that this runs in.

    Without a namespace it is the context's own, or the pod's. Raises NoCluster, NoNamespace.
    """
    from kubernetes import config

    paths = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
    if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep)):
        return _from_kubeconfig(context, namespace)
    if not context and (IN_POD / "token").exists():
        api = _pod_client()
        return Cluster(api, namespace or (IN_POD / "namespace").read_text().strip())
    raise NoCluster(f"there is no kubeconfig at {paths}", context)


def _from_kubeconfig(context: str, namespace: str) -> Cluster:
    import yaml
    from kubernetes import client, config

    try:
        contexts, active = config.list_kube_config_contexts()
        chosen = next((one for one in contexts if one["name"] == context), None) if context else active
        if chosen is None:
            names = ", ".join(one["name"] for one in contexts)
            raise NoCluster(f"the kubeconfig has no such context; it has {names}", context)
        settings = _settings()
        config.load_kube_config(context=chosen["name"], client_configuration=settings)
    except (config.ConfigException, yaml.YAMLError, OSError) as error:
        raise NoCluster(str(error), context) from None
    wanted = namespace or chosen["context"].get("namespace") or "default"
    cluster = Cluster(client.ApiClient(settings), wanted, context)
    _look(cluster)
    return cluster


def _pod_client() -> "ApiClient":
    from kubernetes import client, config

    settings = _settings()
    config.load_incluster_config(settings)
    return client.ApiClient(settings)


def _settings() -> "Configuration":
    """Ask once: by itself the client asks four times, each with the whole patience of the caller."""
    from kubernetes.client import Configuration

    settings = Configuration()
    settings.retries = 0
    return settings


def _look(cluster: Cluster) -> None:
    """See that the cluster answers and has the namespace; who may not look at it may still work in it."""
    try:
        with asking(f"see namespace {cluster.namespace}", cluster.context):
            cluster.core.read_namespace(cluster.namespace, _request_timeout=ANSWER_SECONDS)
    except Refused as refused:
        if refused.status == 404:
            raise NoNamespace(cluster.namespace) from None
        if refused.status != 403:
            raise


@contextmanager
def asking(what: str, context: str = "") -> Iterator[None]:
    """Word what the client library raises inside the `with`: Refused, or NoCluster when nobody answers.

    `what` finishes the sentence "Could not …".
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise Refused(what, error.status or 0, _message(error)) from None
    except (HTTPError, OSError) as error:
        raise NoCluster(str(getattr(error, "reason", None) or error), context) from None


def _message(error: Any) -> str:
    """What the API server says of an error: its Status object's message, else HTTP's reason."""
    import json

    # A refused websocket has its Status at the end of the reason, after the headers.
    for text in (error.body, str(error.reason).rpartition(" -+-+- ")[2]):
        try:
            return json.loads(text)["message"]
        except (ValueError, TypeError, KeyError):
            continue
    return str(error.reason)
