"""The chart inside a platform team's chart (umbrella/): twice, with conditions, globals and mistakes.

umbrella/ is vendored as its readers would do it: `helm dependency update`, in a copy. tests/e2e installs it.
"""

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.rendering import (
    HELMS,
    ISOLATION,
    KUBE_VERSION,
    PRESET_VALUES,
    Object,
    one,
    pods,
    stated,
    title,
    tool,
    vendored,
)

both_helms = pytest.mark.parametrize("helm", HELMS)
Template = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Template:
    """template(helm, *arguments): `helm template` of the umbrella, vendored by the same helm."""

    @cache
    def platform(helm: str) -> Path:
        return vendored(helm, tmp_path_factory.mktemp(helm))

    def run(helm: str, *args: str | Path, release: str = "study") -> subprocess.CompletedProcess[str]:
        command = [tool(helm), "template", release, platform(helm), "--namespace", "models"]
        command += ["--kube-version", KUBE_VERSION, *args]
        return subprocess.run(command, text=True, capture_output=True, timeout=60)

    return run


def objects(done: subprocess.CompletedProcess[str]) -> list[Object]:
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@both_helms
def test_a_condition_switches_it_off(helm, template):
    found = objects(template(helm))
    assert one(found, "Deployment", "study-studies-worker-large")
    assert not [title(item) for item in found if "bughunt" in item["metadata"]["name"]]


