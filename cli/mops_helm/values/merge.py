"""Lay values over values as helm does: maps are merged, everything else is replaced.

    chart defaults <- preset or file <- ... -> Merged, whose every leaf knows the file it came from

Does not choose the layers (layers.py) or judge them (check.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mops_helm.values.findings import Finding
from mops_helm.values.load import Node, Source, Where


@dataclass(frozen=True)
class Merged:
    """Values as helm would hand them to the templates, and where they came from.

    `own` is what presets, files and --set state; `root` has the chart's defaults too.
    `findings` are those of reading.
    """

    root: Node
    own: Node
    sources: tuple[Source, ...]
    findings: tuple[Finding, ...] = ()

    @cached_property
    def values(self) -> dict[str, Any]:
        """The merged values as dicts, lists and scalars."""
        return self.root.plain()

    @cached_property
    def own_values(self) -> dict[str, Any]:
        """What was stated over the chart's defaults."""
        return self.own.plain()


def overlay(under: Node, over: Node) -> Node:
    """`over` laid over `under`; neither changes."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(under.value)
    for key, node in over.value.items():
        merged[key] = overlay(merged[key], node) if key in merged else node
    return Node(merged, over.where)


def merge(defaults: Source, own: Node, sources: Sequence[Source], findings: Sequence[Finding]) -> Merged:
    """Stated values over the chart's defaults; a null takes a default away, as in helm."""
    return Merged(_without_nulls(overlay(defaults.root, own)), own, tuple(sources), tuple(findings))


def empty(name: str) -> Node:
    return Node({}, Where(name, 1, 1))


def _without_nulls(node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    return Node({key: _without_nulls(n) for key, n in node.value.items() if n.value is not None}, node.where)
