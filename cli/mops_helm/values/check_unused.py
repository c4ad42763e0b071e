"""Values without an effect, because their feature is off.

    stated values + the schema's switches (enabled, closed) -> warnings

Only a switch without a stated value counts: `enabled: false` next to its settings is a choice. Memory and
replicas that another value overrides are checked in check_meaning.py.
"""

from collections.abc import Iterator

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath
from mops_helm.values import schema
from mops_helm.values.check_schema import find_position
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged
from mops_helm.values.tree import dotted


def check(merged: Merged) -> Iterator[Finding]:
    """A warning for each section with settings that is off by default."""
    yield from _check_sections(merged, merged.supplied, ())


def _check_sections(merged: Merged, node: Node, path: NodePath) -> Iterator[Finding]:
    if not isinstance(node.value, dict):
        return
    switch = _switch_name(path)
    others = [
        name
        for name in node.value
        if name in schema.find_schema(path).get("properties", {}) and name != switch
    ]
    if switch and others and not _is_supplied(merged, (*path, switch)):
        name = dotted(path)
        position = find_position(merged, (*path, others[0]), key=True)
        message = f"{name}.{switch} is false, the default, so {', '.join(others)} has no effect"
        suggestion = f"write {switch}: true, or {switch}: false to confirm it"
        yield finding_at(position, "SWITCHED_OFF", message, suggestion)
    for name, inside in node.value.items():
        yield from _check_sections(merged, inside, (*path, name))


def _switch_name(path: NodePath) -> str:
    """The name of the value that turns a section on; empty if it has none, or is on by default."""
    properties = schema.find_schema(path).get("properties", {}) if path else {}
    return next(
        (name for name in ("enabled", "closed") if properties.get(name, {}).get("default") is False), ""
    )


def _is_supplied(merged: Merged, path: NodePath) -> bool:
    """Whether a value is stated for a pool or for all of them."""
    places = [path, ("workers", *path[2:])] if path[0] == "pools" else [path]
    return any(merged.supplied.find(*place) is not None for place in places)
