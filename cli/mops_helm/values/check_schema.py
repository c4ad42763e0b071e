"""What the schema says against values, in words that say what to write instead.

    merged values + schemas/values.schema.yaml -> (path, finding) pairs

Does not compare values with each other: check_meaning.py does.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from mops_helm.values import presets, quantity, schema
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node, Where
from mops_helm.values.merge import Merged

Path = tuple[str | int, ...]
_SECTIONS = (
    ("workers",),
    ("executor",),
    ("scheduler",),
    ("workers", "autoscaling"),
    ("workers", "resources"),
)
_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}


def check(merged: Merged) -> Iterator[tuple[Path, Finding]]:
    """Findings of the schema, each with the path of the value or name that it is about."""
    validator = jsonschema.Draft7Validator(schema.schema())
    for error in validator.iter_errors(merged.values):
        path = tuple(error.absolute_path)
        where = place(merged, path)
        match error.validator:
            case "additionalProperties":
                yield from _unknown(merged, path, error)
            case "propertyNames":
                continue
            case _ if error.parent is None and "propertyNames" in error.absolute_schema_path:
                yield from _bad_name(merged, path, error.instance)
            case _:
                yield path, worded(error, path, where)


def place(merged: Merged, path: Path, *, key: bool = False) -> Where:
    """Where a value was stated: in a file or flag, else its nearest stated parent, else the first file."""
    node: Node | None = None
    for length in range(len(path), -1, -1):
        node = merged.own.find(*path[:length])
        if node is not None:
            break
    where = node.where if node is not None else merged.own.where
    exact = node is not None and length == len(path)
    if (key or not exact) and where.key_line:
        return Where(where.file, where.key_line, where.key_column, where.key_line, where.key_column)
    return where


def _at(where: Where, code: str, message: str, suggestion: str = "") -> Finding:
    return Finding(where.file, where.line, where.column, code, message, suggestion)


def _unknown(merged: Merged, path: Path, error: jsonschema.ValidationError) -> Iterator[tuple[Path, Finding]]:
    known = sorted(error.schema.get("properties", {}))
    for name in sorted(set(error.instance) - set(known)):
        full = (*path, name)
        where = place(merged, full, key=True)
        if path[-2:-1] == ("env",):
            if name == "value" and "valueFrom" not in error.instance:
                instead = f"write {path[-1]}: {shown(error.instance[name])}"
                yield path, _at(where, "WRONG_TYPE", f"{_name(path)} is a map", instead)
            continue  # both: check_meaning.py says so
        if elsewhere := _elsewhere(name, path):
            yield full, _at(where, "UNKNOWN_NAME", f"{name} is no value here", f"it belongs {elsewhere}")
            continue
        near = presets.did_you_mean(name, known).removeprefix("; ")
        listed = f"known here: {', '.join(known)}" if len(known) < 8 else "remove it"
        foreign = "" if path else _foreign(name, error.instance[name])
        yield full, _at(where, "UNKNOWN_NAME", f"{_name(full)} is no value", foreign or near or listed)


def _foreign(name: str, value: Any) -> str:
    """What to do with a file that has values, but not those of this chart's root."""
    if not isinstance(value, dict):
        return ""
    if name == "spec":
        return "a file in the guides' form is translated by `mops-helm values convert`"
    if len(value.keys() & schema.schema()["properties"].keys()) > (name != "modelops-dask"):
        return f"this is a parent chart's file: check what is below {name} as a file of its own"
    return ""


def _elsewhere(name: str, path: Path) -> str:
    """Where a name that is wrong here would be right."""
    if path and name in schema.schema()["properties"]:
        return "at the top level"
    for section in _SECTIONS:
        same = section == path or (section == ("workers",) and path[:1] == ("pools",))
        if not same and name in schema.at(section).get("properties", {}):
            return f"under {_name(section)}"
    return "under dask.config" if name == "distributed" else ""


