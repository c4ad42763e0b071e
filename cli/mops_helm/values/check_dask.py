"""Dask's own configuration in values: unknown names, values that Dask refuses, thresholds out of order.

Dask's settings are read from the defaults and schemas that dask and distributed ship. Good settings are not
recommended here.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import yaml

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import YAML_LOADER, Node, NodePath
from mops_helm.values import presets
from mops_helm.values.check_schema import find_position, quote
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged
from mops_helm.values.tree import Json, ValueTree, dotted

_PACKAGES = ("dask", "distributed")
_PREFIX = ("dask", "config")
_MEMORY = ("distributed", "worker", "memory")
_ORDER = ("target", "spill", "pause", "terminate")


def check(merged: Merged, bad_paths: frozenset[NodePath]) -> list[Finding]:
    """Findings about dask.config; values at `bad_paths` already have findings."""
    config = merged.root.find(*_PREFIX)
    if config is None or not isinstance(config.value, dict) or {_PREFIX, _PREFIX[:1]} & bad_paths:
        return []
    findings = list(_check_names(merged, config, load_setting_names(), (), bad_paths))
    findings += _check_values(merged, config.plain(), bad_paths)
    if not findings:
        findings += _check_thresholds(merged)
    return findings


# A name of Dask's configuration -> the names below it: None if any name may follow, {} for a leaf.
SettingNames = dict[str, "SettingNames | None"]


@cache
def load_setting_names() -> SettingNames:
    """Every name of Dask's configuration."""
    names: SettingNames = {}
    for package in _PACKAGES:
        folder = _package_folder(package)
        _add_schema(names, _read(folder / f"{package}-schema.yaml"))
        _add_defaults(names, _read(folder / f"{package}.yaml"))
    for section in (names, names["distributed"]):
        if section is not None:  # in neither file, but distributed/config.py reads both
            section["logging"], section["logging-file-config"] = None, {}
    return names


@cache
def _load_schemas() -> tuple[ValueTree, ...]:
    return tuple(_read(_package_folder(package) / f"{package}-schema.yaml") for package in _PACKAGES)


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None, f"{package} is not installed"
    return Path(spec.submodule_search_locations[0])


@cache
def _read(path: Path) -> ValueTree:
    tree: ValueTree = yaml.load(path.read_text(encoding="utf-8"), Loader=YAML_LOADER)
    return tree


def _add_schema(names: SettingNames, schema: ValueTree) -> None:
    for name, subschema in schema.get("properties", {}).items():
        if subschema.get("type") == "object" and "properties" not in subschema:
            names[name] = None
        elif (names_below := names.setdefault(name, {})) is not None:
            _add_schema(names_below, subschema)


def _add_defaults(names: SettingNames, defaults: ValueTree) -> None:
    for name, value in defaults.items():
        names_below = names.setdefault(name, {})
        if names_below is None or not isinstance(value, dict):
            continue
        if not value and not names_below:
            names[name] = None  # an empty map by default: names are the user's
        else:
            _add_defaults(names_below, value)


def find_spelling(name: str, names: SettingNames) -> str:
    """The name in Dask's spelling, in which hyphens and underscores are equivalent."""
    for spelling in (name, name.replace("_", "-"), name.replace("-", "_")):
        if spelling in names:
            return spelling
    return name


def _check_names(
    merged: Merged,
    node: Node,
    names: SettingNames | None,
    path: tuple[str, ...],
    bad_paths: frozenset[NodePath],
) -> Iterator[Finding]:
    if names is None or not names or not isinstance(node.value, dict):
        return
    for key, inside in node.value.items():
        setting_path = (*_PREFIX, *path, key)
        if setting_path in bad_paths or merged.supplied.find(*setting_path) is None:
            continue
        position = find_position(merged, setting_path, key=True)
        if "." in key:
            head, *rest = key.split(".")
            nested = f"{head}: " + "".join(f"{{{part}: " for part in rest) + "..." + "}" * len(rest)
            dotted_message = f"Dask ignores the dotted key {key}"
            yield finding_at(position, "DASK_DOTTED_KEY", dotted_message, f"write {nested}")
            continue
        spelt = find_spelling(key, names)
        if spelt in names:
            yield from _check_names(merged, inside, names[spelt], (*path, key), bad_paths)
            continue
        near = presets.did_you_mean(key, list(names)).removeprefix("; ")
        message = f"Dask {_version()} has no setting {dotted((*path, key))}"
        right_name = presets.find_typing_error(key, list(names))
        stated = merged.supplied.find(*_PREFIX, *path)
        if stated is not None and any(find_spelling(name, names) == right_name for name in stated.value):
            right_name = ""
        yield finding_at(position, "DASK_UNKNOWN_KEY", message, near or "remove it", right_name)


def _version() -> str:
    from importlib.metadata import version

    return version("distributed")


def _check_values(merged: Merged, config: ValueTree, bad_paths: frozenset[NodePath]) -> Iterator[Finding]:
    for schema in _load_schemas():
        spelt = _respell(config, load_setting_names())
        for error in jsonschema.Draft7Validator(schema).iter_errors(spelt):
            path = (*_PREFIX, *error.absolute_path)
            if path in bad_paths or merged.supplied.find(*path) is None:
                continue
            position = find_position(merged, path)
            name = dotted(error.absolute_path)
            off = error.instance == 0 and any(
                option.get("enum") == [False] for option in error.schema.get("oneOf", ())
            )
            suggestion = "write false to turn it off, never 0" if off else _describe_expected(error.schema)
            message = f"{name}: Dask refuses {quote(error.instance)}"
            yield finding_at(position, "DASK_VALUE", message, suggestion)


def _respell(value: Json, names: SettingNames | None) -> Json:
    """The configuration with every name in Dask's spelling."""
    if not isinstance(value, dict) or not names:
        return value
    spelt = {key: find_spelling(key, names) for key in value}
    return {spelt[key]: _respell(inside, names.get(spelt[key])) for key, inside in value.items()}


def _describe_expected(schema: ValueTree) -> str:
    options = schema.get("oneOf") or schema.get("anyOf") or [schema]
    forms = []
    for option in options:
        if "enum" in option:
            forms.append("one of " + ", ".join(quote(item) for item in option["enum"]))
        elif "type" in option:
            kinds = option["type"] if isinstance(option["type"], list) else [option["type"]]
            bounds = (("over", "exclusiveMinimum"), ("from", "minimum"), ("up to", "maximum"))
            limits = "".join(f" {word} {option[bound]}" for word, bound in bounds if bound in option)
            forms.append(" or ".join(kinds) + limits)
    return f"expected: {' or '.join(forms)}" if forms else ""


def _check_thresholds(merged: Merged) -> Iterator[Finding]:
    """target <= spill <= pause <= terminate, leaving out those that are off."""
    previous: tuple[str, float] | None = None
    for name in _ORDER:
        node = merged.root.find(*_PREFIX, *_MEMORY, name)
        if node is None or isinstance(node.value, bool) or not isinstance(node.value, int | float):
            continue
        if previous is not None and node.value < previous[1]:
            culprit = name if merged.supplied.find(*_PREFIX, *_MEMORY, name) else previous[0]
            position = find_position(merged, (*_PREFIX, *_MEMORY, culprit))
            yield finding_at(
                position,
                "DASK_THRESHOLD_ORDER",
                f"{name} {node.value} is under {previous[0]} {previous[1]}",
                "keep target <= spill <= pause <= terminate; false turns one off",
            )
        previous = (name, node.value)
