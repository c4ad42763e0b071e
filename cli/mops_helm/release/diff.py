"""The changes of an upgrade: values by name, and objects line by line, without the contents of secrets.

current manifests, new manifests -> a unified diff per object

helm's input is compared, not the cluster's state: `status` compares that.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from modelops_dask.documents.nodes import YAML_LOADER
from mops_helm.forms import render_yaml
from mops_helm.values.tree import Json, flatten

Object = dict[str, Any]  # of Kubernetes, as its JSON
Objects = Mapping[str, Object]  # by KIND/NAME


def values(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[tuple[str, Json, Json]]:
    """Dotted name and both values of each value that differs; None if one is not set."""
    old, new = flatten(before), flatten(after)
    paths = sorted(path for path in old.keys() | new.keys() if path[0] != "layers")
    return [
        (".".join(path), old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)
    ]


def objects(manifest: str) -> dict[str, Object]:
    """Objects of a manifest by KIND/NAME, in its order."""
    documents = (document for document in yaml.load_all(manifest, Loader=YAML_LOADER) if document)
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}


def unified(before: Objects, after: Objects) -> str:
    """A unified diff of each object that changes, is added or removed; "" if all are the same."""
    return "\n".join(
        text for name in {**before, **after} for text in _diff(name, before.get(name), after.get(name))
    )


def summary(before: Objects, after: Objects) -> list[str]:
    """A line for each object that is added, changes or is removed."""
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
    lines = difflib.unified_diff(old, new, f"{name} (now)", f"{name} (then)", lineterm="")
    if text := "\n".join(lines):
        yield text


def _lines(item: Object | None, before: Object | None) -> list[str]:
    return render_yaml(_mask_secrets(item, before)).splitlines() if item else []


def _mask_secrets(item: Object, before: Object | None) -> Object:
    """The object with a ConfigMap's JSON texts parsed; a Secret's values only show whether they change."""
    if item["kind"] == "ConfigMap":
        return {**item, "data": {key: _parse_json(text) for key, text in (item.get("data") or {}).items()}}
    if item["kind"] != "Secret":
        return item
    visible = dict(item)
    for part in ("data", "stringData"):
        before_values, values = (before or item).get(part) or {}, item.get(part) or {}
        visible[part] = {
            key: "(hidden)" if before_values.get(key) == value else "(hidden, new)"
            for key, value in values.items()
        }
    return visible


def _parse_json(text: str) -> Json:
    """The text as JSON, or unchanged if it is invalid."""
    try:
        return json.loads(text)
    except ValueError:
        return text
