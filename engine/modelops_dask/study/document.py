"""Read a YAML or JSON file as plain data and remember where everything stands.

file -> Document(value, position of any path into it);   plain data of a program -> Document without positions

JSON is read by the standard library, so that a million parameter sets take seconds; YAML by yaml_nodes.py,
and its unquoted words by scalars.py. Duplicate keys, aliases that explode, several documents, endless depth
and words that may not mean what they are read as are findings, never a surprise.

Does not know what a study is: spec.py does.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from json.decoder import scanstring
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput
from modelops_dask.study import scalars
from modelops_dask.yaml_nodes import Node, Nodes, Problem
from modelops_dask.yaml_nodes import Where as Mark

Where = tuple[str | int, ...]  # names and list indices from the root
NAME = -1  # as the last step of a path: the name itself, not its value
_BLANK = re.compile(r"[ \t\r\n]*")
_LAST_COMMA = re.compile(r",\s*([}\]])")
WARNINGS = ("SET_FORM", "YAML_NUMBER", "YAML_EMPTY")  # codes that do not refuse a file
_OF_PARAMETERS = ("fixed", "sets")  # where a value may be null


@dataclass(frozen=True, order=True)
class Finding:
    """Something to fix in a file. Lines and columns count from 1; 0 where there is no file."""

    line: int
    column: int
    code: str
    message: str

    @property
    def severity(self) -> str:
        """`error`, or `warning` for what leaves the file usable."""
        return "warning" if self.code in WARNINGS else "error"

    def text(self, path: Path) -> str:
        """A line for people, with the file's name."""
        place = f"{path}:{self.line}:{self.column}  " if self.line else ""
        return f"{place}{self.code}  {self.message}"


class BadDocument(BadInput):
    """All findings of one file."""

    def __init__(self, path: Path, findings: list[Finding]) -> None:
        self.path, self.findings = path, sorted(findings)
        super().__init__(path, findings)

    def __str__(self) -> str:
        return "\n".join(finding.text(self.path) for finding in self.findings)


@dataclass(frozen=True)
class Document:
    """A file's content as dicts, lists and scalars."""

    path: Path
    value: Any
    findings: list[Finding]
    position: Callable[[Where], tuple[int, int]]  # of a path's value; of the nearest parent that is there

    def finding(self, where: Where, code: str, message: str) -> Finding:
        return Finding(*self.position(where), code, message)


class _Given(Document):
    """Data that is in no file: a finding begins with the path to its value instead."""

    def finding(self, where: Where, code: str, message: str) -> Finding:
        named = ".".join(str(step) for step in where if step != NAME)
        return Finding(0, 0, code, f"{named}: {message}" if named else message)


def given(value: Any, path: Path) -> Document:
    """A document of plain data, as JSON holds them; `path` is where its file would be."""
    return _Given(path, value, [], lambda _: (0, 0))


def read(path: Path) -> Document:
    """A document by its file's ending; BadInput when it cannot be read, BadDocument if it does not parse."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    try:
        return _read_json(path, text) if path.suffix == ".json" else _read_yaml(path, text)
    except RecursionError:
        raise BadDocument(path, [Finding(1, 1, "SYNTAX", "nested too deeply to be read")]) from None


# JSON: positions are looked for only when something is wrong


def _read_json(path: Path, text: str) -> Document:
    repeated: list[tuple[str, ...]] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.append(tuple(sorted({name for name in names if names.count(name) > 1})))
        return result

    try:
        value = json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise BadDocument(path, [_json_syntax(text, error)]) from None
    except ValueError as error:  # a number of thousands of digits
        raise BadDocument(path, [Finding(1, 1, "SYNTAX", str(error))]) from None
    findings = [
        Finding(1, 1, "DUPLICATE_KEY", f"an object has {', '.join(names)} more than once; keep one")
        for names in repeated
    ]
    return Document(path, value, findings, lambda where: _json_position(text, where))


def _json_syntax(text: str, error: json.JSONDecodeError) -> Finding:
    """The parser's words, but plain ones at the comma when nothing follows it."""
    at = error.pos  # since Python 3.13; before, what comes instead of the next name or value
    if "trailing comma" not in error.msg:
        at = max(0, len(text[:at].rstrip()) - 1)
    if found := _LAST_COMMA.match(text, at):
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        return Finding(line, column, "SYNTAX", f"the comma before {found[1]} must go; nothing follows it")
    return Finding(error.lineno, error.colno, "SYNTAX", error.msg)


def _json_position(text: str, where: Where) -> tuple[int, int]:
    """Line and column of a path's value; of the nearest parent that is there."""
    at = _BLANK.match(text).end()
    named_at = at
    for step in where:
        if step == NAME:
            at = named_at
        elif found := _json_step(text, at, step):
            named_at, at = found
        else:
            break
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _json_step(text: str, at: int, step: str | int) -> tuple[int, int] | None:
    """Where a name and its value, or the item of a list, begin; the object or list begins at `at`."""
    decoder, count, found = json.JSONDecoder(), 0, None
    keyed = text[at] == "{"
    if text[at] not in "{[":
        return None
    at = _BLANK.match(text, at + 1).end()
    while text[at] not in "}]":
        key: str | int = count
        named_at = at
        if keyed:
            key, at = scanstring(text, at + 1)
            at = _BLANK.match(text, _BLANK.match(text, at).end() + 1).end()
        if key == step:
            found = named_at, at  # of a repeated key the last counts, as in the value that was read
            if not keyed:
                break
        at = _BLANK.match(text, decoder.raw_decode(text, at)[1]).end()
        if text[at] == ",":
            at = _BLANK.match(text, at + 1).end()
        count += 1
    return found


