"""Where pods write: scratch, the shared volume, and the disk they ask the node for."""

import pytest

from chart.rendering import (
    HELMS,
    container,
    flag,
    one,
    refusal,
    render,
    stated,
    text,
    title,
    workers,
)

both_helms = pytest.mark.parametrize("helm", HELMS)


def volume(item, path):
    """The volume that the container sees at a path."""
    (mount,) = [row for row in container(item)["volumeMounts"] if row["mountPath"] == path]
    volumes = item["spec"]["template"]["spec"]["volumes"]
    (found,) = [row for row in volumes if row["name"] == mount["name"]]
    return found


def disk(item):
    resources = container(item)["resources"]
    return [resources[side].get("ephemeral-storage") for side in ("requests", "limits")]


@both_helms
def test_scratch_is_where_dask_spills_and_the_node_is_asked_for_it(helm, tmp_path):
    mine = {
        "workers": {"scratch": {"sizeLimit": "50Gi"}},
        "pools": {"small": {"scratch": {"sizeLimit": "2Gi"}}},
    }
    objects = render(helm, *stated(mine, tmp_path / "mine.yaml"))
    default, small = workers(objects), workers(objects, "small")
    assert flag(default, "--local-directory") == "/tmp"
    assert volume(default, "/tmp")["emptyDir"] == {"sizeLimit": "50Gi"}
    assert volume(small, "/tmp")["emptyDir"] == {"sizeLimit": "2Gi"}
    assert disk(default) == ["51Gi", "51Gi"], "and 1Gi for logs"
    assert disk(small) == ["3Gi", "3Gi"]
    assert disk(one(objects, "Deployment", "study-scheduler")) == ["2Gi", "2Gi"]


@both_helms
def test_a_storage_class_makes_scratch_a_volume_of_the_pod(helm, tmp_path):
    mine = {
        "workers": {"scratch": {"storageClassName": "local-ssd", "sizeLimit": 375000000000}},
        "pools": {"node": {"scratch": {"storageClassName": "", "sizeLimit": "1Gi"}}},
    }
    objects = render(helm, *stated(mine, tmp_path / "mine.yaml"))
    found = volume(workers(objects), "/tmp")
    assert found["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local-ssd",
        "resources": {"requests": {"storage": "375000000000"}},
    }
    assert "emptyDir" not in found
    assert disk(workers(objects)) == ["1Gi", "1Gi"], "the node's disk holds the logs alone"
    assert volume(workers(objects, "node"), "/tmp")["emptyDir"] == {"sizeLimit": "1Gi"}


@pytest.mark.parametrize(
    ("stated_disk", "expected"),
    [
        ({"limits": {"ephemeral-storage": "30Gi"}}, [None, "30Gi"]),
        ({"requests": {"cpu": "1", "ephemeral-storage": "5Gi"}}, ["5Gi", None]),
    ],
)
def test_a_stated_disk_is_left_alone(stated_disk, expected, tmp_path):
    objects = render("helm", *stated({"workers": {"resources": stated_disk}}, tmp_path / "mine.yaml"))
    assert disk(workers(objects)) == expected


@both_helms
def test_the_shared_volume_is_claimed_here_and_outlives_the_release(helm):
    objects = render(helm, "--set", "sharedVolume.enabled=true,sharedVolume.size=2Ti")
    claim = one(objects, "PersistentVolumeClaim", "study-shared")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "2Ti"}},
    }
    assert volume(workers(objects), "/shared")["persistentVolumeClaim"] == {"claimName": "study-shared"}
    scheduler = one(objects, "Deployment", "study-scheduler")
    assert "/shared" not in [row["mountPath"] for row in container(scheduler)["volumeMounts"]]


def test_a_claim_that_exists_is_used_and_not_made():
    objects = render("helm", "--set", "sharedVolume.enabled=true,sharedVolume.existingClaim=filestore")
    assert not [title(item) for item in objects if item["kind"] == "PersistentVolumeClaim"]
    assert volume(workers(objects), "/shared")["persistentVolumeClaim"] == {"claimName": "filestore"}


def test_there_is_no_shared_volume_by_default():
    assert "/shared" not in text("helm")


def test_a_large_shared_volume_is_not_searched_for_wrong_owners_at_every_start():
    pod = workers(render("helm"))["spec"]["template"]["spec"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@both_helms
def test_volumes_of_ones_own_may_not_hide_those_of_the_chart(helm, tmp_path):
    mine = {
        "sharedVolume": {"enabled": True},
        "workers": {
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "data", "emptyDir": {}}],
            "volumeMounts": [
                {"name": "data", "mountPath": "/shared/"},
                {"name": "data", "mountPath": "/data"},
            ],
        },
    }
    said = refusal(helm, *stated(mine, tmp_path / "mine.yaml"))
    assert "workers.volumes: scratch is taken by the chart's own" in said
    assert "workers.volumeMounts: /shared is taken by the chart's own" in said
    assert "/data" not in said


def test_a_name_that_the_chart_does_not_use_is_free(tmp_path):
    mine = {
        "workers": {
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        }
    }
    objects = render("helm", *stated(mine, tmp_path / "mine.yaml"))
    assert volume(workers(objects), "/shared") == {"name": "shared", "emptyDir": {}}


def test_both_helms_render_the_same_bytes(tmp_path):
    files = stated({"sharedVolume": {"enabled": True, "size": 1000000000000}}, tmp_path / "mine.yaml")
    assert text("helm", *files) == text("helm3", *files)
    assert 'storage: "1000000000000"' in text("helm", *files)
