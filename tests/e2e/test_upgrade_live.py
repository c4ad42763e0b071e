"""Upgrades on a cluster, by both helms: from the previous chart, and the number of pods changing its owner.

The autoscaler goes to its minimum at once, and after an upgrade to a lower one it waits 5 minutes before it
takes pods away. A number that falls sooner was helm's doing. What is asked for is on the Deployment at once:
only the first test waits for pods.
"""

import pytest

from chart.rendering import ROOT
from e2e.cluster import CI_VALUES, eventually
from e2e.watching import wanted_replicas

PREVIOUS = ROOT / "tests" / "chart" / "upgrade-fixture"
# One process a pod, for it is pods that are counted.
BASE = ["workers.processes=1", "workers.memoryPerProcess=384Mi", "preset=direct", "executor.type=direct"]
BASE += ["executor.environment=image"]


def scaled(least):
    """--set of autoscaling from `least` pods to 2."""
    bounds = {"enabled": "true", "minReplicas": least, "maxReplicas": 2}
    return [*BASE, *(f"workers.autoscaling.{name}={value}" for name, value in bounds.items())]


def replicas(release):
    return release.get("deployment", "worker")["spec"]["replicas"]


def ready(release):
    return release.get("deployment", "worker")["status"].get("readyReplicas", 0)


def test_the_previous_chart_upgrades_and_keeps_what_the_autoscaler_chose(release, helm):
    with release("study", CI_VALUES, helm=helm, sets=scaled(2), chart=PREVIOUS) as installed:
        eventually(lambda: ready(installed) == 2, "second pod")
        with wanted_replicas(installed) as seen:
            installed.upgrade(CI_VALUES, sets=scaled(1), wait=False)
            installed.upgrade(CI_VALUES, sets=[*scaled(1), "commonLabels.team=epi"])
        assert set(seen) == {2}
        assert len(installed.workers(2)) == 2


def test_autoscaling_goes_on_and_off_by_upgrade(release, helm):
    with release("study", CI_VALUES, helm=helm, sets=BASE, wait=False) as installed:
        assert replicas(installed) == 1
        installed.upgrade(CI_VALUES, sets=scaled(2), wait=False)
        eventually(lambda: replicas(installed) == 2, "wish for a second pod")
        installed.upgrade(CI_VALUES, sets=BASE, wait=False)
        assert replicas(installed) == 1
        assert installed.kubectl("get", "hpa", "--output", "name") == ""


def test_a_pool_that_was_scaled_by_hand_goes_back_to_its_values(release, helm):
    with release("study", CI_VALUES, helm=helm, sets=BASE, wait=False) as installed:
        installed.kubectl("scale", "deployment/study-worker", "--replicas", "2")
        changed = [*BASE, "commonLabels.team=epi"]
        force = ()
        if helm == "helm":
            # Helm 4 applies on the server, where kubectl owns the number now.
            with pytest.raises(AssertionError, match=r"(?s)conflict.*\.spec\.replicas"):
                installed.upgrade(CI_VALUES, sets=changed, wait=False)
            force = ("--server-side=true", "--force-conflicts")
        installed.upgrade(CI_VALUES, sets=changed, flags=force, wait=False)
        assert replicas(installed) == 1
        # Once is enough: helm owns it again.
        installed.upgrade(CI_VALUES, sets=[*BASE, "workers.replicas=0"], wait=False)
        assert replicas(installed) == 0
