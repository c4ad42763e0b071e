"""What a release tells those who submit studies to it, what drivers may do, and what `helm test` compares."""

import json
from pathlib import Path

import pytest

from chart.rendering import (
    HELMS,
    PRESETS,
    chunk_job,
    container,
    driver_job,
    env,
    flag,
    layers,
    one,
    refusal,
    render,
    stated,
    title,
    workers,
)
from modelops_dask.shape import Shape
from mops_helm.values.quantity import to_bytes

EVERYTHING = Path(__file__).parent / "everything.yaml"
both_helms = pytest.mark.parametrize("helm", HELMS)


def facts(objects) -> dict:
    return json.loads(one(objects, "ConfigMap", "study-studies")["data"]["release.json"])


@both_helms
def test_the_facts_of_a_release(helm):
    assert facts(render(helm)) == {
        "format": 1,
        "release": "study",
        "scheduler": "tcp://study-scheduler:8786",
        "image": "modelops-dask:0.2.0",
        "imagePullSecrets": [],
        "serviceAccount": "study-driver",
        "preset": "",
        "executor": "isolated_warm",
        "store": "",
        "maxActive": 3,
        "maxDurationSeconds": 86400,
        "queueName": "",
        "shape": {
            "replicas": 1,
            "processes": 4,
            "threads": 1,
            "pod_memory_bytes": 4 * 1024**3 + 96 * 1024**2,
            "resources": {},
        },
        "slots": {"release": 16, "chunk": 4},
    }
    assert facts(render(helm, "-f", EVERYTHING)) == {
        "format": 1,
        "release": "study",
        "scheduler": "tls://dask-scheduler:8786",
        "image": "registry.example/epi/worker:v1.2_3",
        "imagePullSecrets": [{"name": "registry-login"}],
        "serviceAccount": "epi-driver",
        "preset": "our-own",
        "executor": "cold",
        "store": "/shared/studies",
        "maxActive": 1000000,
        "maxDurationSeconds": 1000000,
        "queueName": "epi",
        "shape": {
            "replicas": 1,
            "processes": 3,
            "threads": 2,
            "pod_memory_bytes": 3 * 1536 * 1024**2 + 96 * 1024**2,
            "resources": {"process": 1, "big.one": 1000000, "half": 0.5},
        },
        "slots": {"release": 12000012, "chunk": 12},
        "tlsSecret": "dask-tls",
    }


@both_helms
def test_a_driver_has_what_a_worker_has(helm):
    objects = render(helm, "-f", EVERYTHING)
    job, worker = driver_job(objects), workers(objects)
    assert container(job)["image"] == container(worker)["image"]
    assert container(job)["envFrom"] == container(worker)["envFrom"]
    assert env(job) == env(worker)
    mounts = {mount["mountPath"] for mount in container(job)["volumeMounts"]}
    assert mounts == {"/etc/dask", "/tmp", "/etc/modelops/tls", "/shared"}
    scheduler = one(objects, "Deployment", "study-scheduler")["spec"]["template"]["spec"]
    pod = job["spec"]["template"]["spec"]
    for where in ("nodeSelector", "tolerations", "affinity"):
        assert pod[where] == scheduler[where]
    assert container(job)["resources"]["limits"]["memory"] == "2147483648"


