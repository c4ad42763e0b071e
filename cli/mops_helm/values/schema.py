"""schemas/values.schema.yaml as data: what stands at a path, and which variables values become.

Does not validate: check_schema.py does.
"""

from functools import cache
from typing import Any

import yaml

from mops_helm import paths

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CHART_VARIABLES = (  # that the chart itself sets
    *("HOME", "MODELOPS_BUNDLES_CACHE_DIR", "MODELOPS_VENVS_DIR", "MODELOPS_SCRATCH_BYTES"),
)


@cache
def schema() -> dict[str, Any]:
    """The whole schema, draft-07."""
    return yaml.load((paths.SCHEMAS / "values.schema.yaml").read_text(encoding="utf-8"), Loader=_LOADER)


def at(path: tuple[str | int, ...]) -> dict[str, Any]:
    """The schema of the value at a path; empty where nothing is said about it."""
    found = schema()
    for step in path:
        found = _resolved(found)
        if isinstance(step, int):
            found = found.get("items") or {}
        elif step in found.get("properties", {}):
            found = found["properties"][step]
        else:
            inside = found.get("additionalProperties")
            found = inside if isinstance(inside, dict) else {}
    return _resolved(found)


def types(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Types allowed at a path; empty where anything is."""
    stated = at(path).get("type", ())
    return (stated,) if isinstance(stated, str) else tuple(stated)


@cache
def variables() -> dict[str, str]:
    """Variable -> the value that owns it, dotted; "" for those that the chart sets itself."""
    found = dict.fromkeys(CHART_VARIABLES, "")

    def walk(node: dict[str, Any], path: str) -> None:
        for name, inside in node.get("properties", {}).items():
            where = f"{path}.{name}".lstrip(".")
            if "x-env" in inside:
                found[inside["x-env"]] = where
            walk(inside, where)

    walk(schema(), "")
    return found


def definition(name: str) -> dict[str, Any]:
    return schema()["definitions"][name]


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The node with its $ref, and the one under allOf, followed."""
    while True:
        if "$ref" in node:
            node = definition(node["$ref"].removeprefix("#/definitions/"))
        elif len(node.get("allOf", ())) == 1 and "$ref" in node["allOf"][0]:
            node = {**_resolved(node["allOf"][0]), **{k: v for k, v in node.items() if k != "allOf"}}
        else:
            return node
