"""A platform team's chart on a cluster: this one twice in it, once as plain Dask for an image of others."""

import json

from chart.rendering import vendored
from e2e.cluster import IMAGE, START_SECONDS, Release, call, tool

_COMPUTE = """
import json, os, sys
from distributed import Client

def seen(dask_worker):
    return [hasattr(dask_worker, "modelops"), os.environ.get("MODELOPS_EXECUTOR_TYPE")]

with Client("tcp://127.0.0.1:8786", timeout=120) as client:
    client.wait_for_workers(int(sys.argv[1]), timeout=240)
    found = {"sum": client.submit(sum, range(10)).result(), "seen": list(client.run(seen).values())}
print(json.dumps(found))
"""


def test_two_of_them_compute_side_by_side(namespace, tmp_path):
    repository, _, tag = IMAGE.rpartition(":")
    small = {"resources": {"requests": {"cpu": "50m"}}, "memoryPerProcess": "400Mi", "replicas": 1}
    both = {
        "enabled": True,
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "scheduler": {"resources": {"requests": {"cpu": "50m", "memory": "512Mi"}}},
    }
    plain = {"preset": "", "executor": {"type": "none"}}
    values = {
        "studies": both | {"workers": {**small, "processes": 1}, "pools": {"large": {"threads": 2}}},
        "bugHunt": both | plain | {"workers": {**small, "env": {"MODELOPS_EXECUTOR_TYPE": "theirs"}}},
    }
    (tmp_path / "live.json").write_text(json.dumps(values))
    command = [tool("helm"), "install", "platform", vendored("helm", tmp_path / "checkout")]
    command += ["--namespace", namespace, "--values", tmp_path / "live.json"]
    try:
        call(*command, "--wait", "--timeout", f"{START_SECONDS}s", timeout_seconds=START_SECONDS + 30)
        assert _asked("platform-studies", namespace, 2) == {"sum": 45, "seen": [[True, "isolated_warm"]] * 2}
        assert _asked("platform-bughunt", namespace, 1) == {"sum": 45, "seen": [[False, "theirs"]]}
    finally:
        call(tool("helm"), "uninstall", "platform", "--namespace", namespace, "--ignore-not-found")
        selector = "app.kubernetes.io/instance=platform"
        Release("platform", namespace, "helm").kubectl("delete", "pods", "--selector", selector, "--wait")


def _asked(fullname: str, namespace: str, count: int) -> dict:
    return json.loads(Release(fullname, namespace, "helm").python(_COMPUTE, count))
