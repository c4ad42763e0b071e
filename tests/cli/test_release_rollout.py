"""A rollout is done when every pod is of the new kind and ready, not sooner."""

from mops_helm.release.rollout import Rollout, _read_deployment


def deployment(wanted=2, generation=5, **status):
    labels = {"app.kubernetes.io/component": "worker", "modelops.io/pool": "default"}
    metadata = {"name": "sims-worker", "generation": generation, "labels": labels}
    return {"metadata": metadata, "spec": {"replicas": wanted}, "status": status}


ALL = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 5}


def test_done_when_all_pods_are_new_and_ready():
    assert _read_deployment(deployment(**ALL)).complete
    assert str(_read_deployment(deployment(**ALL))) == "sims-worker 2/2"
    assert _read_deployment(deployment(wanted=0, observedGeneration=5)).complete


def test_not_done_before():
    for changed in (
        {"observedGeneration": 4},  # the controller has not seen the change: these are old pods
        {"updatedReplicas": 1},
        {"availableReplicas": 1},
        {"replicas": 3},  # an old pod is still there
    ):
        part = _read_deployment(deployment(**ALL | changed))
        assert not part.complete, changed
        assert not Rollout((part,), ()).complete
    assert not Rollout((), ()).complete
