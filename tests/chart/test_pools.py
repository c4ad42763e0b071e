"""Pools of workers: the recipes of examples/values, and that a pool never disturbs another."""

import json
from pathlib import Path

import pytest

from chart.rendering import HELMS, ROOT, Object, container, env, flag, one, render, stated, title, workers

RECIPES = ROOT / "examples" / "values"
GIB = 2**30
both_helms = pytest.mark.parametrize("helm", HELMS)


def recipe(helm: str, name: str) -> list[Object]:
    return render(helm, "-f", RECIPES / f"{name}.yaml")


def pod(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]


@both_helms
def test_a_gpu_for_each_process(helm):
    objects = recipe(helm, "gpu")
    gpu = workers(objects, "gpu")
    resources = container(gpu)["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == 1
    assert (flag(gpu, "--nworkers"), flag(gpu, "--resources")) == ("1", "gpu=1")
    assert int(flag(gpu, "--memory-limit")) == 16 * GIB
    assert pod(gpu)["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert pod(gpu)["nodeSelector"] == {"accelerator": "nvidia"}
    assert workers(objects) == workers(render(helm)), "the default pool is as without it"


@both_helms
def test_spot_workers_have_90_seconds_and_drain_within_them(helm):
    objects = recipe(helm, "spot")
    spot = workers(objects, "spot")
    assert pod(spot)["terminationGracePeriodSeconds"] == 90
    assert container(spot)["lifecycle"]["preStop"]["exec"]["command"][-1] == "90"
    assert pod(spot)["tolerations"][0]["value"] == "spot"
    steady = workers(objects)
    assert pod(steady)["terminationGracePeriodSeconds"] == 330
    assert steady["spec"]["replicas"] == 1 and "tolerations" not in pod(steady)


@both_helms
def test_a_pool_of_large_processes(helm):
    objects = recipe(helm, "memory-heavy-pool")
    large = workers(objects, "large")
    assert int(flag(large, "--memory-limit")) == 32 * GIB
    assert container(large)["resources"]["limits"]["memory"] == "32864Mi"
    assert flag(large, "--resources") == "large=1"
    budget = one(objects, "PodDisruptionBudget", "study-worker-large")
    assert budget["spec"]["selector"]["matchLabels"] == large["spec"]["selector"]["matchLabels"]
    assert [item for item in objects if item["kind"] == "PodDisruptionBudget"] == [budget]


@both_helms
def test_a_pool_turns_off_what_workers_turn_on(helm, tmp_path):
    values = {
        "workers": {
            "autoscaling": {"enabled": True},
            "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
            "terminationGracePeriodSeconds": 45,
            "env": {"A": "workers", "B": "workers"},
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
        "pools": {
            "plain": {
                "replicas": 0,
                "autoscaling": {"enabled": False},
                "podDisruptionBudget": {"enabled": False},
                "terminationGracePeriodSeconds": 0,
                "env": {"B": ""},
                "volumes": [],
            },
            "zero": {"podDisruptionBudget": {"maxUnavailable": 0}},
        },
    }
    objects = render(helm, *stated(values, tmp_path / "values.yaml"))
    plain = workers(objects, "plain")
    assert plain["spec"]["replicas"] == 0
    assert pod(plain)["terminationGracePeriodSeconds"] == 330
    assert (env(plain)["A"], env(plain)["B"]) == ("workers", "")
    assert "data" not in {volume["name"] for volume in pod(plain)["volumes"]}
    scaled = {title(item) for item in objects if item["kind"] == "HorizontalPodAutoscaler"}
    assert scaled == {f"HorizontalPodAutoscaler/study-worker{end}" for end in ("", "-zero")}
    budgets = {
        item["metadata"]["name"]: item["spec"]["maxUnavailable"]
        for item in objects
        if item["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {"study-worker": "50%", "study-worker-zero": 0}


@both_helms
def test_any_number_of_pools_with_any_name_keep_apart(helm, tmp_path):
    names = ["default", "scheduler", "test", "driver", "0", "a" * 30, "x-y-z"]
    values = {"pools": {name: {"replicas": number} for number, name in enumerate(names)}}
    objects = render(helm, *stated(values, tmp_path / "values.yaml"))
    assert len({title(item) for item in objects}) == len(objects), "two objects with one name"
    deployments = [workers(objects, name) for name in names]
    assert [item["spec"]["replicas"] for item in deployments] == list(range(len(names)))
    selectors = {json.dumps(item["spec"]["selector"], sort_keys=True) for item in deployments}
    assert len(selectors) == len(names)


def test_the_recipes_say_what_they_are_for():
    for path in (RECIPES / f"{name}.yaml" for name in ("gpu", "spot", "memory-heavy-pool")):
        comment = [line for line in Path(path).read_text().splitlines() if line.startswith("#")]
        for word in ("For:", "How:", "Choose:"):
            assert any(line.startswith(f"# {word}") for line in comment), f"{path.name} does not say {word}"
