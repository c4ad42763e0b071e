"""Every value does what it is there for: another valid value, and the rendered objects change.

A new value fails here until a template uses it. If it needs others to have an effect, CONTEXT says which; if
another valid value cannot be guessed from its type or examples, OTHER says one.
"""

import re
from functools import reduce
from typing import Any

import jsonschema
import pytest
import yaml

from chart.rendering import CHART, ROOT, Object, env, render, stated, text, workers
from chart.source import PROPERTIES, SCHEMA
from mops_helm.values import effective

FOR_THE_PARENT = ("global", "enabled")  # declared because Helm hands them to subcharts
FOR_THE_COMMANDS = ("layers.workload", "layers.hidden")  # kept in the release for the next upgrade
PATHS = [
    path
    for path in PROPERTIES
    if path not in FOR_THE_PARENT + FOR_THE_COMMANDS
    and not any(inside.startswith(f"{path}.") for inside in PROPERTIES)
]
OF_WORKERS = [path for path in PATHS if path.startswith("workers.")]
DIGEST = "sha256:" + "0123456789abcdef" * 4

CONTEXT: dict[str, Object] = {
    "networkPolicy.egress.closed": {},
    "networkPolicy.egress": {"networkPolicy": {"egress": {"closed": True}}},
    "scheduler.podDisruptionBudget.enabled": {},
    "studies": {"studies": {"enabled": True}},
    "studies.store": {"sharedVolume": {"enabled": True}},
    "workers.podDisruptionBudget": {"workers": {"podDisruptionBudget": {"enabled": True}}},
    "workers.podDisruptionBudget.enabled": {},
    "sharedVolume": {"sharedVolume": {"enabled": True}},
    "sharedVolume.enabled": {},
    "tls": {"tls": {"enabled": True}},
    "tls.enabled": {},
    "workers.autoscaling": {"workers": {"autoscaling": {"enabled": True}}},
    "workers.autoscaling.enabled": {},
    "workers.volumeMounts": {"workers": {"volumes": [{"name": "data", "emptyDir": {}}]}},
}
EGRESS_RULE = [{"ports": [{"port": 443}]}]
OTHER: dict[str, Any] = {
    "image.digest": DIGEST,
    "scheduler.image.digest": DIGEST,
    "workers.image.digest": DIGEST,
    "scheduler.image.pullPolicy": "Always",
    "workers.image.pullPolicy": "Always",
    "scheduler.env": {"TZ": "UTC"},
    "networkPolicy.egress.registry": EGRESS_RULE,
    "networkPolicy.egress.store": EGRESS_RULE,
    "executor.python": "3.12",
    "tls.certificateDuration": "720h",
    "studies.store": "s3://bucket/studies",
    "workers.podDisruptionBudget.maxUnavailable": "25%",
    "serviceAccount.annotations": {"example.org/role": "reader"},
    "sharedVolume.accessModes": ["ReadWriteOnce"],
    "dask.config": {"distributed": {"scheduler": {"bandwidth": 1}}},
}
KUBERNETES: dict[str, Any] = {
    "resources": {"requests": {"cpu": "3"}},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"podAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "volumes": [{"name": "data", "emptyDir": {}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "podSecurityContext": {"runAsUser": 10002},
    "securityContext": {"runAsUser": 10002},
}


DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
EVERYTHING = yaml.safe_load((ROOT / "tests" / "chart" / "everything.yaml").read_text())
# Values that would hide others of everything.yaml, or that its pools set instead.
NOT_IN_EVERYTHING = {
    *("nameOverride", "fullnameOverride", "image.digest", "studies.enabled", "networkPolicy.enabled"),
    *("sharedVolume.existingClaim", "sharedVolume.accessModes", "tls.certificateDuration"),
    *("serviceAccount.create", "podSecurityContext", "securityContext", "workers.scratch.storageClassName"),
    *(f"{part}.image.{key}" for part in ("scheduler", "workers") for key in DEFAULTS["image"]),
    *(f"workers.autoscaling.{key}" for key in DEFAULTS["workers"]["autoscaling"]),
}


def nested(path: str, value: Any) -> Object:
    return reduce(lambda inside, name: {name: inside}, reversed(path.split(".")), value)


def merged(*layers: Object) -> Object:
    """Maps merged as helm merges values files."""
    out: Object = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, dict) and isinstance(out.get(name), dict)
            out[name] = merged(out[name], value) if both else value
    return out


def context(path: str) -> Object:
    """What must be stated for the value to have an effect: of the longest prefix that CONTEXT has."""
    steps = path.split(".")
    prefixes = (".".join(steps[:length]) for length in range(len(steps), 0, -1))
    return next((CONTEXT[prefix] for prefix in prefixes if prefix in CONTEXT), {})


