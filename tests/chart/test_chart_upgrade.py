"""From the previous chart (upgrade-fixture) to this one: what Kubernetes and users need unchanged."""

import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from chart.rendering import HELMS, KUBE_VERSION, PRESETS, layers, render, stated, text, title, tool

PREVIOUS = Path(__file__).parent / "upgrade-fixture"
# Two pools, one of which scales: the objects of both kinds.
POOLS = {"pools": {"large": {"replicas": 1}, "spot": {"autoscaling": {"enabled": True}}}}
both_helms = pytest.mark.parametrize("helm", HELMS)


@cache
def render_previous(helm, *args):
    """Every object of the previous chart, as release `study`."""
    command = [
        tool(helm),
        "template",
        "study",
        PREVIOUS,
        "--namespace",
        "models",
        "--kube-version",
        KUBE_VERSION,
    ]
    done = subprocess.run([*command, *args], text=True, capture_output=True, timeout=60, check=True)
    return [item for item in yaml.safe_load_all(done.stdout) if item]


@both_helms
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_selectors_and_names_stay(helm, preset, tmp_path):
    files = [*layers(preset), *stated(POOLS, tmp_path / "pools.yaml")]
    before = {title(item): item for item in render_previous(helm, *files)}
    after = {title(item): item for item in render(helm, *files)}
    assert before.keys() - after.keys() == set()
    deployments = [name for name in before if name.startswith("Deployment/")]
    assert len(deployments) == 4
    for name in deployments:
        # The API server refuses to change a selector.
        assert after[name]["spec"]["selector"] == before[name]["spec"]["selector"]
        assert ("replicas" in after[name]["spec"]) == ("replicas" in before[name]["spec"])
    (service,) = [name for name in before if name.startswith("Service/")]
    assert after[service]["spec"]["ports"] == before[service]["spec"]["ports"]


@both_helms
def test_values_that_were_accepted_still_are(helm):
    text(helm, "--values", PREVIOUS / "values.yaml")
