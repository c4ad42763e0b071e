"""All problems of values, each finding at the position that it came from.

    Merged -> findings of reading
            + YAML traps     (values that are easily misread)                here
            + the schema     (names, types, ranges)                          check_schema.py
            + meaning        (memory, autoscaling, environment, presets)     check_meaning.py
            + storage        (volumes, the store of studies)                 check_storage.py
            + unused values                                                  check_unused.py
            + Dask's own configuration                                       check_dask.py

The merged values are checked, as helm passes them to the chart. Of two findings about one value, the more
informative one stays. Files are read in layers.py.
"""

import re

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath
from mops_helm.values import check_dask, check_meaning, check_schema, check_storage, check_unused, schema
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged
from mops_helm.values.scalars import scalar_text
from mops_helm.values.tree import dotted

_FILE_MODES = ("mode", "defaultMode")  # of Kubernetes' volumes


def check(merged: Merged) -> list[Finding]:
    """All findings, by file and position."""
    by_path: dict[NodePath, list[Finding]] = {}
    unusable_paths: set[NodePath] = set()  # of values that cannot be used in computations
    for path, node in merged.supplied.walk():
        if finding := _check_scalar(path, node):
            by_path[path] = [finding]
        if node.value is None:
            unusable_paths.add(path)
    for path, finding in check_schema.check(merged):
        if finding.code == "UNKNOWN_NAME":
            by_path.setdefault(path, []).append(finding)
        else:
            unusable_paths.add(path)
            by_path.setdefault(path, [finding])
    bad_paths = frozenset(unusable_paths)
    findings = [finding for path_findings in by_path.values() for finding in path_findings]
    findings += check_meaning.check(merged, bad_paths)
    findings += check_storage.check(merged, bad_paths)
    findings += check_unused.check(merged)
    findings += check_dask.check(merged, bad_paths)
    return sorted({*merged.findings, *findings})


def _check_scalar(path: NodePath, node: Node) -> Finding | None:
    """A null, or a plain scalar that helm reads differently from most people."""
    position, value, text = node.position, node.value, node.position.text
    name = dotted(path)
    types = schema.allowed_types(path)
    if value is None:
        message = f"{name} has no value; Helm 3 and Helm 4 treat null differently"
        suggestion = (
            "remove the name, or write {}" if types == ("object",) else "write a value, or remove the name"
        )
        return finding_at(position, "NULL", message, suggestion)
    if text is None:
        return None
    quoted = f'"{text}"'
    correction = quoted if types == ("string",) else ""
    if isinstance(value, bool) and text.lower() not in ("true", "false"):
        word = "true" if value else "false"
        if types == ("boolean",):
            return finding_at(position, "YAML_TRUTHY", f"{text} is read as {word}", f"write {word}")
        message = f"{text} is read as {word}, not as text"
        suggestion = _suggest_forms(types, quoted, word)
        return finding_at(position, "YAML_BOOLEAN", message, suggestion, correction)
    if isinstance(value, int | float) and not isinstance(value, bool):
        message = f"{text} is read as {value}"
        if path[-1] in _FILE_MODES and re.fullmatch(r"0[oO]?[0-7]{1,4}", text):
            return None  # octal is meant, and octal is read
        if re.fullmatch(r"[-+]?0[oO]?[0-9_]+", text):
            decimal = text.replace("_", "").replace("o", "").lstrip("+-0") or "0"
            suggestion = _suggest_forms(types, quoted, decimal, str(value))
            return finding_at(position, "YAML_OCTAL", message, suggestion, correction)
        if "_" in text:
            suggestion = _suggest_forms(types, quoted, str(value))
            return finding_at(position, "YAML_UNDERSCORE", message, suggestion, correction)
        if path[-2:-1] == ("env",) and text != scalar_text(value):
            return finding_at(position, "YAML_NUMBER", message, f"write {quoted}", quoted)
    if isinstance(value, str) and _is_number(types) and re.fullmatch(r"[0-9]+(:[0-5]?[0-9])+", text):
        total = 0
        for part in text.split(":"):
            total = total * 60 + int(part)
        return finding_at(
            position, "YAML_SEXAGESIMAL", f"{text} is read as text, not as a number", f"write {total}"
        )
    return None


def _is_number(types: tuple[str, ...]) -> bool:
    return bool(types) and set(types) <= {"integer", "number"}


def _suggest_forms(types: tuple[str, ...], quoted: str, *plain_forms: str) -> str:
    """Advice on what to write if the schema allows these types."""
    if types == ("string",):
        return f"write {quoted}"
    forms = list(dict.fromkeys(plain_forms)) + ([] if _is_number(types) else [quoted])
    return f"write {' or '.join(forms)}"
