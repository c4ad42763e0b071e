"""What this program computes from values is what helm renders, for every preset and pool."""

import json

import pytest
import yaml

from chart.rendering import PRESETS, ROOT, layers, one, render, stated, workers
from fixture_helpers import v010_code
from helm_programs import template
from mops_helm.release import stages as release_stages
from mops_helm.release.status import compare
from mops_helm.values import layers as value_layers
from mops_helm.values import schema
from mops_helm.values.tree import flatten_dotted

POOLS = {
    "pools": {"large": {"processes": 1, "threads": 1, "memoryPerProcess": "3Gi"}},
    "dask": {"config": {"distributed": {"scheduler": {"worker-saturation": 1.5}}}},
    "executor": {"workerMemory": "200Mi", "maxProcessReuse": 1000000},
}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_values_and_manifest_agree(preset, tmp_path):
    rendered = render("helm3", *stated(POOLS, tmp_path / "pools.json"), *layers(preset))
    values = value_layers.merge_layers(
        [value_layers.load(tmp_path / "pools.json"), value_layers.load(preset)], ()
    )
    for pool in ("default", "large"):
        asked = release_stages.read_values(values.values, pool)
        made = release_stages.read_pod(workers(rendered, pool)["spec"]["template"])
        both = asked.keys() & made.keys()
        assert {name: asked[name] for name in both} == {name: made[name] for name in both}
        assert {"preset", "executor.type", "executor.workerMemory", "processes", "memory limit"} <= both


def test_a_release_of_an_earlier_chart_is_compared_in_the_values_that_it_has(tmp_path):
    """The values of 0.1.0 lack some that this program reads."""
    chart = v010_code(tmp_path) / "charts" / "modelops-dask"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    done = template("helm", chart)
    assert done.returncode == 0, done.stderr
    deployment = one([each for each in yaml.safe_load_all(done.stdout) if each], "Deployment", "probe-worker")
    made = release_stages.read_pod(deployment["spec"]["template"])
    own_names = flatten_dotted(values).keys()
    asked = release_stages.read_values(release_stages.complete_values(values), "default", own_names)
    variables = {name for name in schema.variables().values() if name} & asked.keys()
    assert {name: asked[name] for name in variables} == {name: made.get(name) for name in variables}
    assert "executor.type" in variables and "executor.python" not in asked
    everything = release_stages.complete_values({})
    every_name = flatten_dotted(everything).keys()
    assert release_stages.read_values(everything, "default", every_name) == release_stages.read_values(
        everything, "default"
    ), "of this chart, nothing is left out"


def test_plain_dask_has_no_settings_of_ours():
    preset = ROOT / "examples" / "values" / "official-dask-image.yaml"
    asked = release_stages.read_values(
        value_layers.merge_layers([value_layers.load(preset)], ()).values, "default"
    )
    assert not any(name.startswith("executor.") for name in asked)
    made = release_stages.read_pod(workers(render("helm", "-f", preset))["spec"]["template"])
    assert asked["memory limit"] == made["memory limit"]


def test_a_difference_at_any_stage_is_drift():
    """Pods as rendered and processes that report the same; then one of each that does not."""
    preset = ROOT / "values" / "baseline.yaml"
    deployment = workers(render("helm3", "-f", preset))
    values = value_layers.merge_layers([value_layers.load(preset)], ()).values
    wanted = release_stages.read_values(values, "default")
    template = deployment["spec"]["template"]
    pods = [
        {**template, "metadata": {**template["metadata"], "name": name}, "status": {"podIP": host}}
        for name, host in (("one", "10.0.0.1"), ("two", "10.0.0.2"))
    ]
    answer = {
        "settings": {row["name"]: row.get("value", "") for row in template["spec"]["containers"][0]["env"]},
        "threads": 1,
        "memory_limit_bytes": 1024**3,
        "dask": release_stages.dask_settings(values),
    }
    answers = [
        {**answer, "host": pod["status"]["podIP"], "address": f"tcp://{pod['status']['podIP']}:{port}"}
        for pod in pods
        for port in range(int(wanted["processes"]))
    ]
    assert [row.name for row in compare("default", wanted, deployment, pods, answers) if row.drift] == []

    answers[0] = {**answers[0], "settings": answer["settings"] | {"MODELOPS_EXECUTOR_TYPE": "direct"}}
    pods[1] = json.loads(json.dumps(pods[1]).replace("modelops-dask:0.2.0", "modelops-dask:old"))
    drift = {row.name: row for row in compare("default", wanted, deployment, pods, answers) if row.drift}
    assert set(drift) == {"executor.type", "image"}
    assert drift["executor.type"].processes["direct"] == ("one tcp://10.0.0.1:0",)
    assert drift["image"].pods["modelops-dask:old"] == ("two",)
    del answers[3]
    drift = {row.name: row for row in compare("default", wanted, deployment, pods, answers) if row.drift}
    assert drift["processes"].processes == {"3": tuple(f"one tcp://10.0.0.1:{n}" for n in range(3))} | {
        "4": tuple(f"two tcp://10.0.0.2:{n}" for n in range(4))
    }
