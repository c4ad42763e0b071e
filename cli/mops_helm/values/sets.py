"""The --set flags, in helm's syntax: a.b=1,c={x,y},d[0].e=z with \\ before a literal , . = or [.

    "workers.processes=2" -> [Assignment((workers, processes), 2)] -> assigned in a Node tree

Values are typed as in helm: true, false, null and whole numbers without leading zeros; all else is text.
A test compares with both majors. --set-string, --set-file and --set-json are not offered.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelops_dask.documents.nodes import Node, NodePath, Position
from mops_helm.values.findings import finding_at
from mops_helm.values.load import Layer
from mops_helm.values.merge import make_empty_node
from mops_helm.values.tree import Scalar, dotted

FILE = "--set"  # stands for the file in findings; the line is the number of the flag
MAX_INDEX = 65536  # helm's
MAX_NESTING = 30  # helm's


class _BadFlag(Exception):
    """A problem of a flag."""


@dataclass(frozen=True)
class Assignment:
    """One value; path steps are names, and numbers for indices in lists."""

    path: NodePath
    value: Scalar | list[Scalar]


def load(flags: Sequence[str], under: Node) -> Layer:
    """`under` (the files, merged) with the flags merged over it; a finding for each bad flag."""
    root = make_empty_node(FILE)
    root = Node(dict(under.value), root.position)
    findings = []
    for number, flag in enumerate(flags, start=1):
        position = Position(FILE, number, 1, number, 1)
        try:
            for assignment in parse(flag):
                root = _assign(root, assignment.path, assignment.value, position)
        except _BadFlag as problem:
            findings.append(
                finding_at(position, "SET_SYNTAX", f"{flag}: {problem}", "write --set name.name=value")
            )
    return Layer(FILE, root, tuple(findings))


def parse(flag: str) -> list[Assignment]:
    """The assignments of one flag, in order."""
    return list(_Parser(flag))


def parse_scalar(text: str) -> Scalar:
    """A value as helm's --set types it."""
    lowered = text.lower()
    if lowered in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[lowered]
    if text == "0":
        return 0
    if re.fullmatch(r"[-+]?[0-9]{1,19}", text) and text[0] != "0" and -(2**63) <= int(text) < 2**63:
        return int(text)
    return text


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0

    def __iter__(self) -> Iterator[Assignment]:
        while self.index < len(self.text):
            path, end = self._path()
            if end != "=":
                raise _BadFlag(f"{dotted(path)} has no value")
            if "" in path:  # helm drops such a value silently
                raise _BadFlag("a name is missing")
            yield Assignment(path, self._value())

    def _until(self, stops: str) -> tuple[str, str]:
        """Text up to one of `stops`, which is consumed; a backslash escapes the next character."""
        characters: list[str] = []
        while self.index < len(self.text):
            character = self.text[self.index]
            self.index += 1
            if character in stops:
                return "".join(characters), character
            if character == "\\":
                if self.index == len(self.text):
                    break
                character = self.text[self.index]
                self.index += 1
            characters.append(character)
        return "".join(characters), ""

    def _path(self) -> tuple[NodePath, str]:
        path: list[str | int] = []
        while True:
            name, end = self._until("=[,.")
            path.append(name)
            while end == "[":
                path.append(self._index())
                text, end = self._until("[.=")
                if text:
                    raise _BadFlag(f"{text} after ]")
            if len(path) > MAX_NESTING:
                raise _BadFlag(f"more than {MAX_NESTING} levels")
            if end != ".":
                return tuple(path), end

    def _index(self) -> int:
        text, end = self._until("]")
        if end != "]" or not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > MAX_INDEX:
            raise _BadFlag(f"[{text}] is not an index of a list")
        return int(text)

    def _value(self) -> Scalar | list[Scalar]:
        if self.text[self.index : self.index + 1] != "{":
            return parse_scalar(self._until(",")[0])
        self.index += 1
        items: list[Scalar] = []
        while True:
            text, end = self._until(",}")
            if not end:
                raise _BadFlag("a list ends with }")
            items.append(parse_scalar(text))
            if end == "}":
                if self.text[self.index : self.index + 1] == ",":
                    self.index += 1
                return items


def _assign(under: Node | None, path: NodePath, value: Scalar | list[Scalar], position: Position) -> Node:
    """A copy of `under` with the value at the path; the path may cross maps, lists and missing nodes."""
    if not path:
        items = [Node(item, position) for item in value] if isinstance(value, list) else value
        return Node(items, position)
    step, steps = path[0], path[1:]
    inside = None if under is None else under.value
    old_position = position if under is None else under.position
    if isinstance(step, int):
        if inside is not None and not isinstance(inside, list):
            raise _BadFlag(f"[{step}] of a value that is not a list")
        items = list(inside or ())
        items += [Node(None, position) for _ in range(step + 1 - len(items))]
        items[step] = _assign(items[step], steps, value, position)
        return Node(items, old_position)
    if inside is not None and not isinstance(inside, dict):
        raise _BadFlag(f".{step} of a value that is not a map")
    return Node(
        {**(inside or {}), step: _assign((inside or {}).get(step), steps, value, position)}, old_position
    )
