"""`values convert` turns the guides' workspace.yaml into values that pass `values check`."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from helm_programs import BOTH_HELMS, CHART, template
from mops_helm.main import main
from mops_helm.values import effective, layers
from mops_helm.values.check import check

GIB = 2**30
WORKERS = """
replicas: 4
processes: 2
threads: 1
image: registry:5000/team/worker:1.10
resources:
  requests: {memory: 4Gi, cpu: "2"}
  limits: {memory: 4Gi, cpu: "2"}
env:
  - {name: MODELOPS_EXECUTOR_TYPE, value: "direct"}
  - {name: MODELOPS_FORCE_FRESH_VENV, value: "true"}
  - {name: MODELOPS_SUBPROCESS_POOL_SIZE, value: "2"}
  - {name: COUNTRY, value: "NO"}
  - name: TOKEN
    valueFrom: {secretKeyRef: {name: store, key: token}}
"""
WHOLE = """
apiVersion: modelops/v1
kind: Workspace
metadata: {name: dev-workspace}
spec:
  scheduler:
    image: registry/team/scheduler@sha256:%s
    resources: {requests: {memory: 2Gi, cpu: "1"}}
    env:
      - {name: DASK_SCHEDULER__PRELOAD, value: some_module}
      - {name: DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES, value: "5"}
  workers:
    replicas: 4
    processes: 4
    threads: 1
    resources: {limits: {memory: 8Gi}, requests: {cpu: "2"}}
    nodeSelector: {modelops.io/role: cpu}
    env:
      - {name: DASK_WORKER__MEMORY__TARGET, value: "0.90"}
      - {name: DASK_DISTRIBUTED__WORKER__MEMORY__SPILL, value: "0.95"}
      - {name: DASK_WORKER__MEMORY__PAUSE, value: "0.98"}
      - {name: MODELOPS_STORAGE_DIR, value: /data}
    restartPolicy: Always
  tolerations:
    - {key: modelops.io/role, operator: Equal, value: cpu, effect: NoSchedule}
  autoscaling: {enabled: true, min_workers: 2, max_workers: 10, target_cpu: 70, scale_down_delay: 300}
