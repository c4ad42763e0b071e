"""The schema source as tools/generate.py reads it, and every property in it by its dotted path."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import yaml

from chart.rendering import ROOT

SCHEMA = yaml.safe_load((ROOT / "schemas" / "values.schema.yaml").read_text())
KUBERNETES_OWN = {"resources", "quantities", "env", "open"}  # definitions of what Kubernetes defines, not us


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    return generate.resolve(node, SCHEMA)


def properties(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of ours, with what it refers to put in its place."""
    for name, unresolved in node.get("properties", {}).items():
        found = resolved(unresolved)
        yield f"{path}{name}", found
        if not is_kubernetes(unresolved):
            yield from properties(found, f"{path}{name}.")


def is_kubernetes(node: dict[str, Any]) -> bool:
    refs = [part.get("$ref", "") for part in [node, *node.get("allOf", [])]]
    return any(ref.removeprefix("#/definitions/") in KUBERNETES_OWN for ref in refs)


PROPERTIES = dict(properties(SCHEMA))
