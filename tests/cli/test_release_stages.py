"""What this program computes from values is what helm renders, for every preset and pool."""

import pytest

from chart.rendering import PRESETS, ROOT, layers, render, stated, workers
from mops_helm import release_stages
from mops_helm.values import layers as value_layers

POOLS = {
    "pools": {"large": {"processes": 1, "threads": 1, "memoryPerProcess": "3Gi"}},
    "dask": {"config": {"distributed": {"scheduler": {"worker-saturation": 1.5}}}},
    "executor": {"workerMemory": "200Mi", "maxProcessReuse": 1000000},
}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_values_and_manifest_agree(preset, tmp_path):
    rendered = render("helm3", *stated(POOLS, tmp_path / "pools.json"), *layers(preset))
    values = value_layers.lay([value_layers.load(tmp_path / "pools.json"), value_layers.load(preset)], ())
    for pool in ("default", "large"):
        asked = release_stages.of_values(values.values, pool)
        made = release_stages.of_pod(workers(rendered, pool)["spec"]["template"])
        both = asked.keys() & made.keys()
        assert {name: asked[name] for name in both} == {name: made[name] for name in both}
        assert {"preset", "executor.type", "executor.workerMemory", "processes", "memory limit"} <= both


def test_plain_dask_has_no_settings_of_ours():
    preset = ROOT / "examples" / "values" / "official-dask-image.yaml"
    asked = release_stages.of_values(value_layers.lay([value_layers.load(preset)], ()).values, "default")
    assert not any(name.startswith("executor.") for name in asked)
    made = release_stages.of_pod(workers(render("helm", "-f", preset))["spec"]["template"])
    assert asked["memory limit"] == made["memory limit"]
