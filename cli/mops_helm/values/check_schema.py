"""Violations of the schema, with advice on what to write.

    merged values + schemas/values.schema.yaml -> (path, finding) pairs

Values are compared with each other in check_meaning.py.
"""

import json
import re
from collections.abc import Iterator, Mapping

import jsonschema

from modelops_dask.documents.characters import describe_lookalike
from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath, Position
from mops_helm.values import presets, quantity, schema, sets
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged
from mops_helm.values.scalars import scalar_text
from mops_helm.values.tree import Json, ValueTree, dotted

_SECTIONS = (
    ("workers",),
    ("executor",),
    ("scheduler",),
    ("workers", "autoscaling"),
    ("workers", "resources"),
)
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}


def check(merged: Merged) -> Iterator[tuple[NodePath, Finding]]:
    """Findings of the schema, each with the path of its value or name."""
    validator = jsonschema.Draft7Validator(schema.load_schema())
    for error in validator.iter_errors(merged.values):
        path = tuple(error.absolute_path)
        position = find_position(merged, path)
        match error.validator:
            case "additionalProperties":
                yield from _check_unknown_names(merged, path, error)
            case "propertyNames":
                continue
            case _ if error.parent is None and "propertyNames" in error.absolute_schema_path:
                yield from _check_name_format(merged, path, error.instance)
            case _:
                yield path, describe_error(error, path, position)


def find_position(merged: Merged, path: NodePath, *, key: bool = False) -> Position:
    """The position of a value: in a file or flag, else its nearest parent with one, or the first file."""
    node: Node | None = None
    for length in range(len(path), -1, -1):
        node = merged.supplied.find(*path[:length])
        if node is not None:
            break
    position = node.position if node is not None else merged.supplied.position
    exact = node is not None and length == len(path)
    if (key or not exact) and position.key_line:
        return Position(
            position.file, position.key_line, position.key_column, position.key_line, position.key_column
        )
    return position


def _check_unknown_names(
    merged: Merged, path: NodePath, error: jsonschema.ValidationError
) -> Iterator[tuple[NodePath, Finding]]:
    values: Json = error.instance
    allowed_names = sorted(_schema_of(error).get("properties", {}))
    for name in sorted(set(values) - set(allowed_names)):
        name_path = (*path, name)
        position = find_position(merged, name_path, key=True)
        if path[-2:-1] == ("env",):
            if name == "value" and "valueFrom" not in values:
                suggestion = f"write {path[-1]}: {quote(values[name])}"
                yield path, finding_at(position, "WRONG_TYPE", f"{dotted(path)} is a map", suggestion)
            continue  # both: check_meaning.py reports it
        if elsewhere := _right_section(name, path):
            yield (
                name_path,
                finding_at(position, "UNKNOWN_NAME", f"unknown value {name}", f"it belongs {elsewhere}"),
            )
            continue
        near = presets.did_you_mean(name, allowed_names).removeprefix("; ")
        right_name = presets.find_typing_error(name, allowed_names)
        is_taken = merged.supplied.find(*path, right_name) is not None
        if is_taken or not _has_type_of(values[name], (*path, right_name)):
            right_name = ""
        advice = f"expected one of {', '.join(allowed_names)}" if len(allowed_names) < 8 else "remove it"
        foreign = "" if path else _advise_on_foreign(name, values[name])
        yield (
            name_path,
            finding_at(
                position,
                "UNKNOWN_NAME",
                f"unknown value {dotted(name_path)}",
                describe_lookalike(name) or foreign or near or advice,
                "" if foreign else right_name,
            ),
        )


def _has_type_of(value: Json, path: NodePath) -> bool:
    """Whether a value has one of the types that the schema allows at a path."""
    types = schema.allowed_types(path)
    return not types or jsonschema.Draft7Validator({"type": list(types)}).is_valid(value)