@both_helms
def test_a_driver_is_tried_again_when_it_was_lost_and_not_when_it_judged(helm):
    job = driver_job(render(helm))["spec"]
    assert job["podReplacementPolicy"] == "Failed", "never two drivers of one study"
    lost, told, judged = job["podFailurePolicy"]["rules"]
    assert (lost["action"], lost["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (told["action"], told["onExitCodes"]["values"]) == ("Ignore", [130]), "it did as it was told"
    assert judged["action"] == "FailJob"
    assert judged["onExitCodes"] == {"containerName": "driver", "operator": "In", "values": [2, 3, 4]}
    assert job["activeDeadlineSeconds"] == 86400
    assert job["template"]["spec"]["restartPolicy"] == "Never"


@both_helms
def test_a_chunk_is_a_driver_with_a_worker_pod_in_it(helm):
    objects = render(helm, "-f", EVERYTHING)
    job, chunk, worker = driver_job(objects), chunk_job(objects), workers(objects)
    for each in ("image", "env", "envFrom", "command"):
        assert container(chunk)[each] == container(job)[each]
    pod, there = chunk["spec"]["template"]["spec"], worker["spec"]["template"]["spec"]
    for where in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[where] == there[where]
    mounts = {mount["mountPath"] for mount in container(chunk)["volumeMounts"]}
    assert mounts == {mount["mountPath"] for mount in container(worker)["volumeMounts"]} and "/data" in mounts
    shape = Shape(**facts(objects)["shape"])
    assert shape.process_memory_bytes == int(flag(worker, "--memory-limit"))
    driver_bytes = to_bytes(container(job)["resources"]["limits"]["memory"])
    own_bytes = to_bytes(container(chunk)["resources"]["limits"]["memory"])
    assert own_bytes == shape.pod_memory_bytes + driver_bytes
    assert pod["serviceAccountName"] == job["spec"]["template"]["spec"]["serviceAccountName"]


@both_helms
def test_an_index_is_given_up_by_its_own_verdict_or_after_a_few_losses(helm):
    job = chunk_job(render(helm))["spec"]
    assert (job["completionMode"], job["backoffLimitPerIndex"]) == ("Indexed", 3)
    assert "backoffLimit" not in job and job["podReplacementPolicy"] == "Failed"
    lost, told, judged = job["podFailurePolicy"]["rules"]
    assert lost["action"] == told["action"] == "Ignore"
    assert (judged["action"], judged["onExitCodes"]["values"]) == ("FailIndex", [2, 3, 4])


@both_helms
def test_the_network_lets_drivers_in(helm):
    objects = render(helm)
    labels = driver_job(objects)["spec"]["template"]["metadata"]["labels"]
    policy = one(objects, "NetworkPolicy", "study-scheduler")["spec"]["ingress"][0]
    chosen = [peer["podSelector"]["matchLabels"] for peer in policy["from"]]
    assert any(peer.items() <= labels.items() for peer in chosen)


@both_helms
def test_a_queue_is_a_label_of_the_job_only_where_there_is_one(helm):
    labels = driver_job(render(helm, "-f", EVERYTHING))["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "epi"
    assert labels["kueue.x-k8s.io/max-exec-time-seconds"] == "1000000"
    assert not [name for name in driver_job(render(helm))["metadata"]["labels"] if "kueue" in name]


@both_helms
def test_drivers_may_watch_pods_and_patch_jobs_and_nothing_else(helm):
    objects = render(helm)
    (role,) = [item for item in objects if item["kind"] == "Role"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["patch"]},
    ]
    (binding,) = [item for item in objects if item["kind"] == "RoleBinding"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": "study-driver", "namespace": "models"}
    assert binding["subjects"] == [account]
    assert not [item for item in objects if item["kind"].startswith("Cluster")]
    assert driver_job(objects)["spec"]["template"]["spec"]["serviceAccountName"] == "study-driver"
    assert workers(objects)["spec"]["template"]["spec"]["serviceAccountName"] == "study"


@both_helms
def test_an_account_that_exists_is_everybodys(helm):
    objects = render(helm, "--set", "serviceAccount.create=false,serviceAccount.name=epi")
    assert not [item for item in objects if item["kind"] == "ServiceAccount"]
    (binding,) = [item for item in objects if item["kind"] == "RoleBinding"]
    assert [subject["name"] for subject in binding["subjects"]] == ["epi"]
    assert facts(objects)["serviceAccount"] == "epi"


@both_helms
@pytest.mark.parametrize("change", ["studies.enabled=false", "executor.type=none"])
def test_nothing_of_studies_is_rendered_while_they_are_off(helm, change):
    found = {title(item) for item in render(helm, "--set", change)}
    kinds = {name.partition("/")[0] for name in found}
    assert not {"Role", "RoleBinding"} & kinds
    assert not {"ConfigMap/study-studies", "ServiceAccount/study-driver"} & found


@both_helms
@pytest.mark.parametrize(
    ("store", "problem"),
    [
        ("/data/studies", "studies.store: /data/studies is not visible to every pod"),
        ("out", "studies.store: out is not visible to every pod"),
        ("/sharedother", "studies.store: /sharedother is not visible to every pod"),
        (
            "/shared/studies",
            "studies.store: /shared/studies is on the shared volume; set sharedVolume.enabled",
        ),
    ],
)
def test_a_store_that_pods_do_not_share_is_refused(helm, store, problem):
    assert problem in refusal(helm, "--set", f"studies.store={store}")


@both_helms
def test_a_store_that_pods_share_is_not(helm):
    assert facts(render(helm, "--set", "studies.store=s3://bucket/studies"))["store"] == "s3://bucket/studies"
    shared = "studies.store=/shared/studies,sharedVolume.enabled=true"
    assert facts(render(helm, "--set", shared))["store"] == "/shared/studies"


# helm test


def expected(objects) -> dict:
    test = one(objects, "Pod", "study-test")
    (found,) = test["spec"]["containers"]
    assert found["command"][:3] == ["python", "-m", "modelops_dask.check"]
    return json.loads(found["command"][4])


@both_helms
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_helm_test_expects_what_the_workers_are_told(helm, preset):
    objects = render(helm, *layers(preset))
    deployment = workers(objects)
    assert expected(objects)["executor"] == env(deployment)["MODELOPS_EXECUTOR_TYPE"]
    assert expected(objects)["preset"] == env(deployment)["MODELOPS_PRESET"]
    assert expected(objects)["pools"] == {
        "default": {
            "processes": deployment["spec"]["replicas"] * int(flag(deployment, "--nworkers")),
            "threads": int(flag(deployment, "--nthreads")),
            "memory_limit_bytes": int(flag(deployment, "--memory-limit")),
        }
    }


@both_helms
def test_helm_test_expects_each_pool_and_the_least_of_an_autoscaler(helm, tmp_path):
    values = {
        "workers": {"replicas": 3, "processes": 2},
        "pools": {"scaled": {"autoscaling": {"enabled": True, "minReplicas": 5}}, "off": {"replicas": 0}},
    }
    pools = expected(render(helm, *stated(values, tmp_path / "values.json")))["pools"]
    assert {name: pool["processes"] for name, pool in pools.items()} == {"default": 6, "scaled": 10, "off": 0}


@both_helms
def test_the_pod_of_helm_test_is_a_hook_that_the_network_lets_in(helm):
    objects = render(helm)
    test = one(objects, "Pod", "study-test")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    policy = one(objects, "NetworkPolicy", "study-scheduler")["spec"]["ingress"][0]
    chosen = [peer["podSelector"]["matchLabels"] for peer in policy["from"] if "podSelector" in peer]
    assert any(peer.items() <= test["metadata"]["labels"].items() for peer in chosen)
    for item in objects:
        if item["kind"] == "Deployment":
            selector = item["spec"]["selector"]["matchLabels"]
            assert not selector.items() <= test["metadata"]["labels"].items(), title(item)


def test_plain_dask_computes_without_the_engine():
    test = one(render("helm", "--set", "executor.type=none"), "Pod", "study-test")
    (found,) = test["spec"]["containers"]
    assert found["command"][:2] == ["python", "-c"] and "modelops_dask" not in found["command"][2]
    compile(found["command"][2], "test", "exec")
