"""Dask's own configuration in values: unknown names, values that Dask refuses, thresholds out of order.

What Dask knows is read from the files that dask and distributed ship: their defaults and their schemas.
Does not say which setting is wise.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from mops_helm.values import presets
from mops_helm.values.check_schema import place, shown
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node
from mops_helm.values.merge import Merged

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = ("dask", "config")
_MEMORY = ("distributed", "worker", "memory")
_ORDER = ("target", "spill", "pause", "terminate")


def check(merged: Merged, bad: frozenset[tuple[str | int, ...]]) -> list[Finding]:
    """Findings about dask.config; places in `bad` have findings already."""
    config = merged.root.find(*_PREFIX)
    if config is None or not isinstance(config.value, dict) or _PREFIX in bad or _PREFIX[:1] in bad:
        return []
    found = list(_unknown(merged, config, known(), (), bad))
    found += _values(merged, config.plain(), bad)
    if not found:
        found += _thresholds(merged)
    return found


@cache
def known() -> dict[str, Any]:
    """Every name of Dask's configuration, nested; None where any name may follow, {} at a leaf."""
    tree: dict[str, Any] = {}
    for package in ("dask", "distributed"):
        folder = Path(find_spec(package).submodule_search_locations[0])
        _add_schema(tree, _read(folder / f"{package}-schema.yaml"))
        _add_defaults(tree, _read(folder / f"{package}.yaml"))
    for section in (tree, tree["distributed"]):  # in neither file; distributed/config.py reads both
        section |= {"logging": None, "logging-file-config": {}}
    return tree


@cache
def _schemas() -> tuple[dict[str, Any], ...]:
    places = (Path(find_spec(package).submodule_search_locations[0]) for package in ("dask", "distributed"))
    return tuple(_read(folder / f"{folder.name}-schema.yaml") for folder in places)


@cache
def _read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)


def _add_schema(tree: dict[str, Any], schema: dict[str, Any]) -> None:
    for name, inside in schema.get("properties", {}).items():
        if inside.get("type") == "object" and "properties" not in inside:
            tree[name] = None
            continue
        _add_schema(tree.setdefault(name, {}), inside)


def _add_defaults(tree: dict[str, Any], defaults: dict[str, Any]) -> None:
    for name, value in defaults.items():
        inside = tree.setdefault(name, {})
        if inside is None or not isinstance(value, dict):
            continue
        if not value and not inside:
            tree[name] = None  # an empty map by default: names are the user's
        else:
            _add_defaults(inside, value)


def canonical(name: str, names: dict[str, Any]) -> str:
    """The name as Dask spells it; hyphens and underscores are one to it."""
    for other in (name, name.replace("_", "-"), name.replace("-", "_")):
        if other in names:
            return other
    return name


def _unknown(
    merged: Merged, node: Node, names: dict[str, Any] | None, path: tuple[str, ...], bad: frozenset
) -> Iterator[Finding]:
    if names is None or not names or not isinstance(node.value, dict):
        return
    for key, inside in node.value.items():
        full = (*_PREFIX, *path, key)
        if full in bad or merged.own.find(*full) is None:
            continue
        where = place(merged, full, key=True)
        if "." in key:
            head, *rest = key.split(".")
            nested = f"{head}: " + "".join(f"{{{part}: " for part in rest) + "..." + "}" * len(rest)
            said = f"Dask ignores the dotted key {key}"
            yield Finding(where.file, where.line, where.column, "DASK_DOTTED_KEY", said, f"write {nested}")
            continue
        spelt = canonical(key, names)
        if spelt in names:
            yield from _unknown(merged, inside, names[spelt], (*path, key), bad)
            continue
        near = presets.did_you_mean(key, list(names)).removeprefix("; ")
        message = f"Dask {_version()} has no setting {'.'.join((*path, key))}"
        yield Finding(where.file, where.line, where.column, "DASK_UNKNOWN_KEY", message, near or "remove it")


def _version() -> str:
    from importlib.metadata import version

    return version("distributed")


def _values(merged: Merged, config: dict[str, Any], bad: frozenset) -> Iterator[Finding]:
    for schema in _schemas():
        for error in jsonschema.Draft7Validator(schema).iter_errors(_canonical_tree(config, known())):
            path = (*_PREFIX, *error.absolute_path)
            if path in bad or merged.own.find(*path) is None:
                continue
            where = place(merged, path)
            name = ".".join(map(str, error.absolute_path))
            off = error.instance == 0 and any(
                option.get("enum") == [False] for option in error.schema.get("oneOf", ())
            )
            suggestion = "off is false, never 0" if off else _wanted(error.schema)
            message = f"{name}: Dask refuses {shown(error.instance)}"
            yield Finding(where.file, where.line, where.column, "DASK_VALUE", message, suggestion)


def _canonical_tree(value: Any, names: dict[str, Any] | None) -> Any:
    if not isinstance(value, dict) or not names:
        return value
    spelt = {key: canonical(key, names) for key in value}
    return {spelt[key]: _canonical_tree(inside, names.get(spelt[key])) for key, inside in value.items()}


def _wanted(schema: dict[str, Any]) -> str:
    options = schema.get("oneOf") or schema.get("anyOf") or [schema]
    said = []
    for option in options:
        if "enum" in option:
            said.append("one of " + ", ".join(shown(item) for item in option["enum"]))
        elif "type" in option:
            kinds = option["type"] if isinstance(option["type"], list) else [option["type"]]
            bounds = (("over", "exclusiveMinimum"), ("from", "minimum"), ("up to", "maximum"))
            limits = "".join(f" {word} {option[bound]}" for word, bound in bounds if bound in option)
            said.append(" or ".join(kinds) + limits)
    return f"expected: {' or '.join(said)}" if said else ""


def _thresholds(merged: Merged) -> Iterator[Finding]:
    """target <= spill <= pause <= terminate, leaving out those that are off."""
    previous: tuple[str, float] | None = None
    for name in _ORDER:
        node = merged.root.find(*_PREFIX, *_MEMORY, name)
        if node is None or isinstance(node.value, bool) or not isinstance(node.value, int | float):
            continue
        if previous is not None and node.value < previous[1]:
            culprit = name if merged.own.find(*_PREFIX, *_MEMORY, name) else previous[0]
            where = place(merged, (*_PREFIX, *_MEMORY, culprit))
            yield Finding(
                where.file,
                where.line,
                where.column,
                "DASK_THRESHOLD_ORDER",
                f"{name} {node.value} is under {previous[0]} {previous[1]}",
                "keep target <= spill <= pause <= terminate; false turns one off",
            )
        previous = (name, node.value)
