"""A driver's ears and voice, against an HTTP server that answers as an API server does, and fails as one."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from urllib.parse import parse_qs, urlparse

import pytest
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException

from helpers import wait_for
from modelops_dask.kube import annotations, watch
from modelops_dask.kube.annotations import Annotations
from modelops_dask.kube.connect import Cluster, NoCluster
from modelops_dask.kube.watch import PodWatch, find_loss
from modelops_dask.study.events import PodLost


class ApiServer:
    """Pods of one namespace, and a Job that can be patched. `refuse` are statuses for the next requests."""

    def __init__(self) -> None:
        self.pods: dict[str, dict] = {}
        self.refuse: list[int] = []
        self.annotations: dict[str, str] = {}
        self.patches: list[float] = []
        self.lists = 0
        self.changed = threading.Condition()
        self.log: list[dict] = []  # what watchers are sent

    def set(self, name: str, kind: str = "MODIFIED", **status: object) -> None:
        """A pod as it is from now on."""
        with self.changed:
            pod = self.pods.get(name) or made(name)
            self.pods[name] = {**pod, "status": {**pod["status"], **status}}
            self.log.append({"type": kind, "object": self.pods[name]})
            self.changed.notify_all()

    def remove(self, name: str, tell: bool = True) -> None:
        with self.changed:
            gone = self.pods.pop(name)
            if tell:
                self.log.append({"type": "DELETED", "object": gone})
            self.changed.notify_all()

    def after(self, told: int) -> list[dict]:
        """What changed after so many changes, once there is some."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.log) > told, 30)
            return self.log[told:]

    def end_watch(self, status: int) -> None:
        """What an API server says when the version is too old."""
        with self.changed:
            told = {"kind": "Status", "code": status, "reason": "Expired", "message": "too old"}
            self.log.append({"type": "ERROR", "object": told})
            self.changed.notify_all()


def made(name: str) -> dict:
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "studies", "labels": {}}
    spec = {"containers": [{"name": "worker", "image": "dask"}]}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Running", "podIP": f"10.0.0.{len(name)}", "conditions": ready},
    }


def handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # for chunks: without them a client reads to the end of a stream

        def do_GET(self) -> None:
            if self._refused():
                return
            asked = parse_qs(urlparse(self.path).query)
            assert asked["labelSelector"] == ["release=sims"], self.path
            if "watch" in asked:
                self._stream()
                return
            with server.changed:
                server.lists += 1
                items, version = list(server.pods.values()), str(len(server.log))
            body = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version}}
            self._send(200, {**body, "items": items})

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._refused():
                return
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            assert self.path == "/apis/batch/v1/namespaces/studies/jobs/study-1"
            server.patches.append(time.monotonic())
            server.annotations |= body["metadata"]["annotations"]
            server.annotations = {name: said for name, said in server.annotations.items() if said is not None}
            self._send(200, {"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "study-1"}})

        def _refused(self) -> bool:
            if not server.refuse:
                return False
            status = server.refuse.pop(0)
            self._send(status, {"kind": "Status", "code": status, "message": "no"})
            return True

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            told = int(parse_qs(urlparse(self.path).query)["resourceVersion"][0])
            while True:
                new = server.after(told)
                told += len(new)
                for event in new:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    if event["type"] == "ERROR":
                        self.wfile.write(b"0\r\n\r\n")
                        return

        def _send(self, status: int, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def listening(server: ApiServer, port: int = 0):
    """The server's port, for as long as it answers."""
    http = ThreadingHTTPServer(("127.0.0.1", port), handler(server))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield http.server_port
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture
def server():
    return ApiServer()


def cluster(port: int) -> Cluster:
    settings = Configuration(host=f"http://127.0.0.1:{port}")
    settings.retries = False
    return Cluster(ApiClient(settings), "studies")


def out_of_memory(number: int = 1) -> list[dict]:
    end = {"exitCode": 137, "reason": "OOMKilled", "containerID": f"c{number}"}
    return [{"name": "worker", "restartCount": number, "state": {}, "lastState": {"terminated": end}}]


def watching(port: int, notes: list[str]) -> tuple[PodWatch, SimpleQueue]:
    inbox: SimpleQueue = SimpleQueue()
    return PodWatch(cluster(port), lambda: "release=sims", inbox, notes.append), inbox


def heard(inbox: SimpleQueue) -> PodLost:
    return inbox.get(timeout=30)


def test_a_container_that_is_out_of_memory_is_heard_once_and_noted(server):
    server.set("a")
    notes: list[str] = []
    with listening(server) as port:
        _, inbox = watching(port, notes)
        wait_for(lambda: server.lists, "a list")
        server.set("a", containerStatuses=out_of_memory())
        assert heard(inbox) == PodLost("10.0.0.1", "OOMKilled", False)
        server.set("a", containerStatuses=out_of_memory(), phase="Running")  # the same end, another change
        server.set("a", containerStatuses=out_of_memory(2))
        assert heard(inbox) == PodLost("10.0.0.1", "OOMKilled", False)
        with pytest.raises(Empty):
            inbox.get(block=False)
    assert len(notes) == 1 and notes[0].startswith(
        "a: OOMKilled: container worker was killed because it used"
    )


def test_a_pod_that_is_deleted_is_nobodys_fault(server):
    server.set("a")
    with listening(server) as port:
        _, inbox = watching(port, [])
        wait_for(lambda: server.lists, "a list")
        server.remove("a")
        assert heard(inbox) == PodLost("10.0.0.1", "PodDeleted", True)


def test_what_was_there_before_is_not_news(server):
    server.set("a", containerStatuses=out_of_memory())
    with listening(server) as port:
        _, inbox = watching(port, [])
        wait_for(lambda: server.lists, "a list")
        server.set("bb")
        server.remove("bb")
        assert heard(inbox).host == "10.0.0.2", "of the one that is well and then gone"


@pytest.mark.parametrize("status", [410, 429])
def test_a_watch_that_is_refused_begins_anew_and_misses_nothing(server, status, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN_SECONDS", 0.05)
    server.set("a")
    server.set("bb")
    with listening(server) as port:
        _, inbox = watching(port, [])
        wait_for(lambda: server.lists, "a list")
        server.refuse += [status, status, 500]
        server.end_watch(status)
        server.remove("bb", tell=False)
        assert heard(inbox) == PodLost("10.0.0.2", "PodDeleted", True)
        server.set("a", containerStatuses=out_of_memory())
        assert heard(inbox).reason == "OOMKilled"
    assert not server.refuse


def test_an_api_server_that_is_away_for_a_while(server, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN_SECONDS", 0.05)
    server.set("a")
    with listening(server) as port:
        _, inbox = watching(port, [])
        wait_for(lambda: server.lists, "a list")
    server.end_watch(410)  # its connections end with it
    server.set("a", containerStatuses=out_of_memory())
    before = server.lists
    with listening(server, port):
        assert heard(inbox) == PodLost("10.0.0.1", "OOMKilled", False)
    assert server.lists > before


def test_words_for_a_verdict_name_each_kind_of_trouble_once(server):
    stuck = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient memory."}
    with listening(server) as port:
        watched, _ = watching(port, [])
        wait_for(watched.describe_problems, "words")
        assert "no worker pods" in watched.describe_problems()
        low = {"reason": "Evicted", "message": "the node was low on memory"}
        server.set("left", "ADDED", phase="Failed", conditions=[], **low)
        wait_for(lambda: "left: Evicted" in watched.describe_problems(), "word of what was evicted")
        assert watched.describe_problems().startswith("The release has no worker pods")
        for name in ("a", "bb", "ccc"):
            server.set(name, "ADDED", phase="Pending", conditions=[stuck])
        wait_for(lambda: "3 pods" in watched.describe_problems(), "three pods")
        assert "3 pods, such as a: Unschedulable: no node has enough memory" in watched.describe_problems()
        assert "no worker pods" not in watched.describe_problems()


def test_the_end_of_a_worker_without_its_scheduler_is_nobodys_fault():
    before, now = made("a"), made("a")
    end = {"exitCode": 0, "reason": "Completed", "containerID": "c1"}
    now["status"]["containerStatuses"] = [{"name": "worker", "lastState": {"terminated": end}}]
    assert find_loss(before, now) == ("WorkerExited", True)
    end["exitCode"] = 1
    assert find_loss(before, now) == ("WorkerDied", False)
    assert find_loss(None, now) is None


def test_annotations_are_few_the_newest_counts_and_phases_come_at_once(server):
    with listening(server) as port:
        notes = Annotations(cluster(port), lambda: "study-1", every_seconds=60)
        for done in range(500):
            notes.put("progress", {"done": done})
        notes.put("progress", {"done": 500, "phase": "running"}, urgent=True)
        wait_for(lambda: server.annotations, "a patch")
        notes.put("summary", {"exit_code": 0})
        notes.put("note", {"of": "an earlier pod"})
        notes.put("note", None)
        notes.close(30)
    assert "modelops.io/note" not in server.annotations
    assert json.loads(server.annotations["modelops.io/progress"]) == {"done": 500, "phase": "running"}
    assert json.loads(server.annotations["modelops.io/summary"]) == {"exit_code": 0}
    assert len(server.patches) <= 3


def test_the_last_word_waits_for_an_api_server_that_comes_back(server, monkeypatch):
    monkeypatch.setattr(annotations, "AGAIN_SECONDS", 0.05)
    with listening(server) as port:
        pass
    asked = []

    def job() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise NoCluster("away")
        return "study-1"

    notes = Annotations(cluster(port), job, every_seconds=60)
    notes.put("summary", {"exit_code": 3}, urgent=True)
    wait_for(lambda: len(asked) >= 3, "the Job's name")
    server.refuse += [429, 500]
    with listening(server, port):
        notes.close(30)
    assert json.loads(server.annotations["modelops.io/summary"]) == {"exit_code": 3}


@pytest.mark.parametrize(
    "error",
    [ConfigException("Service token file does not exist."), ValueError("not JSON"), RecursionError()],
    ids=repr,
)
def test_the_verdict_is_written_whatever_went_wrong_before(server, monkeypatch, error):
    """As while a token's file is replaced, or a proxy answers with a page of its own."""
    monkeypatch.setattr(annotations, "AGAIN_SECONDS", 0.05)
    asked = []

    def job() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise error
        return "study-1"

    with listening(server) as port:
        notes = Annotations(cluster(port), job, every_seconds=0.05)
        notes.put("progress", {"done": 1, "note": "half a pair: \ud800"}, urgent=True)
        wait_for(lambda: len(asked) >= 1, "the Job's name")
        notes.put("summary", {"exit_code": 0}, urgent=True)
        notes.close(30)
    assert json.loads(server.annotations["modelops.io/summary"]) == {"exit_code": 0}
    assert json.loads(server.annotations["modelops.io/progress"])["note"] == "half a pair: \ud800"


def test_the_last_word_is_not_waited_for_for_ever(server):
    with listening(server) as port:
        pass
    notes = Annotations(cluster(port), lambda: "study-1", every_seconds=60)
    notes.put("summary", {"exit_code": 0}, urgent=True)
    notes.close(0.2)
