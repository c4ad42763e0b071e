"""Read a YAML or JSON file as plain data and remember the position of every value.

file -> Document(value, position of any path into it);   plain data of a program -> Document without positions

JSON is read by the standard library, so that a million parameter sets take seconds; YAML by
documents/nodes.py, and its unquoted words by scalars.py. Duplicate keys, exploding aliases, several
documents, excessive depth and ambiguous words become findings.
"""

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask.documents.findings import BadFile, Finding, Severity
from modelops_dask.documents.nodes import Node, NodePath, Nodes, Position, YamlProblem
from modelops_dask.errors import BadInput
from modelops_dask.plan import scalars

NAME = -1  # as the last step of a path: the name itself, not its value
_BLANK = re.compile(r"[ \t\r\n]*")
_LAST_COMMA = re.compile(r",\s*([}\]])")
# Codes of findings that do not refuse a file.
WARNINGS = ("SET_FORM", "YAML_NUMBER", "YAML_EMPTY", "TARGETS", "TIME_LIMIT", "NO_EFFECT", "NO_SEED")
_OF_PARAMETERS = ("fixed", "sets")  # positions at which a value may be null


def _finding(file: Path | str, position: tuple[int, int], code: str, message: str) -> Finding:
    line, column = position
    severity: Severity = "warning" if code in WARNINGS else "error"
    return Finding(file=str(file), line=line, column=column, code=code, message=message, severity=severity)


class BadDocument(BadFile):
    """A study file cannot be used; with all its findings."""

    def __init__(self, path: Path, findings: list[Finding]) -> None:
        super().__init__(sorted(findings))
        self.path = path
        self.args = (path, findings)  # what a copy in another process is made from


@dataclass(frozen=True)
class Document:
    """The content of a file as dicts, lists and scalars."""

    path: Path
    value: object
    findings: list[Finding]
    position: Callable[[NodePath], tuple[int, int]]  # of the value at a path; of its nearest existing parent

    def finding(self, node_path: NodePath, code: str, message: str) -> Finding:
        return _finding(self.path, self.position(node_path), code, message)


class _PlainDocument(Document):
    """Data without a file: a finding begins with the path to its value instead."""

    def finding(self, node_path: NodePath, code: str, message: str) -> Finding:
        dotted_path = ".".join(str(step) for step in node_path if step != NAME)
        is_named = not dotted_path or message.startswith(f"{dotted_path}: ")
        return _finding("", (0, 0), code, message if is_named else f"{dotted_path}: {message}")


def from_plain_data(value: object, path: Path) -> Document:
    """Make a document from plain data with JSON types; `path` is the assumed location of its file."""
    return _PlainDocument(path, value, [], lambda _: (0, 0))


def read(path: Path) -> Document:
    """Read a JSON or YAML file, chosen by its suffix.

    Raises BadInput if it cannot be read, BadDocument if it cannot be parsed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    try:
        return _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)
    except RecursionError:
        raise BadDocument(path, [_finding(path, (1, 1), "SYNTAX", "nested too deeply to be read")]) from None


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection: a file has no cycles, and the search would take a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# JSON: positions are determined only if there are findings


def _parse_json(path: Path, text: str) -> Document:
    repeated: list[tuple[str, ...]] = []

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.append(tuple(sorted({name for name in names if names.count(name) > 1})))
        return result

    try:
        value = json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise BadDocument(path, [_json_syntax(path, text, error)]) from None
    except ValueError as error:  # a number with thousands of digits
        raise BadDocument(path, [_finding(path, (1, 1), "SYNTAX", str(error))]) from None
    findings = [
        _finding(path, (1, 1), "DUPLICATE_KEY", f"an object has {', '.join(names)} more than once; keep one")
        for names in repeated
    ]
    return Document(path, value, findings, lambda node_path: _json_position(text, node_path))


def _json_syntax(path: Path, text: str, error: json.JSONDecodeError) -> Finding:
    """The parser's message, or a plain one for a trailing comma."""
    offset = error.pos  # since Python 3.13; earlier versions name what they expected next
    if "trailing comma" not in error.msg:
        offset = max(0, len(text[:offset].rstrip()) - 1)
    if comma := _LAST_COMMA.match(text, offset):
        line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
        return _finding(
            path, (line, column), "SYNTAX", f"remove the comma before {comma[1]}; nothing follows it"
        )
    return _finding(path, (error.lineno, error.colno), "SYNTAX", error.msg)


