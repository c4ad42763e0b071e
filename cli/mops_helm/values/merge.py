"""Merge values as helm does: maps are merged, everything else is replaced.

    chart defaults <- preset or file <- ... -> Merged, whose every leaf knows its file

Layers are chosen in layers.py and checked in check.py.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, Position
from mops_helm.values.load import Layer
from mops_helm.values.tree import Json, ValueTree


@dataclass(frozen=True)
class Merged:
    """Values as helm would pass them to the templates, and their origins.

    `supplied` are those of presets, files and --set; `root` includes the chart's defaults. `findings` are
    those of reading.
    """

    root: Node
    supplied: Node
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...] = ()

    @cached_property
    def values(self) -> ValueTree:
        """The merged values as dicts, lists and scalars."""
        tree: ValueTree = self.root.plain()
        return tree

    @cached_property
    def supplied_values(self) -> ValueTree:
        """The values set over the chart's defaults."""
        tree: ValueTree = self.supplied.plain()
        return tree


def overlay(under: Node, over: Node) -> Node:
    """Merge `over` over `under`; neither changes."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(under.value)
    for key, node in over.value.items():
        merged[key] = overlay(merged[key], node) if key in merged else node
    return Node(merged, over.position)


def merge(defaults: Layer, supplied: Node, layers: Sequence[Layer], findings: Sequence[Finding]) -> Merged:
    """Merge values over the chart's defaults; a null removes a default, as in helm."""
    return Merged(_drop_nulls(overlay(defaults.root, supplied)), supplied, tuple(layers), tuple(findings))


def overlay_values(under: ValueTree, over: Mapping[str, Json]) -> ValueTree:
    """A copy of `under` with `over` merged over it: overlay() for plain values."""
    merged = deepcopy(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = overlay_values(merged[name], value) if both else deepcopy(value)
    return merged


def plain_at(node: Node | None, *path: str) -> Json:
    """The plain value at a path below a node; None if there is none."""
    child = None if node is None else node.find(*path)
    return None if child is None else child.plain()


def make_empty_node(file: str) -> Node:
    """The root of a file that has no values."""
    return Node({}, Position(file, 1, 1))


def _drop_nulls(node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    return Node(
        {key: _drop_nulls(child) for key, child in node.value.items() if child.value is not None},
        node.position,
    )