def _advise_on_foreign(name: str, value: Json) -> str:
    """Advice for a file with other values than those of this chart's root."""
    if not isinstance(value, dict):
        return ""
    if name == "spec":
        return "convert a file in the guides' form with `mops-helm values convert`"
    if len(value.keys() & schema.load_schema()["properties"].keys()) > (name != "modelops-dask"):
        return f"this file belongs to a parent chart: check the part below {name} as a separate file"
    return ""


def _right_section(name: str, path: NodePath) -> str:
    """The section in which a misplaced name would be valid."""
    if path and name in schema.load_schema()["properties"]:
        return "at the top level"
    for section in _SECTIONS:
        same = section == path or (section == ("workers",) and path[:1] == ("pools",))
        if not same and name in schema.find_schema(section).get("properties", {}):
            return f"under {dotted(section)}"
    return "under dask.config" if name == "distributed" else ""


def _check_name_format(merged: Merged, path: NodePath, name: str) -> Iterator[tuple[NodePath, Finding]]:
    if path[:2] == ("dask", "config"):
        return  # check_dask.py reports it better
    position = find_position(merged, (*path, name), key=True)
    suggestion = "use a-z, 0-9 and - inside, at most 30 characters" if path == ("pools",) else ""
    if path[-1:] in (("requests",), ("limits",)):
        suggestion = "use cpu, memory or ephemeral-storage, or a name with a slash such as nvidia.com/gpu"
    yield (
        (*path, name),
        finding_at(position, "BAD_FORMAT", f"the name {name} is not allowed in {dotted(path)}", suggestion),
    )


def _schema_of(error: jsonschema.ValidationError) -> Mapping[str, Json]:
    """The schema with the failed keyword."""
    assert isinstance(error.schema, Mapping)  # `true` and `false`, the other schemas, have no keywords
    return error.schema


def describe_error(error: jsonschema.ValidationError, path: NodePath, position: Position) -> Finding:
    """The violation of a value at a path, and what to write instead."""
    name = dotted(path) or "the file"
    value: Json = error.instance
    expected: Json = error.validator_value
    if error.schema in (schema.definition("memory"), schema.definition("cpu")) and not isinstance(
        value, dict | list
    ):
        return _describe_quantity(error, name, position)
    match error.validator:
        case "type":
            return _describe_wrong_type(error, path, name, position)
        case "enum":
            near = presets.did_you_mean(str(value), [str(item) for item in expected]).removeprefix("; ")
            return finding_at(
                position,
                "NOT_ALLOWED",
                f"{name}: {quote(value)} is not allowed",
                near or f"one of {_join(expected)}",
            )
        case "minimum" | "maximum":
            than = "at least" if error.validator == "minimum" else "at most"
            return finding_at(
                position, "OUT_OF_RANGE", f"{name}: {quote(value)} is out of range", f"{than} {expected}"
            )
        case "required":
            missing = ", ".join(key for key in expected if key not in value)
            suggestion = _suggest_variable(str(path[-1]), value) if path[-2:-1] == ("env",) else "add it"
            return finding_at(position, "MISSING_NAME", f"{name} lacks {missing}", suggestion)
        case "minProperties" | "minItems":
            allowed_names = ", ".join(_schema_of(error).get("properties", {}))
            advice = f"write one of {allowed_names} in it" if allowed_names else "write an item"
            return finding_at(position, "BAD_FORMAT", f"{name} is empty", f"{advice}, or remove it")
        case "pattern":
            form = _schema_of(error).get("x-form") or f"something that matches {expected}"
            message = f"{name}: {quote(value)} has an invalid format" if value else f"{name} is empty"
            return finding_at(position, "BAD_FORMAT", message, f"write {form}")
    return finding_at(position, "BAD_FORMAT", f"{name}: {error.message}")


