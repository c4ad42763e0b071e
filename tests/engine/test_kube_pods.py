"""Why a pod is not ready: each state as the API server shows it, and what a person is told."""

import pytest

from modelops_dask.kube import pods

CONTAINER = {
    "name": "worker",
    "image": "localhost/modelops-dask:dev",
    "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
}
METADATA = {
    "name": "sims-worker-7d-x2",
    "namespace": "models",
    "uid": "1",
    "labels": {"app.kubernetes.io/component": "worker", "modelops.io/pool": "default"},
}


def pod(status, spec=(), **metadata):
    return {
        "metadata": METADATA | metadata,
        "spec": {"containers": [CONTAINER], **dict(spec)},
        "status": {"phase": "Pending"} | status,
    }


def waiting(reason, message="", **container):
    state = {"waiting": {"reason": reason, "message": message}}
    return pod({"containerStatuses": [{"name": "worker", "state": state, **container}]})


def unscheduled(message, spec=()):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod({"conditions": [condition]}, spec)


def event(reason, message, at="2026-01-01T00:00:00Z"):
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "metadata": {"namespace": "models"},
        "involvedObject": {"uid": "1"},
    }


KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
FAILED = {"terminated": {"reason": "Error", "exitCode": 3, "message": "line 1\n\nValueError: no store\n"}}
CLAIM = {"volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "sims-shared"}}]}
CASES = {
    "cpu": (
        unscheduled("0/3 nodes are available: 1 Insufficient memory, 3 Insufficient cpu. preemption: none."),
        "Unschedulable: no node has enough memory and cpu; the pod requests memory 4Gi, cpu 2\n"
        "Lower workers.resources.requests or the number of pods, or add nodes:\n  kubectl describe nodes",
    ),
    "claim": (
        unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", CLAIM),
        "kubectl -n models describe pvc sims-shared",
    ),
    "no claim": (unscheduled('persistentvolumeclaim "sims-shared" not found', CLAIM), "claim sims-shared"),
    "selector": (
        unscheduled("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        "workers.nodeSelector, tolerations and affinity",
    ),
    "never pulled": (
        waiting("ErrImageNeverPull", "not present with pull policy of Never"),
        "kind load docker-image localhost/modelops-dask:dev",
    ),
    "not pulled": (
        waiting("ImagePullBackOff", "registry.example: not found"),
        "ImagePullBackOff: image localhost/modelops-dask:dev cannot be pulled: registry.example: not found",
    ),
    "crash": (
        waiting("CrashLoopBackOff", restartCount=4, lastState=FAILED),
        "CrashLoopBackOff: it ended 4 times, last with status 3\n    line 1\n    ValueError: no store\n"
        "  kubectl -n models logs sims-worker-7d-x2 --previous",
    ),
    "memory, again and again": (
        waiting("CrashLoopBackOff", restartCount=2, lastState=KILLED),
        "OOMKilled: container worker was killed because it used more than 4Gi of memory\n"
        "Raise workers.memoryPerProcess:",
    ),
    "memory, once": (
        pod(
            {
                "phase": "Running",
                "containerStatuses": [{"name": "worker", "state": {"running": {}}, "lastState": KILLED}],
            }
        ),
        "OOMKilled",
    ),
    "secret": (
        waiting("CreateContainerConfigError", 'secret "study-store" not found'),
        'CreateContainerConfigError: secret "study-store" not found',
    ),
    "evicted": (
        pod(
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": 'Usage of EmptyDir volume "tmp" exceeds the limit "8Gi".',
            }
        ),
        "Raise workers.scratch.sizeLimit.",
    ),
    "a driver's end": (
        pod({"phase": "Failed", "containerStatuses": [{"name": "driver", "state": FAILED}]}),
        "container driver ended with status 3\n    line 1\n    ValueError: no store",
    ),
    "killed": (
        pod(
            {
                "phase": "Failed",
                "containerStatuses": [
                    {"name": "driver", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}
                ],
            }
        ),
        "ended with status 137 (signal 9)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case):
    given, said = CASES[case]
    assert said in str(pods.find_problem(given))


def test_the_values_that_are_named_are_those_of_the_part():
    given = waiting("CrashLoopBackOff", restartCount=2, lastState=KILLED)
    for labels, value in (
        (
            {"app.kubernetes.io/component": "worker", "modelops.io/pool": "large"},
            "pools.large.memoryPerProcess",
        ),
        ({"app.kubernetes.io/component": "scheduler"}, "scheduler.resources.requests.memory"),
        ({"app.kubernetes.io/component": "driver"}, "studies.driver.resources.requests.memory"),
    ):
        assert f"Raise {value}:" in str(
            pods.find_problem({**given, "metadata": METADATA | {"labels": labels}})
        )


@pytest.mark.parametrize(
    "given",
    [
        pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        pod({"phase": "Succeeded"}),
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
    ],
)
def test_nothing_is_said_of_what_is_well_or_only_begins(given):
    assert pods.find_problem(given) is None


def test_a_warning_speaks_where_the_status_does_not():
    said = pods.find_problem(
        waiting("ContainerCreating"),
        [
            event("FailedScheduling", "old"),
            event("FailedMount", 'MountVolume.SetUp failed: secret "sims-tls" not found'),
        ],
    )
    assert str(said).startswith('FailedMount: MountVolume.SetUp failed: secret "sims-tls" not found')


def test_pods_that_cannot_be_created():
    quota = 'pods "x" is forbidden: exceeded quota: team, requested: cpu=2, used: cpu=7, limited: cpu=8'
    said = str(pods.find_creation_problem([event("FailedCreate", quota)]))
    assert "quota team is exhausted: the pod requests cpu=2; cpu=7 of cpu=8 are in use" in said
    assert "kubectl -n models describe resourcequota" in said
    security = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces'
    assert "podSecurityContext" in str(pods.find_creation_problem([event("FailedCreate", security)]))
    assert pods.find_creation_problem([event("Unhealthy", "no answer")]) is None