def other(path: str) -> Any:
    """A valid value that is not the default."""
    found = PROPERTIES[path]
    name = path.rpartition(".")[2]
    default = found.get("default")
    kinds = found.get("type", [])
    if path in OTHER:
        value = OTHER[path]
    elif name in KUBERNETES:
        value = KUBERNETES[name]
    elif "examples" in found:
        value = found["examples"][0]
    elif "enum" in found:
        value = next(word for word in found["enum"] if word != default)
    elif "boolean" in kinds:
        value = not default
    elif kinds == "integer":
        value = default + 1
    elif "integer" in kinds:  # a quantity
        value = re.sub(r"^[0-9]+", lambda number: str(2 * int(number[0])), str(default))
    else:
        value = "other"
    assert value != default
    validator = jsonschema.Draft7Validator({**found, "definitions": SCHEMA["definitions"]})
    assert not list(validator.iter_errors(value)), f"OTHER needs a valid value for {path}; {value} is none"
    return value


@pytest.mark.parametrize("path", PATHS)
def test_every_value_changes_what_is_rendered(path, tmp_path):
    base = context(path)
    before = text("helm3", *stated(base, tmp_path / "before.json"))
    after = text("helm3", *stated(merged(base, nested(path, other(path))), tmp_path / "after.json"))
    assert after != before


@pytest.mark.parametrize("path", OF_WORKERS)
def test_every_value_of_workers_is_one_of_pools(path, tmp_path):
    """A pool that states it differs from one that does not, and the default pool stays as it is."""
    in_pool = path.replace("workers.", "pools.extra.", 1)
    base = merged(context(path), {"pools": {"extra": {}}})
    before = render("helm3", *stated(base, tmp_path / "before.json"))
    after = render("helm3", *stated(merged(base, nested(in_pool, other(path))), tmp_path / "after.json"))
    assert workers(after) == workers(before)
    assert after != before


@pytest.mark.parametrize("path", [path for path in PATHS if "x-env" in PROPERTIES[path]])
def test_every_variable_reaches_every_pool(path, tmp_path):
    variable = PROPERTIES[path]["x-env"]
    values = merged(nested(path, other(path)), {"pools": {"extra": {}}})
    before = env(workers(render("helm3")))
    after = render("helm3", *stated(values, tmp_path / "after.json"))
    found = {env(workers(after, pool))[variable] for pool in ("default", "extra")}
    assert len(found) == 1
    assert found != {before[variable]}


@pytest.mark.parametrize("path", [path for path in PATHS if "x-env" in PROPERTIES[path]])
def test_every_variable_is_a_setting_of_local_studies_too(path):
    """`mops-helm study run` sets it from the same value."""
    variable = PROPERTIES[path]["x-env"]
    values = merged(DEFAULTS, nested(path, other(path)))
    before, after = (effective.settings(each).to_env()[variable] for each in (DEFAULTS, values))
    assert before != after, f"settings() in cli/mops_helm/values/effective.py does not read {path}"


@pytest.mark.parametrize("path", [path for path in PATHS if path not in NOT_IN_EVERYTHING])
def test_everything_yaml_sets_every_value(path):
    value = reduce(lambda node, name: node.get(name) if node else None, path.split("."), EVERYTHING)
    missing = value is None or value == PROPERTIES[path].get("default")
    assert not missing, f"set {path} in tests/chart/everything.yaml, to another value than the default"


def test_what_kubernetes_and_dask_define_is_open(tmp_path):
    """Names that this chart has never heard of are handed on, at any depth."""
    new = {"newInKubernetes": {"deep": [{"marker": "handed-on"}]}}
    own = {"affinity": new, "tolerations": [new], "env": {"A": {"valueFrom": new}}}
    own |= {"resources": {"claims": [new], "limits": {"example.org/thing": 1}}}
    pool = own | {"topologySpreadConstraints": [new], "volumes": [new], "volumeMounts": [new]}
    values = {
        "workers": pool,
        "pools": {"extra": pool},
        "scheduler": own,
        "podSecurityContext": new,
        "securityContext": new,
        "dask": {"config": new},
    }
    rendered = text("helm3", *stated(values, tmp_path / "open.json"))
    in_a_pool, in_a_scheduler, pods = 7, 4, 3
    in_the_config_map = 1
    in_the_driver, in_the_test = 5, 4  # placed as the scheduler, with the variables of workers
    in_a_chunk = in_a_pool + 2  # as a pod of the default pool
    expected = 2 * in_a_pool + in_a_scheduler + 2 * pods + in_the_config_map + in_the_driver + in_the_test
    expected += in_a_chunk
    assert rendered.count("handed-on") == expected