def _json_position(text: str, node_path: NodePath) -> tuple[int, int]:
    """Line and column of the value at a path, or of its nearest existing parent."""
    offset = _skip_blank(text, 0)
    name_offset = offset
    for step in node_path:
        if step == NAME:
            offset = name_offset
        elif step_offsets := _json_step(text, offset, step):
            name_offset, offset = step_offsets
        else:
            break
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _skip_blank(text: str, offset: int) -> int:
    match = _BLANK.match(text, offset)
    assert match  # the empty string is also blank
    return match.end()


def _json_step(text: str, offset: int, step: str | int) -> tuple[int, int] | None:
    """The start of a name and of its value, or of an item of a list; the object or list begins at
    `offset`.
    """
    decoder, count, step_offsets = json.JSONDecoder(), 0, None
    is_object = text[offset] == "{"
    if text[offset] not in "{[":
        return None
    offset = _skip_blank(text, offset + 1)
    while text[offset] not in "}]":
        key: str | int = count
        name_offset = offset
        if is_object:
            key, offset = decoder.raw_decode(text, offset)
            offset = _skip_blank(text, _skip_blank(text, offset) + 1)
        if key == step:
            # Of a repeated key the last one counts, as in the parsed value.
            step_offsets = name_offset, offset
            if not is_object:
                break
        offset = _skip_blank(text, decoder.raw_decode(text, offset)[1])
        if text[offset] == ",":
            offset = _skip_blank(text, offset + 1)
        count += 1
    return step_offsets


# YAML: the nodes have positions

_MAX_DEPTH = 480  # what 0.1.0 accepted
_TEXTS = {
    YamlProblem.TAB: "a tab cannot indent YAML; use spaces",
    YamlProblem.CONTROL: "a control character; remove it",
    YamlProblem.DOCUMENTS: "a second document; keep one in a file",
    YamlProblem.DEPTH: "nested too deeply to be read",
    YamlProblem.SIZE: "aliases expand it more than tenfold; write it without them",
    YamlProblem.CYCLE: "&{name} contains itself; write the value out",
    YamlProblem.ANCHOR: "*{name} has no anchor; mark the value with &{name}",
}


def _parse_yaml(path: Path, text: str) -> Document:
    nodes = _StudyNodes(path, 1000 + 10 * len(text))
    nodes.read(text)
    root = nodes.root
    value = root.plain() if root else None
    return Document(path, value, nodes.all_findings(), lambda node_path: _yaml_position(root, node_path))


def _yaml_position(root: Node | None, node_path: NodePath) -> tuple[int, int]:
    """Line and column of the value at a path, or of its nearest existing parent."""
    node = root
    if node is None:
        return 1, 1
    for step in node_path:
        if step == NAME:
            return node.position.key_line, node.position.key_column
        if (child := node.child(step)) is None:
            break
        node = child
    if node.position.text == "" and node.position.key_line:  # the name has no value
        return node.position.key_line, node.position.key_column
    place = node.anchor or node.position
    return place.line, place.column


