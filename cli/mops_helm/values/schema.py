"""schemas/values.schema.yaml as data: the schema at a path, and the variables of values.

Values are validated in check_schema.py.
"""

from functools import cache

import yaml

from modelops_dask.documents.nodes import YAML_LOADER, NodePath
from mops_helm import paths
from mops_helm.values.tree import ValueTree

# Variables that the chart itself sets.
CHART_VARIABLES = ("HOME", "MODELOPS_BUNDLES_CACHE_DIR", "MODELOPS_VENVS_DIR", "MODELOPS_SCRATCH_BYTES")


@cache
def load_schema() -> ValueTree:
    """The whole schema, draft-07."""
    text = (paths.SCHEMAS / "values.schema.yaml").read_text(encoding="utf-8")
    tree: ValueTree = yaml.load(text, Loader=YAML_LOADER)
    return tree


def find_schema(path: NodePath) -> ValueTree:
    """The schema of the value at a path; empty if the schema allows anything."""
    node = load_schema()
    for step in path:
        node = _resolve(node)
        if isinstance(step, int):
            node = node.get("items") or {}
        elif step in node.get("properties", {}):
            node = node["properties"][step]
        else:
            inside = node.get("additionalProperties")
            node = inside if isinstance(inside, dict) else {}
    return _resolve(node)


def allowed_types(path: NodePath) -> tuple[str, ...]:
    """Types allowed at a path; empty if anything is allowed."""
    types = find_schema(path).get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


@cache
def variables() -> dict[str, str]:
    """Variable -> the value that sets it, dotted; "" for those that the chart sets itself."""
    owners = dict.fromkeys(CHART_VARIABLES, "")

    def walk(node: ValueTree, path: str) -> None:
        for name, inside in node.get("properties", {}).items():
            value_path = f"{path}.{name}".lstrip(".")
            if "x-env" in inside:
                owners[inside["x-env"]] = value_path
            walk(inside, value_path)

    walk(load_schema(), "")
    return owners


def definition(name: str) -> ValueTree:
    """A schema that others refer to by name."""
    schema: ValueTree = load_schema()["definitions"][name]
    return schema


def _resolve(node: ValueTree) -> ValueTree:
    """The node with its $ref, and the one under allOf, followed."""
    while True:
        if "$ref" in node:
            node = definition(node["$ref"].removeprefix("#/definitions/"))
        elif len(node.get("allOf", ())) == 1 and "$ref" in node["allOf"][0]:
            node = {**_resolve(node["allOf"][0]), **{k: v for k, v in node.items() if k != "allOf"}}
        else:
            return node
