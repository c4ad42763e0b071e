"""Everything that is wrong with values, all at once, each finding at the place it came from.

    Merged -> findings of reading
            + YAML traps     (what is read is not what the eye reads)        here
            + the schema     (names, types, ranges)                          check_schema.py
            + meaning        (memory, autoscaling, environment, presets)     check_meaning.py
            + places to write                                                check_storage.py
            + what reaches nothing                                           check_unused.py
            + Dask's own configuration                                       check_dask.py

The values are judged as merged, for that is what helm hands to the chart. Where two findings
are about one value, the one that explains more is kept. Does not read files: layers.py does.
"""

import re
from collections.abc import Iterator

from mops_helm.values import check_dask, check_meaning, check_schema, check_storage, check_unused, schema
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node, Where
from mops_helm.values.merge import Merged

Path = tuple[str | int, ...]
_FILE_MODES = ("mode", "defaultMode")  # of Kubernetes' volumes


def check(merged: Merged) -> list[Finding]:
    """All findings, by file and position."""
    found: dict[Path, list[Finding]] = {}
    bad: set[Path] = set()  # values that cannot be computed with
    for path, node in _walk(merged.own):
        if finding := _trap(path, node):
            found[path] = [finding]
        if node.value is None:
            bad.add(path)
    for path, finding in check_schema.check(merged):
        if finding.code == "UNKNOWN_NAME":
            found.setdefault(path, []).append(finding)
        else:
            bad.add(path)
            found.setdefault(path, [finding])
    every = [finding for there in found.values() for finding in there]
    every += check_meaning.check(merged, frozenset(bad))
    every += check_storage.check(merged, frozenset(bad))
    every += check_unused.check(merged)
    every += check_dask.check(merged, frozenset(bad))
    return sorted({*merged.findings, *every}, key=lambda f: (f.file, f.line, f.column, f.code))


def _walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    inside = node.value
    children = (
        inside.items() if isinstance(inside, dict) else enumerate(inside) if isinstance(inside, list) else ()
    )
    for step, child in children:
        yield (*path, step), child
        yield from _walk(child, (*path, step))


def _trap(path: Path, node: Node) -> Finding | None:
    """A null, or a plain scalar that helm reads otherwise than most people."""
    where, value, text = node.where, node.value, node.where.text
    name = ".".join(map(str, path))
    types = schema.types(path)
    if value is None:
        said = f"{name} has no value; Helm 3 and Helm 4 treat null differently"
        suggestion = (
            "remove the name, or write {}" if types == ("object",) else "write a value, or remove the name"
        )
        return finding_at(where, "NULL", said, suggestion)
    if text is None:
        return None
    quoted = f'"{text}"'
    if isinstance(value, bool) and text.lower() not in ("true", "false"):
        word = "true" if value else "false"
        if types == ("boolean",):
            return finding_at(where, "YAML_TRUTHY", f"{text} is read as {word}", f"write {word}")
        said = f"{text} is read as {word}, not as text"
        return finding_at(where, "YAML_BOOLEAN", said, _write(types, quoted, word))
    if isinstance(value, int | float) and not isinstance(value, bool):
        said = f"{text} is read as {value}"
        if path[-1] in _FILE_MODES and re.fullmatch(r"0[oO]?[0-7]{1,4}", text):
            return None  # octal is what is meant, and what is read
        if re.fullmatch(r"[-+]?0[oO]?[0-9_]+", text):
            decimal = text.replace("_", "").replace("o", "").lstrip("+-0") or "0"
            return finding_at(where, "YAML_OCTAL", said, _write(types, quoted, decimal, str(value)))
        if "_" in text:
            return finding_at(where, "YAML_UNDERSCORE", said, _write(types, quoted, str(value)))
    if isinstance(value, str) and _is_number(types) and re.fullmatch(r"[0-9]+(:[0-5]?[0-9])+", text):
        total = 0
        for part in text.split(":"):
            total = total * 60 + int(part)
        return finding_at(
            where, "YAML_SEXAGESIMAL", f"{text} is read as text, not as a number", f"write {total}"
        )
    return None


def _is_number(types: tuple[str, ...]) -> bool:
    return bool(types) and set(types) <= {"integer", "number"}


def _write(types: tuple[str, ...], quoted: str, *words: str) -> str:
    """What may be written instead at a place of these types."""
    if types == ("string",):
        return f"write {quoted}"
    forms = list(dict.fromkeys(words)) + ([] if _is_number(types) else [quoted])
    return f"write {' or '.join(forms)}"


def finding_at(where: Where, code: str, message: str, suggestion: str = "") -> Finding:
    """A finding at a value."""
    return Finding(where.file, where.line, where.column, code, message, suggestion)
