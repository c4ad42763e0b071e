"""How pods begin, are replaced and end: probes, checksums, the drain, disruption budgets, time limits."""

import json

import pytest

from chart.rendering import (
    HELMS,
    Object,
    container,
    driver_job,
    flag,
    one,
    pods,
    render,
    stated,
    title,
    workers,
)

both_helms = pytest.mark.parametrize("helm", HELMS)
SCHEDULER, WORKERS = "Deployment/study-scheduler", "Deployment/study-worker"


def drain(deployment: Object) -> list[str]:
    return container(deployment)["lifecycle"]["preStop"]["exec"]["command"]


def grace(deployment: Object) -> int:
    return deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


@both_helms
def test_a_pod_may_take_as_long_as_a_task_and_half_a_minute(helm):
    deployment = workers(render(helm))
    assert grace(deployment) == 330
    hook = ["python", "-m", "modelops_dask.drain", "tcp://study-scheduler:8786", "330"]
    assert drain(deployment) == hook
    longer = workers(render(helm, "--set", "executor.taskTimeoutSeconds=1000000"))
    assert (grace(longer), drain(longer)[-1]) == (1000030, "1000030")


@both_helms
def test_a_stated_grace_period_bounds_the_drain(helm):
    deployment = workers(render(helm, "--set", "workers.terminationGracePeriodSeconds=90"))
    assert (grace(deployment), drain(deployment)[-1]) == (90, "90")


def test_the_drain_connects_as_the_workers_do():
    values = "tls.enabled=true,tls.existingSecret=s,scheduler.service.name=dask-scheduler"
    deployment = workers(render("helm", "--set", values))
    assert drain(deployment)[3] == "tls://dask-scheduler:8786" == flag(deployment, "worker")


def test_process_1_is_one_that_collects_orphans():
    """tests/e2e sees it do so."""
    init = ["python", "-m", "modelops_dask.init"]
    objects = render("helm")
    assert container(workers(objects))["command"][:5] == [*init, "dask", "worker"]
    assert container(driver_job(objects))["command"] == init, "its arguments are the study's"


def test_an_image_without_the_engine_has_no_hook():
    assert "lifecycle" not in container(workers(render("helm", "--set", "executor.type=none")))


# What a change of values replaces. Whatever is not named stays, so that an upgrade costs no running task.
CHANGES = [
    ({"dask": {"config": {"distributed": {"scheduler": {"bandwidth": 1}}}}}, {SCHEDULER, WORKERS}),
    ({"tls": {"enabled": True, "existingSecret": "s"}}, {SCHEDULER, WORKERS}),
    ({"image": {"tag": "other"}}, {SCHEDULER, WORKERS}),
    ({"scheduler": {"env": {"TZ": "UTC"}}}, {SCHEDULER}),
    ({"executor": {"type": "cold"}}, {WORKERS}),
    ({"preset": "our-own"}, {WORKERS}),
    ({"workers": {"processes": 2}}, {WORKERS}),
    ({"workers": {"replicas": 9}}, set()),
    ({"workers": {"autoscaling": {"enabled": True}}}, set()),
    ({"workers": {"podDisruptionBudget": {"enabled": True}}}, set()),
    ({"pools": {"large": {"memoryPerProcess": "8Gi"}}}, set()),
    ({"scheduler": {"service": {"type": "NodePort"}}}, set()),
    ({"scheduler": {"podDisruptionBudget": {"enabled": True}}}, set()),
    ({"networkPolicy": {"egress": {"closed": True}}}, set()),
    ({"studies": {"maxActive": 9, "store": "s3://bucket", "kueue": {"queueName": "q"}}}, set()),
    ({"serviceAccount": {"annotations": {"example.org/role": "reader"}}}, set()),
]


@both_helms
@pytest.mark.parametrize("values, replaced", CHANGES, ids=lambda case: json.dumps(case, default=sorted))
def test_pods_are_replaced_when_their_configuration_changes_and_only_then(helm, values, replaced, tmp_path):
    before = {title(item): template for item, template in pods(render(helm))}
    after = render(helm, *stated(values, tmp_path / "values.json"))
    changed = {title(item) for item, template in pods(after) if before.get(title(item), template) != template}
    assert changed == replaced


@both_helms
def test_probes(helm):
    objects = render(helm)
    scheduler = container(one(objects, "Deployment", "study-scheduler"))
    health = {"path": "/health", "port": "http"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert scheduler[probe]["httpGet"] == health
    worker = container(workers(objects))
    assert worker["startupProbe"]["httpGet"] == health
    assert not {"livenessProbe", "readinessProbe"} & set(worker), "a task that holds the lock answers nobody"
    assert flag(workers(objects), "--death-timeout") == "60"


@both_helms
def test_no_budget_unless_asked_for_and_then_for_its_pods_alone(helm):
    assert not [item for item in render(helm) if item["kind"] == "PodDisruptionBudget"]
    flags = "scheduler.podDisruptionBudget.enabled=true,workers.podDisruptionBudget.enabled=true"
    objects = render(helm, "--set", flags)
    for name, most in (("study-scheduler", 0), ("study-worker", 1)):
        budget, deployment = one(objects, "PodDisruptionBudget", name), one(objects, "Deployment", name)
        assert budget["spec"] == {
            "maxUnavailable": most,
            "selector": {"matchLabels": deployment["spec"]["selector"]["matchLabels"]},
        }