@both_helms
def test_lint(helm, tmp_path):
    command = [tool(helm), "lint", "--strict", "--with-subcharts", vendored(helm, tmp_path)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@both_helms
def test_two_of_them_share_nothing(helm, template):
    found = objects(template(helm, "--set", "bugHunt.enabled=true"))
    titles = [title(item) for item in found]
    assert len(set(titles)) == len(titles)
    assert {"Service/study-studies-scheduler", "Service/study-bughunt-scheduler"} <= set(titles)
    templates = [template["metadata"]["labels"] for _, template in pods(found)]
    for item in found:
        choice = item["spec"].get("selector", item["spec"].get("podSelector")) if "spec" in item else None
        if choice is None:
            continue
        wanted = choice.get("matchLabels", choice)
        chosen = {
            labels["app.kubernetes.io/name"] for labels in templates if wanted.items() <= labels.items()
        }
        assert chosen <= {wanted["app.kubernetes.io/name"]}, title(item)


@both_helms
def test_templates_of_the_parent_know_the_names(helm, template):
    found = objects(template(helm, "--set", "bugHunt.enabled=true"))
    addresses = one(found, "ConfigMap", "study-addresses")["data"]
    assert addresses == {
        "studies": "tcp://study-studies-scheduler:8786",
        "bugHunt": "tcp://study-bughunt-scheduler:8786",
    }


@both_helms
def test_globals_change_nothing(helm, template, tmp_path):
    other = stated(
        {"global": {"imageRegistry": "elsewhere", "namespaceOverride": "x", "n": 1000000}}, tmp_path / "g"
    )
    assert objects(template(helm, *other)) == objects(template(helm))


def test_both_helms_vendor_and_render_the_same(template):
    both = [objects(template(helm, "--set", "bugHunt.enabled=true")) for helm in HELMS]
    assert both[0] == both[1]


LONG = "a-release-whose-name-takes-all-fifty-three-characters"


@both_helms
def test_long_names_stay_apart_and_short_enough(helm, template):
    found = objects(template(helm, "--set", "bugHunt.enabled=true", release=LONG))
    titles = [title(item) for item in found]
    assert len(set(titles)) == len(titles)
    services = [item["metadata"]["name"] for item in found if item["kind"] == "Service"]
    assert len(services) == 2
    assert max(map(len, services)) <= 63


# Bindings and typing errors, as a platform team makes them. Helm itself must say where.


@both_helms
@pytest.mark.parametrize("preset", [path.stem for path in ISOLATION if "workers" in PRESET_VALUES[path.stem]])
@pytest.mark.parametrize("where", ["workers", "pools.large"])
def test_a_preset_binds_workers_and_pools(helm, template, preset, where, tmp_path):
    own = PRESET_VALUES[preset]
    values: dict[str, Any] = {"studies": {**own, "pools": {"large": {"processes": 1}}}}
    assert template(helm, *stated(values, tmp_path / "good")).returncode == 0
    done = template(helm, *stated(values, tmp_path / "bad"), "--set", f"studies.{where}.processes=4")
    assert done.returncode != 0
    assert f"at '/{where.replace('.', '/')}/processes': value must be 1" in done.stderr


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"study": {"enabled": True}}, "additional properties 'study' not allowed"),
    ({"studies": {"worker": {"replicas": 3}}}, "at '': additional properties 'worker' not allowed"),
    (
        {"studies": {"workers": {"replcias": 3}}},
        "at '/workers': additional properties 'replcias' not allowed",
    ),
    ({"studies": {"workers": {"replicas": "3"}}}, "at '/workers/replicas': got string, want integer"),
    ({"studies": {"workers": {"memoryPerProcess": "2GB"}}}, "'2GB' does not match pattern"),
    (
        {"studies": {"workers": {"resources": {"limit": {"memory": "4Gi"}}}}},
        "at '/workers/resources': additional properties 'limit' not allowed",
    ),
    (
        {"studies": {"workers": {"resources": {"limits": {"mem": "4Gi"}}}}},
        "at '/workers/resources/limits': additional properties 'mem' not allowed",
    ),
    (
        {"studies": {"workers": {"env": [{"name": "A", "value": "1"}]}}},
        "at '/workers/env': got array, want object",
    ),
    ({"studies": {"workers": {"env": {"MODELOPS_EXECUTOR_TYPE": "cold"}}}}, "set executor.type instead"),
    (
        {"studies": {"workers": {"nodeSelector": {"gpu": True}}}},
        "at '/workers/nodeSelector/gpu': got boolean",
    ),
    (
        {"studies": {"pools": {"Large": {"replicas": 1}}}},
        "at '/pools': additional properties 'Large' not allowed",
    ),
    (
        {"studies": {"pools": {"large": {"thread": 1}}}},
        "at '/pools/large': additional properties 'thread' not",
    ),
    (
        {"studies": {"pools": {"large": {"executor": {"type": "cold"}}}}},
        "additional properties 'executor' not",
    ),
    ({"studies": {"executor": {"type": "isolated-fork"}}}, "at '/executor/type': value must be one of"),
    ({"studies": {"image": "epi/modelops-dask:1.0"}}, "at '/image': got string, want object"),
    (
        {"studies": {"imagePullSecrets": ["registry-login"]}},
        "at '/imagePullSecrets/0': got string, want object",
    ),
    (
        {"studies": {"dask": {"distributed": {}}}},
        "at '/dask': additional properties 'distributed' not allowed",
    ),
    (
        {"studies": {"networkPolicy": {"egress": {"packageindex": []}}}},
        "at '/networkPolicy/egress': additional properties 'packageindex' not allowed",
    ),
    (
        {"studies": {"networkPolicy": {"clients": [{"podSelecter": {}}]}}},
        "additional properties 'podSelecter'",
    ),
    (
        {"studies": {"fullnameOverride": "Epi_Studies"}},
        "at '/fullnameOverride': 'Epi_Studies' does not match",
    ),
    (
        {"studies": {"commonLabels": {"team": "epi north"}}},
        "at '/commonLabels/team': 'epi north' does not match",
    ),
    (
        {"studies": {"autoscaling": {"enabled": True}}},
        "at '': additional properties 'autoscaling' not allowed",
    ),
]


@both_helms
@pytest.mark.parametrize(("values", "expected"), MISTAKES, ids=[expected for _, expected in MISTAKES])
def test_mistakes_are_named(helm, template, values, expected, tmp_path):
    done = template(helm, *stated(values, tmp_path / "mistake.yaml"))
    assert done.returncode != 0
    assert expected in done.stderr
    assert ("platform:" if "study" in values else "studies") in done.stderr


@both_helms
def test_many_mistakes_are_named_at_once(helm, template, tmp_path):
    """Everything that the schema can see, in one go."""
    values = {
        "studies": {
            "workers": {"replcias": 3, "threads": "1"},
            "executor": {"typ": "cold"},
            "tls": {"enable": True},
            "scheduler": {"service": {"type": "Loadbalancer"}},
        }
    }
    said = template(helm, *stated(values, tmp_path / "mistakes.yaml")).stderr
    for word in ("'replcias'", "/workers/threads", "'typ'", "'enable'", "/scheduler/service/type"):
        assert word in said
