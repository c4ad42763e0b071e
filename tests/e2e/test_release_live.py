"""install, upgrade and status on a cluster, with both helms: presets, proof, reasons, numbers of pods."""

import json
import re
from contextlib import contextmanager

import pytest

from chart.rendering import tool
from e2e.cluster import CI_VALUES, START_SECONDS, Release, call, eventually, image_sets
from e2e.mops import mops
from e2e.watching import wanted_replicas

PATIENCE = ("--timeout", f"{START_SECONDS}s")


def sets(*more):
    return [word for item in [*image_sets(), *more] for word in ("--set", item)]


@pytest.fixture
def typed(namespace, helm, tmp_path):
    return mops(namespace, helm, tmp_path)


@contextmanager
def removed(name, namespace, helm):
    """A release that is gone at the end, however far it came."""
    release = Release(name, namespace, helm)
    try:
        yield release
    finally:
        call(tool(helm), "uninstall", name, "--namespace", namespace, "--ignore-not-found")
        selector = f"app.kubernetes.io/instance={name}"
        release.kubectl("delete", "pods", "--selector", selector, "--grace-period", "1", "--wait")


def test_presets_are_switched_and_proven(namespace, helm, typed):
    """baseline -> debug-isolated -> baseline without drift; then a change that helm knows nothing of."""
    with removed("switch", namespace, helm) as release:

        def values():
            return call(tool(helm), "get", "values", "switch", "--namespace", namespace, "--output", "yaml")

        typed("install", "switch", "--preset", "baseline", "-f", CI_VALUES, *sets(), *PATIENCE)
        assert "no difference" in typed("status", "switch")
        before = values()
        typed("upgrade", "switch", "--preset", "debug-isolated", *PATIENCE)
        found = json.loads(typed("status", "switch", "-o", "json"))
        (pool,) = found["pools"]
        assert (found["preset"], found["proven"], pool["answered"]) == ("debug-isolated", True, 1)
        typed("upgrade", "switch", "--preset", "baseline", *PATIENCE)
        assert "no difference" in typed("status", "switch")
        assert values() == before

        if helm == "helm":
            deployment = "deployment/switch-worker"
            release.kubectl("set", "env", deployment, "MODELOPS_EXECUTOR_TYPE=direct")
            release.kubectl("rollout", "status", deployment, "--timeout", f"{START_SECONDS}s")
            row = next(
                line for line in typed("status", "switch", status=3).splitlines() if "executor.type" in line
            )
            assert re.split(r"\s{2,}", row) == [
                "default",
                "executor.type",
                "isolated_warm",
                "isolated_warm",
                "direct",
                "direct",
            ]


@pytest.mark.parametrize("helm", ["helm3"])
def test_reasons_of_pods_that_are_not_ready(namespace, typed, helm):
    with removed("stuck", namespace, helm):
        missing = ["image.repository=localhost/no-such-image", "image.pullPolicy=Never"]
        values = ["-f", CI_VALUES, *sets(*missing, "pools.huge.resources.requests.cpu=500")]
        assert "UNKNOWN_NAME" in typed.run("install", "stuck", *values, "--set", "pools.huge.cpu=1").stderr
        typed("status", "stuck", status=2)  # nothing was sent
        done = typed.run("install", "stuck", *values, "--timeout", "10s")
        assert done.returncode == 5
        assert "mops-helm status stuck" in done.stderr
        typed("install", "stuck", *values, status=2)
        wanted = [
            "ErrImageNeverPull: the node does not have image localhost/no-such-image",
            "stuck-worker-huge",
            "no node has enough cpu; the pod requests cpu 500",
            "Lower pools.huge.resources.requests",
            "no scheduler is ready",
        ]

        def said():
            shown = typed("status", "stuck", status=3)
            return all(text in shown for text in wanted)

        eventually(said, "reasons of all pods")


def test_the_number_of_pods_goes_to_an_autoscaler_and_comes_back(namespace, typed, helm):
    """Without a pod less in between under Helm 4; Helm 3 takes them away, and they are asked for again."""
    quiet = ["image.repository=localhost/no-such-image", "image.pullPolicy=Never"]  # it is numbers that count
    fixed = sets(*quiet, "workers.replicas=2")
    scaling = {"enabled": "true", "minReplicas": 1, "maxReplicas": 3}
    scaled = [f"workers.autoscaling.{name}={value}" for name, value in scaling.items()]
    with removed("scaled", namespace, helm) as release:
        typed("install", "scaled", "-f", CI_VALUES, *fixed, "--no-wait")
        with wanted_replicas(release) as seen:
            typed("upgrade", "scaled", *sets(*scaled), "--no-wait")
        assert seen[-1] == 2
        assert helm == "helm3" or set(seen) == {2}
        release.kubectl("scale", "deployment/scaled-worker", "--replicas", "3")
        typed("upgrade", "scaled", "--set", "workers.autoscaling.enabled=false", "--no-wait")
        assert release.get("deployment", "worker")["spec"]["replicas"] == 2
        assert release.kubectl("get", "hpa", "--output", "name") == ""