""" % ("0" * 64)


def convert(tmp_path, text):
    """The converted file, its values, and what was said on stderr."""
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(text)
    done = CliRunner().invoke(main, ["values", "convert", str(workspace)])
    assert done.exit_code == 0, done.output
    path = tmp_path / "values.yaml"
    path.write_text(done.stdout)
    assert check(layers.stack((), [path], ())) == []
    return path, layers.resolve((), [path], ()).values, done.stderr


def forms():
    lines = WORKERS.strip().splitlines()
    inside = "\n".join("  " + line for line in lines)
    deep = "\n".join("    " + line for line in lines)
    return {
        "bare": WORKERS,
        "workers": f"workers:\n{inside}\n",
        "spec.workers": f"spec:\n  workers:\n{deep}\n",
        "whole": f"apiVersion: modelops/v1\nkind: Workspace\nspec:\n  workers:\n{deep}\n",
    }


@pytest.mark.parametrize("text", forms().values(), ids=forms().keys())
def test_every_form_of_the_workers_part(text, tmp_path):
    _, values, said = convert(tmp_path, text)
    shape = effective.shape(values)
    assert (shape.replicas, shape.processes, shape.threads, shape.pod_memory_bytes) == (4, 2, 1, 4 * GIB)
    assert shape.resources == {"aggregation": 1}
    assert values["scheduler"]["service"]["name"] == "dask-scheduler"
    assert values["image"] == {**values["image"], "repository": "registry:5000/team/worker", "tag": "1.10"}
    settings = effective.settings(values)
    assert (settings.executor_type, settings.force_fresh_venv, settings.subprocess_pool_size) == (
        "direct",
        True,
        2,
    )
    assert values["workers"]["env"]["COUNTRY"] == "NO"
    assert values["workers"]["env"]["TOKEN"] == {
        "valueFrom": {"secretKeyRef": {"name": "store", "key": "token"}}
    }
    assert said == ""


def test_the_whole_document(tmp_path):
    _, values, said = convert(tmp_path, WHOLE)
    shape = effective.shape(values)
    assert (shape.replicas, shape.processes, shape.pod_memory_bytes) == (2, 4, 8 * GIB)
    workers = values["workers"]
    assert workers["autoscaling"] == {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 10,
        "targetCPUUtilizationPercentage": 70,
    }
    assert workers["nodeSelector"] == {"modelops.io/role": "cpu"}
    assert workers["tolerations"] == values["scheduler"]["tolerations"] != []
    assert values["scheduler"]["image"] == {
        "repository": "registry/team/scheduler",
        "digest": "sha256:" + "0" * 64,
    }
    config = effective.dask_config(values)["distributed"]
    assert config["worker"]["memory"] == {"target": 0.90, "spill": 0.95, "pause": 0.98, "terminate": 0.98}
    assert config["scheduler"]["allowed-failures"] == 5
    for word in (
        "autoscaling.scale_down_delay: 300",
        "workers.replicas: 4 has no effect",
        "workers.restartPolicy",
        "MODELOPS_STORAGE_DIR",
        "DASK_SCHEDULER__PRELOAD",
        "DASK_WORKER__MEMORY__TARGET: 0.90: Dask never read it",
        "metadata.name",
    ):
        assert word in said
    assert "SPILL" not in said  # Dask did read that one


@BOTH_HELMS
@pytest.mark.parametrize("text", [WORKERS, WHOLE], ids=["workers", "whole"])
def test_helm_renders_the_result(helm, text, tmp_path):
    path, _, _ = convert(tmp_path, text)
    done = template(helm, CHART, "-f", path)
    assert done.returncode == 0, done.stderr
    services = [obj for obj in yaml.safe_load_all(done.stdout) if obj and obj["kind"] == "Service"]
    assert [service["metadata"]["name"] for service in services] == ["dask-scheduler"]
    assert "aggregation=1" in done.stdout


@pytest.mark.parametrize("text", ["a: 1\n", "spec: 3\n", "spec: {workers: []}\n", ""])
def test_what_is_no_workspace_is_refused(text, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert done.exit_code == 2
    assert "not a workspace" in done.stderr


@pytest.mark.parametrize(
    "text",
    ["executor: {type: cold}\nworkers: {replicas: 2}\n", "workers: {processes: 2, memoryPerProcess: 1Gi}\n"],
)
def test_a_values_file_is_told_from_a_workspace(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "this is already a values file" in done.stderr
    assert f"mops-helm values check {path}" in done.stderr


def test_an_object_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text("kind: Deployment\nspec: {replicas: 3}\n")
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "its kind is Deployment" in done.stderr


@pytest.mark.parametrize("head", ["", "workers:\n", "spec:\n workers:\n"])
def test_what_is_no_number_is_refused_at_its_place(head, tmp_path):
    path = tmp_path / "workspace.yaml"
    path.write_text(f'{head}  replicas: many\n  processes: "4"\n  threads: 0\n')
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    first = 1 + head.count("\n")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [
        f"{path}:{first}:13  WRONG_TYPE  workers.replicas",
        f"{path}:{first + 1}:14  WRONG_TYPE  workers.processes",
        f"{path}:{first + 2}:12  OUT_OF_RANGE  workers.threads",
    ]
    assert "remove the quotes" in done.stderr


def test_numbers_of_autoscaling_too(tmp_path):
    path = tmp_path / "workspace.yaml"
    path.write_text("workers: {replicas: 2}\nautoscaling: {enabled: maybe, max_workers: all}\n")
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert done.exit_code == 2
    assert ":2:24  WRONG_TYPE  autoscaling.enabled" in done.stderr
    assert ":2:44  WRONG_TYPE  autoscaling.max_workers" in done.stderr


def test_a_file_that_is_not_there_has_no_place_in_it(tmp_path):
    path = tmp_path / "none.yaml"
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{path}  FILE_UNREADABLE  ")


def test_a_broken_workspace_is_refused_with_its_place(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("spec:\n\tworkers: 1\n")
    done = CliRunner().invoke(main, ["values", "convert", str(path)])
    assert done.exit_code == 2
    assert f"{Path(path)}:2:1  YAML_TAB" in done.stderr
