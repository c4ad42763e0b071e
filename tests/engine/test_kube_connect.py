"""The way to a cluster, and what is said when there is none, against an HTTP server that answers as one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelops_dask.kube.connect import NoCluster, NoNamespace, RequestRefused, api_request, connect

ANSWERS = {  # namespace -> status and message
    "models": (200, ""),
    "hidden": (403, 'namespaces "hidden" is forbidden: User "ana" cannot get resource "namespaces"'),
    "nowhere": (404, 'namespaces "nowhere" not found'),
    "expired": (401, "Unauthorized"),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if name == "silent":
            self.server.kept.append(name)
            self.server.ended.wait()
            return
        status, message = ANSWERS[name]
        body = {"kind": "Status", "message": message, "code": status}
        if status == 200:
            body = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def http():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.kept, http.ended = [], threading.Event()
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.ended.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def server(http):
    return f"http://127.0.0.1:{http.server_port}"


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """Writes a kubeconfig of two contexts for a server and uses it."""

    def write(address):
        path = tmp_path / "kubeconfig"
        contexts = [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "models"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ]
        told = {"clusters": [{"name": "c", "cluster": {"server": address}}], "contexts": contexts}
        told |= {"users": [{"name": "u", "user": {}}], "current-context": "one"}
        path.write_text(json.dumps(told))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        monkeypatch.setenv("KUBECONFIG", str(path))

    return write


def test_the_contexts_own_namespace_unless_one_is_named(server, kubeconfig):
    kubeconfig(server)
    assert connect().namespace == "models"
    assert connect(namespace="hidden").namespace == "hidden"  # who may not look may still work there
    assert connect(namespace="hidden").kubectl("get", "pods") == "kubectl -n hidden get pods"


def test_a_server_that_does_not_answer_is_asked_once(http, kubeconfig, monkeypatch):
    monkeypatch.setattr("modelops_dask.kube.connect.ANSWER_SECONDS", 0.5)
    kubeconfig(f"http://127.0.0.1:{http.server_port}")
    with pytest.raises(NoCluster):
        connect(namespace="silent")
    assert http.kept == ["silent"]


def test_what_is_not_there_is_said(server, kubeconfig, monkeypatch, tmp_path):
    kubeconfig(server)
    with pytest.raises(NoNamespace, match="kubectl create namespace nowhere"):
        connect(namespace="nowhere")
    with pytest.raises(RequestRefused, match="log in again"):
        connect(namespace="expired")
    with pytest.raises(NoCluster, match=r"context three: .* it has one, two"):
        connect("three")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(NoCluster, match="no kubeconfig exists at"):
        connect()


def test_a_server_that_does_not_answer(kubeconfig):
    kubeconfig("http://127.0.0.1:1")
    with pytest.raises(NoCluster, match="kubectl cluster-info"):
        connect()


def test_a_refusal_names_the_request_and_the_way_out(server, kubeconfig):
    kubeconfig(server)
    cluster = connect()
    with pytest.raises(RequestRefused, match=r"Could not look: .*cannot get") as caught, api_request("look"):
        cluster.core.read_namespace("hidden")
    assert caught.value.status == 403
    assert "kubectl auth can-i --list" in str(caught.value)
