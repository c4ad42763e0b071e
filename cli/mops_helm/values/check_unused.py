"""Values that are stated and reach nothing, for what they belong to is off.

    stated values + the schema's switches (enabled, closed) -> warnings

Only a switch that nobody touched counts: `enabled: false` beside its settings is a choice. Memory and
replicas that another value overrules are check_meaning.py's.
"""

from collections.abc import Iterator

from mops_helm.values import schema
from mops_helm.values.check_schema import place
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node
from mops_helm.values.merge import Merged

Path = tuple[str | int, ...]


def check(merged: Merged) -> Iterator[Finding]:
    """A warning for each section that states settings and is off by default."""
    yield from _sections(merged, merged.own, ())


def _sections(merged: Merged, node: Node, path: Path) -> Iterator[Finding]:
    if not isinstance(node.value, dict):
        return
    switch = _switch(path)
    others = [name for name in node.value if name in schema.at(path).get("properties", {}) and name != switch]
    if switch and others and not _stated(merged, (*path, switch)):
        name = ".".join(map(str, path))
        where = place(merged, (*path, others[0]), key=True)
        said = f"{name}.{switch} is false, the default, so {', '.join(others)} beside it has no effect"
        instead = f"write {switch}: true, or {switch}: false to say that it is meant"
        yield Finding(where.file, where.line, where.column, "SWITCHED_OFF", said, instead)
    for name, inside in node.value.items():
        yield from _sections(merged, inside, (*path, name))


def _switch(path: Path) -> str:
    """The name of the value that turns a section on; empty if it has none, or is on by default."""
    known = schema.at(path).get("properties", {}) if path else {}
    return next((name for name in ("enabled", "closed") if known.get(name, {}).get("default") is False), "")


def _stated(merged: Merged, path: Path) -> bool:
    """Whether somebody says it, for a pool or for all of them."""
    places = [path, ("workers", *path[2:])] if path[0] == "pools" else [path]
    return any(merged.own.find(*there) is not None for there in places)