def _describe_wrong_type(
    error: jsonschema.ValidationError, path: NodePath, name: str, position: Position
) -> Finding:
    value: Json = error.instance
    keyword_value: Json = error.validator_value
    types: list[str] = [keyword_value] if isinstance(keyword_value, str) else keyword_value
    if path[-1:] == ("env",) and isinstance(value, list):
        return finding_at(
            position, "ENV_LIST", f"{name} must be a map of variables, not a list", _suggest_env_map(value)
        )
    suggestion = correction = ""
    if types == ["string"] and isinstance(value, int | float):
        text = position.text or quote(value)
        schema = _schema_of(error)
        is_allowed = re.search(schema.get("pattern", ""), text)
        suggestion = f'quote it: "{text}"' if is_allowed else f"write {schema.get('x-form', 'text')}"
        correction = f'"{position.text}"' if position.text and is_allowed else ""
        if position.file == sets.FILE and is_allowed:  # which has no quotes, and no --set-string
            suggestion = f"write it in a values file, for -f: {_write_flow(path, quote(scalar_text(value)))}"
    elif isinstance(value, str) and position.text is None and {"integer", "number", "boolean"} & set(types):
        suggestion = "remove the quotes" if _is_type(value, types) else ""
    elif isinstance(value, str) and name.endswith("Seconds") and (seconds := _parse_seconds(value)):
        suggestion = f"write {seconds}"
    elif isinstance(value, str) and (advice := describe_lookalike(value)):
        suggestion = advice
    elif path == ("pools",) and isinstance(value, list):
        suggestion = "write each pool by its name, large: {replicas: 1}"
    type_names = " or ".join(_WORDS[item] for item in types)
    return finding_at(
        position,
        "WRONG_TYPE",
        f"{name}: {quote(value)} is {_type_word(value)}; expected {type_names}",
        suggestion,
        correction,
    )


def _write_flow(path: NodePath, value: str) -> str:
    """A value at a path as YAML on one line: {image: {tag: "1"}}."""
    for step in reversed(path):
        value = f"[{value}]" if isinstance(step, int) else f"{{{step}: {value}}}"
    return value


def _parse_seconds(text: str) -> int | None:
    """Seconds of a duration such as 90s, 5m or 2h."""
    match = re.fullmatch(r"([0-9]+)([smhd])", text)
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else None


def _suggest_variable(name: str, value: ValueTree) -> str:
    """How to write a variable that is given as a map without valueFrom."""
    source = next((key for key in value if key.endswith("Ref")), None)
    return f"write {name}: {{valueFrom: {{{source}: ...}}}}" if source else f"write {name}: value"


def _describe_quantity(error: jsonschema.ValidationError, name: str, position: Position) -> Finding:
    value: Json = error.instance
    memory = error.schema == schema.definition("memory")
    # A number written 1_000 or 1e3 without a unit has been read as a number: check the result.
    try:
        quantity.to_bytes(value) if memory else quantity.to_cpus(value)
    except quantity.BadQuantity as problem:
        code = "MEMORY_UNIT" if memory and problem.unit else "QUANTITY"
        suggestion = problem.suggestion if memory or not problem.unit else "write it like 2, 1.5 or 500m"
        message = f"{name}: {problem.text}: {problem.message}"
        return finding_at(position, code, message, suggestion, problem.correction if memory else "")
    if error.validator == "minimum":
        return finding_at(
            position,
            "MEMORY_SMALL" if memory else "OUT_OF_RANGE",
            f"{name}: {value} is zero",
            "write a size such as 1Gi",
        )
    example = "1.5Gi, 960Mi or 14G" if memory else "2, 1.5 or 500m"
    return finding_at(
        position,
        "QUANTITY",
        f"{name}: {value} is more than the chart can compute with",
        f"write it like {example}",
    )


def _suggest_env_map(items: list[Json]) -> str:
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("name"), str) and "value" in item:
            return f"write {item['name']}: {json.dumps(item['value'])}"
    return 'write NAME: "value"'


def _is_type(text: str, types: list[str]) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if isinstance(value, bool):
        return "boolean" in types
    return isinstance(value, int) or (isinstance(value, float) and "number" in types)


def _type_word(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else "a boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return _WORDS[names[type(value)]]


def quote(value: object) -> str:
    """A value in a message, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _join(items: list[Json]) -> str:
    return ", ".join(str(item) for item in items)
