"""What an upgrade changes: values by name, and objects line by line, without what secrets hold.

manifests as they are, manifests as they would be -> a unified diff per object

Compares what helm was given, not what the cluster made of it: `status` does that.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from mops_helm.release_values import leaves
from mops_helm.render import yaml_text

Object = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted name and both values of each value that differs; None where one is not stated."""
    old, new = leaves(dict(before)), leaves(dict(after))
    paths = sorted(path for path in old.keys() | new.keys() if path and path[0] != "layers")
    return [
        (".".join(path), old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)
    ]


def objects(manifest: str) -> dict[str, Object]:
    """Objects of a manifest by KIND/NAME, in its order."""
    found = (each for each in yaml.load_all(manifest, Loader=_LOADER) if each)
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def unified(before: dict[str, Object], after: dict[str, Object]) -> str:
    """A unified diff of each object that differs, is new or goes; "" when all are the same."""
    return "\n".join(
        text for name in {**before, **after} for text in _diff(name, before.get(name), after.get(name))
    )


def summary(before: dict[str, Object], after: dict[str, Object]) -> list[str]:
    """A line for each object that is new, changes or goes."""
    lines = []
    for name in {**before, **after}:
        if name not in before:
            lines.append(f"+ {name}")
        elif name not in after:
            lines.append(f"- {name}")
        elif before[name] != after[name]:
            lines.append(f"~ {name}")
    return lines


def _diff(name: str, before: Object | None, after: Object | None) -> Iterator[str]:
    old, new = _lines(before, None), _lines(after, before)
    changed = difflib.unified_diff(old, new, f"{name} (now)", f"{name} (then)", lineterm="")
    if text := "\n".join(changed):
        yield text


def _lines(item: Object | None, before: Object | None) -> list[str]:
    return yaml_text(_shown(item, before)).splitlines() if item else []


def _shown(item: Object, before: Object | None) -> Object:
    """The object with JSON texts of a ConfigMap laid open; of a Secret's values only whether they change."""
    if item["kind"] == "ConfigMap":
        return {**item, "data": {key: _opened(text) for key, text in (item.get("data") or {}).items()}}
    if item["kind"] != "Secret":
        return item
    shown = dict(item)
    for part in ("data", "stringData"):
        now = (before or item).get(part) or {}
        values = (item.get(part) or {}).items()
        shown[part] = {key: "(hidden)" if now.get(key) == value else "(hidden, new)" for key, value in values}
    return shown


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
