"""The schema source itself, and the files made from it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from chart.rendering import CHART, ISOLATION
from chart.source import PROPERTIES, SCHEMA, generate
from modelops_dask.settings import Settings

GENERATED = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_generated_files_have_not_drifted():
    stale = [path.name for path, text in generate.generate_files().items() if path.read_text() != text]
    assert not stale, "run: make generate"


def test_drift_is_noticed(monkeypatch):
    monkeypatch.setitem(SCHEMA["properties"]["preset"], "default", "other")
    assert generate.values_yaml(SCHEMA) != (CHART / "values.yaml").read_text()


@pytest.mark.parametrize("path", PROPERTIES)
def test_every_property_has_a_description_and_a_default(path):
    found = PROPERTIES[path]
    assert found.get("description", "").strip()
    assert "default" in found or "properties" in found, "neither a default nor properties with defaults"


@pytest.mark.parametrize("path", PROPERTIES)
def test_every_default_is_valid(path):
    found = PROPERTIES[path]
    if "default" in found:
        jsonschema.Draft7Validator({**found, "definitions": SCHEMA["definitions"]}).validate(found["default"])


def test_defaults_as_a_whole_are_valid():
    jsonschema.Draft7Validator.check_schema(GENERATED)
    jsonschema.Draft7Validator(GENERATED).validate(DEFAULTS)


def test_objects_of_ours_are_closed():
    is_open = [
        path
        for path, found in PROPERTIES.items()
        if "properties" in found and found.get("additionalProperties", True)
    ]
    assert not is_open
    assert SCHEMA["additionalProperties"] is False


def test_only_what_every_helm_reads_alike():
    for node in nodes(GENERATED):
        if isinstance(node.get("$ref"), str):
            assert node["$ref"].startswith("#/"), node
            assert set(node) == {"$ref"}, f"beside $ref: {node}"
        kinds = node.get("type", [])
        assert "null" not in ([kinds] if isinstance(kinds, str) else kinds)
        if isinstance(pattern := node.get("pattern"), str):
            assert not re.search(r"\(\?|\\[0-9]", pattern), (
                f"Go has neither lookaround nor back references: {pattern}"
            )


def test_variables_are_those_of_settings():
    declared = {found["x-env"]: path for path, found in PROPERTIES.items() if "x-env" in found}
    known = {item.metadata["env"] for item in Settings.__dataclass_fields__.values()}
    paths_in_the_pod = {"MODELOPS_BUNDLES_CACHE_DIR", "MODELOPS_VENVS_DIR"}
    of_a_pool = {"MODELOPS_SCRATCH_BYTES"}  # scratch.sizeLimit, which each pool may have otherwise
    for_diagnosis = {"MODELOPS_SEED_GLOBALS"}  # an arm of an experiment, never a release's setting
    assert known - set(declared) == paths_in_the_pod | of_a_pool | for_diagnosis
    assert set(declared) <= known


def test_each_isolation_preset_has_a_binding():
    bound = [rule["if"]["properties"]["preset"]["const"] for rule in GENERATED["allOf"] if "if" in rule]
    assert sorted(bound) == sorted(path.stem for path in ISOLATION)