def _bad_name(merged: Merged, path: Path, name: str) -> Iterator[tuple[Path, Finding]]:
    if path[:2] == ("dask", "config"):
        return  # check_dask.py says it better
    where = place(merged, (*path, name), key=True)
    instead = "a-z, 0-9 and - inside, at most 30 characters" if path == ("pools",) else ""
    if path[-1:] in (("requests",), ("limits",)):
        instead = "cpu, memory and ephemeral-storage are Kubernetes' own, others have a slash: nvidia.com/gpu"
    yield (*path, name), _at(where, "BAD_FORMAT", f"the name {name} is not allowed in {_name(path)}", instead)


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def worded(error: jsonschema.ValidationError, path: Path, where: Where) -> Finding:
    """What a value at a path breaks of the schema, and what to write instead."""
    name = _name(path) or "the file"
    value, wanted = error.instance, error.validator_value
    if error.schema in (schema.definition("memory"), schema.definition("cpu")) and not isinstance(
        value, dict | list
    ):
        return _quantity(error, name, where)
    match error.validator:
        case "type":
            return _type(error, path, name, where)
        case "enum":
            near = presets.did_you_mean(str(value), [str(item) for item in wanted]).removeprefix("; ")
            return _at(
                where,
                "NOT_ALLOWED",
                f"{name}: {shown(value)} is not allowed",
                near or f"one of {_list(wanted)}",
            )
        case "minimum" | "maximum":
            than = "at least" if error.validator == "minimum" else "at most"
            return _at(where, "OUT_OF_RANGE", f"{name}: {shown(value)} is out of range", f"{than} {wanted}")
        case "required":
            missing = ", ".join(key for key in wanted if key not in value)
            suggestion = _variable(path[-1], value) if path[-2:-1] == ("env",) else "add it"
            return _at(where, "MISSING_NAME", f"{name} lacks {missing}", suggestion)
        case "minProperties" | "minItems":
            known = ", ".join(error.schema.get("properties", {}))
            instead = f"write one of {known} in it" if known else "write an item"
            return _at(where, "BAD_FORMAT", f"{name} is empty", f"{instead}, or remove it")
        case "pattern":
            form = error.schema.get("x-form") or f"something that matches {wanted}"
            said = f"{name}: {shown(value)} has a form that is not allowed" if value else f"{name} is empty"
            return _at(where, "BAD_FORMAT", said, f"write {form}")
    return _at(where, "BAD_FORMAT", f"{name}: {error.message}")


def _type(error: jsonschema.ValidationError, path: Path, name: str, where: Where) -> Finding:
    value, wanted = error.instance, error.validator_value
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if path[-1:] == ("env",) and isinstance(value, list):
        return _at(where, "ENV_LIST", f"{name} is a map of variables here, not a list", _env_map(value))
    suggestion = ""
    if wanted == ["string"] and isinstance(value, int | float):
        suggestion = f'quote it: "{where.text or shown(value)}"'
    elif isinstance(value, str) and where.text is None and {"integer", "number", "boolean"} & set(wanted):
        suggestion = "remove the quotes" if _is_type(value, wanted) else ""
    elif isinstance(value, str) and name.endswith("Seconds") and (seconds := _seconds(value)):
        suggestion = f"write {seconds}"
    elif path == ("pools",) and isinstance(value, list):
        suggestion = "write each pool by its name, large: {replicas: 1}"
    said = " or ".join(_WORDS[item] for item in wanted)
    return _at(
        where, "WRONG_TYPE", f"{name}: {shown(value)} is {_kind(value)}; {said} is expected", suggestion
    )


def _seconds(text: str) -> int | None:
    """Seconds of a duration such as 90s, 5m or 2h."""
    found = re.fullmatch(r"([0-9]+)([smhd])", text)
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else None


def _variable(name: str, value: dict[str, Any]) -> str:
    """How a variable is written that is given as a map without valueFrom."""
    source = next((key for key in value if key.endswith("Ref")), None)
    return f"write {name}: {{valueFrom: {{{source}: ...}}}}" if source else f"write {name}: value"


def _quantity(error: jsonschema.ValidationError, name: str, where: Where) -> Finding:
    value, memory = error.instance, error.schema == schema.definition("memory")
    # A number written 1_000 or 1e3 without a unit has been read as a number: judge what it became.
    try:
        quantity.to_bytes(value) if memory else quantity.to_cpus(value)
    except quantity.BadQuantity as bad:
        code = "MEMORY_UNIT" if memory and bad.unit else "QUANTITY"
        suggestion = bad.suggestion if memory or not bad.unit else "write it like 2, 1.5 or 500m"
        return _at(where, code, f"{name}: {bad.text}: {bad.message}", suggestion)
    if error.validator == "minimum":
        return _at(
            where,
            "MEMORY_SMALL" if memory else "OUT_OF_RANGE",
            f"{name}: {value} is nothing",
            "write 1Gi, say",
        )
    example = "1.5Gi, 960Mi or 14G" if memory else "2, 1.5 or 500m"
    return _at(
        where, "QUANTITY", f"{name}: {value} is more than the chart computes with", f"write it like {example}"
    )


def _env_map(items: list[Any]) -> str:
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("name"), str) and "value" in item:
            return f"write {item['name']}: {json.dumps(item['value'])}"
    return 'write NAME: "value"'


def _is_type(text: str, wanted: list[str]) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if isinstance(value, bool):
        return "boolean" in wanted
    return isinstance(value, int) or (isinstance(value, float) and "number" in wanted)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else "a boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return _WORDS[names[type(value)]]


def shown(value: Any) -> str:
    """A value in a message, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(items: list[Any]) -> str:
    return ", ".join(str(item) for item in items)