class _StudyNodes(Nodes):
    """YAML 1.2 nodes that report findings."""

    max_depth = _MAX_DEPTH

    def __init__(self, path: Path, max_nodes: int) -> None:
        super().__init__(str(path))
        self.path, self.max_nodes = path, max_nodes
        self._findings: list[Finding] = []
        self._traps: dict[tuple[int, int], scalars.Trap] = {}  # by the position of a scalar
        self._key_traps: dict[tuple[int, int], scalars.Trap] = {}
        self._has_empty = False

    def all_findings(self) -> list[Finding]:
        """All findings except traps under `metadata`, whose content has no effect."""
        traps: dict[tuple[int, int], scalars.Trap] = {}
        suspicious = self._traps or self._key_traps or self._has_empty
        for steps, node in self.root.walk() if self.root and suspicious else ():
            if steps[0] == "metadata":
                continue
            if node.position.text == "" and node.position.key_line and (trap := _without_value(steps)):
                traps[node.position.key_line, node.position.key_column] = trap
            if not isinstance(node.value, dict | list):
                position = node.anchor or node.position  # an alias has the trap of its anchor, reported once
                traps |= _trap_at(self._traps, (position.line, position.column))
            traps |= _trap_at(self._key_traps, (node.position.key_line, node.position.key_column))
        return self._findings + [
            _finding(self.path, place, trap.code, trap.message) for place, trap in traps.items()
        ]

    def report(self, problem: YamlProblem, position: Position, **detail: Any) -> None:
        line, column = position.line, position.column
        if problem is YamlProblem.DUPLICATE:
            self._note(position, "DUPLICATE_KEY", f"{detail['name']} appears twice; keep one")
            return
        if problem is YamlProblem.TAG:
            self._note(position, "TYPE", f"the tag {detail['tag']} is not supported; remove it")
            return
        if problem in (YamlProblem.DEPTH, YamlProblem.SIZE):  # concerns the whole file
            line, column = 1, 1
        message = _TEXTS.get(problem, "").format(**detail)
        if problem is YamlProblem.SYNTAX:
            message = " ".join(part for part in (detail["context"], detail["words"]) if part)
        raise BadDocument(self.path, [_finding(self.path, (line, column), "SYNTAX", message)])

    def scalar(self, text: str, tag: str | None, position: Position) -> Any:
        self._has_empty |= not text
        try:
            value = scalars.resolve_tagged(text, tag) if tag else scalars.resolve(text)
            if trap := scalars.trap(text, value, tag):
                self._traps[position.line, position.column] = trap
            return value
        except (ValueError, OverflowError) as error:
            if not self.expects_key:
                self._note(position, "TYPE", str(error))
            return None

    def key(self, key: Node) -> str | None:
        position, text = key.position, key.position.text
        if not isinstance(key.value, str):
            hint = "write each name in full" if text == "<<" else "write it in quotes"
            name = "this" if text is None else text
            self._note(position, "TYPE", f"{name} is not text, but a name must be; {hint}")
            return None
        if text and (trap := scalars.key_trap(text)):
            self._key_traps[position.line, position.column] = trap
        return key.value

    def is_merge(self, key: Node) -> bool:
        return False

    def _note(self, position: Position, code: str, message: str) -> None:
        self._findings.append(_finding(self.path, (position.line, position.column), code, message))


def _without_value(steps: NodePath) -> scalars.Trap | None:
    """The finding on a name without a value, if there may be one."""
    name = str(steps[-1])
    prefix, colon, suffix = name.partition(":")
    if colon and prefix and suffix:
        message = (
            f"{name} is read as one name without a value; write a space after the colon: {prefix}: {suffix}"
        )
        return scalars.Trap("YAML_COLON", message)
    if steps[0] in _OF_PARAMETERS and len(steps) > 1 and isinstance(steps[-1], str):
        return scalars.Trap(
            "YAML_EMPTY", f"{name} has no value and is read as null; write the value, or null"
        )
    return None


def _trap_at(
    traps: dict[tuple[int, int], scalars.Trap], place: tuple[int, int]
) -> dict[tuple[int, int], scalars.Trap]:
    return {place: traps[place]} if place in traps else {}