# YAML: positions come with the nodes

_MAX_DEPTH = 480  # what 0.1.0 read
_TEXTS = {
    Problem.TAB: "a tab cannot indent YAML; use spaces",
    Problem.CONTROL: "a control character; remove it",
    Problem.DOCUMENTS: "a second document; keep one in a file",
    Problem.DEPTH: "nested too deeply to be read",
    Problem.SIZE: "its aliases expand it more than tenfold; write it out",
    Problem.CYCLE: "&{name} contains itself; write the value out",
    Problem.ANCHOR: "*{name} names no anchor; mark the value with &{name}",
}


def _read_yaml(path: Path, text: str) -> Document:
    nodes = _StudyNodes(path, 1000 + 10 * len(text))
    nodes.read(text)
    root = nodes.root
    value = root.plain() if root else None
    return Document(path, value, nodes.all_findings(), lambda where: _yaml_position(root, where))


def _yaml_position(root: Node | None, where: Where) -> tuple[int, int]:
    """Line and column of a path's value; of the nearest parent that is there."""
    node = root
    if node is None:
        return 1, 1
    for step in where:
        if step == NAME:
            return node.where.key_line, node.where.key_column
        if (child := node.child(step)) is None:
            break
        node = child
    if node.where.text == "" and node.where.key_line:  # nothing follows the name
        return node.where.key_line, node.where.key_column
    place = node.anchor or node.where
    return place.line, place.column


class _StudyNodes(Nodes):
    """Nodes as YAML 1.2 has them, with findings."""

    max_depth = _MAX_DEPTH

    def __init__(self, path: Path, max_nodes: int) -> None:
        super().__init__(str(path))
        self.path, self.max_nodes = path, max_nodes
        self._findings: list[Finding] = []
        self._traps: dict[tuple[int, int], scalars.Trap] = {}  # by the place of a scalar
        self._key_traps: dict[tuple[int, int], scalars.Trap] = {}
        self._has_empty = False

    def all_findings(self) -> list[Finding]:
        """All but those of `metadata`, whose words nothing acts on: there a trap catches nobody."""
        traps: dict[tuple[int, int], scalars.Trap] = {}
        suspicious = self._traps or self._key_traps or self._has_empty
        for steps, node in self.root.walk() if self.root and suspicious else ():
            if steps[0] == "metadata":
                continue
            if node.where.text == "" and node.where.key_line and (trap := _without_value(steps)):
                traps[node.where.key_line, node.where.key_column] = trap
            if not isinstance(node.value, dict | list):
                where = node.anchor or node.where  # an alias has the trap of its anchor, once
                traps |= _at(self._traps, (where.line, where.column))
            traps |= _at(self._key_traps, (node.where.key_line, node.where.key_column))
        return self._findings + [Finding(*place, *trap) for place, trap in traps.items()]

    def report(self, problem: Problem, where: Mark, **detail: Any) -> None:
        line, column = where.line, where.column
        if problem is Problem.DUPLICATE:
            self._note(where, "DUPLICATE_KEY", f"{detail['name']} is there a second time; keep one")
            return
        if problem is Problem.TAG:
            self._note(where, "TYPE", f"the tag {detail['tag']} means nothing here; remove it")
            return
        if problem in (Problem.DEPTH, Problem.SIZE):  # about the file as a whole
            line, column = 1, 1
        message = _TEXTS.get(problem, "").format(**detail)
        if problem is Problem.SYNTAX:
            message = " ".join(part for part in (detail["context"], detail["words"]) if part)
        raise BadDocument(self.path, [Finding(line, column, "SYNTAX", message)])

    def scalar(self, text: str, tag: str | None, where: Mark) -> Any:
        self._has_empty |= not text
        try:
            value = scalars.tagged(text, tag) if tag else scalars.resolve(text)
            if trap := scalars.trap(text, value, tag):
                self._traps[where.line, where.column] = trap
            return value
        except (ValueError, OverflowError) as error:
            if not self.expects_key:
                self._note(where, "TYPE", str(error))
            return None

    def key(self, key: Node) -> str | None:
        where, text = key.where, key.where.text
        if not isinstance(key.value, str):
            hint = "write the names out" if text == "<<" else "write it in quotes"
            name = "this" if text is None else text
            self._note(where, "TYPE", f"{name} is no text, and a name must be; {hint}")
            return None
        if text and (trap := scalars.key_trap(text)):
            self._key_traps[where.line, where.column] = trap
        return key.value

    def is_merge(self, key: Node) -> bool:
        return False

    def _note(self, where: Mark, code: str, message: str) -> None:
        self._findings.append(Finding(where.line, where.column, code, message))


def _without_value(steps: Where) -> scalars.Trap | None:
    """What may be meant by a name with nothing behind it."""
    name = str(steps[-1])
    before, colon, behind = name.partition(":")
    if colon and before and behind:
        message = (
            f"{name} is read as one name without a value; write a space after the colon: {before}: {behind}"
        )
        return scalars.Trap("YAML_COLON", message)
    if steps[0] in _OF_PARAMETERS and len(steps) > 1 and isinstance(steps[-1], str):
        return scalars.Trap(
            "YAML_EMPTY", f"{name} has no value and is read as null; write the value, or null"
        )
    return None


def _at(
    traps: dict[tuple[int, int], scalars.Trap], place: tuple[int, int]
) -> dict[tuple[int, int], scalars.Trap]:
    return {place: traps[place]} if place in traps else {}
