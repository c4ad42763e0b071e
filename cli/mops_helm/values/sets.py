"""The --set flags, in helm's syntax: a.b=1,c={x,y},d[0].e=z with \\ before a literal , . = or [.

    "workers.processes=2" -> [Assignment((workers, processes), 2)] -> laid into a Node tree

Values are typed as in helm: true, false, null and whole numbers without leading zeros; all else is text.
A test compares with both majors. --set-string, --set-file and --set-json are not offered.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mops_helm.values.findings import Finding
from mops_helm.values.load import Node, Source, Where
from mops_helm.values.merge import empty

FILE = "--set"  # stands for the file in findings; the line is the number of the flag
MAX_INDEX = 65536  # helm's
MAX_NESTING = 30  # helm's


class _Bad(Exception):
    """What is wrong with a flag."""


@dataclass(frozen=True)
class Assignment:
    """One value; path steps are names, and numbers for places in lists."""

    path: tuple[str | int, ...]
    value: Any


def load(flags: Sequence[str], under: Node) -> Source:
    """`under` (the files, merged) with the flags laid over it; a finding for each bad flag."""
    root = empty(FILE)
    root = Node(dict(under.value), root.where)
    findings = []
    for number, flag in enumerate(flags, start=1):
        where = Where(FILE, number, 1, number, 1)
        try:
            for assignment in parse(flag):
                root = _laid(root, assignment.path, assignment.value, where)
        except _Bad as problem:
            findings.append(
                Finding(FILE, number, 1, "SET_SYNTAX", f"{flag}: {problem}", "write --set name.name=value")
            )
    return Source(FILE, root, tuple(findings))


def parse(flag: str) -> list[Assignment]:
    """The assignments of one flag, in order."""
    return list(_Parser(flag))


def typed(text: str) -> Any:
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
        self.at = 0

    def __iter__(self) -> Iterator[Assignment]:
        while self.at < len(self.text):
            path, end = self._path()
            if end != "=":
                raise _Bad(f"{'.'.join(map(str, path))} has no value")
            if "" in path:  # helm drops such a value without a word
                raise _Bad("a name is missing")
            yield Assignment(path, self._value())

    def _until(self, stops: str) -> tuple[str, str]:
        """Text up to one of `stops`, which is consumed; a backslash takes the next character as it is."""
        read = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character in stops:
                return "".join(read), character
            if character == "\\":
                if self.at == len(self.text):
                    break
                character = self.text[self.at]
                self.at += 1
            read.append(character)
        return "".join(read), ""

    def _path(self) -> tuple[tuple[str | int, ...], str]:
        path: list[str | int] = []
        while True:
            name, end = self._until("=[,.")
            path.append(name)
            while end == "[":
                path.append(self._index())
                rest, end = self._until("[.=")
                if rest:
                    raise _Bad(f"{rest} after ]")
            if len(path) > MAX_NESTING:
                raise _Bad(f"more than {MAX_NESTING} levels")
            if end != ".":
                return tuple(path), end

    def _index(self) -> int:
        text, end = self._until("]")
        if end != "]" or not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > MAX_INDEX:
            raise _Bad(f"[{text}] is no place in a list")
        return int(text)

    def _value(self) -> Any:
        if self.text[self.at : self.at + 1] != "{":
            return typed(self._until(",")[0])
        self.at += 1
        items: list[Any] = []
        while True:
            text, end = self._until(",}")
            if not end:
                raise _Bad("a list ends with }")
            items.append(typed(text))
            if end == "}":
                if self.text[self.at : self.at + 1] == ",":
                    self.at += 1
                return items


def _laid(under: Node | None, path: tuple[str | int, ...], value: Any, where: Where) -> Node:
    """A copy of `under` with the value at the path; the path may cross maps, lists and what is absent."""
    if not path:
        items = [Node(item, where) for item in value] if isinstance(value, list) else value
        return Node(items, where)
    step, rest = path[0], path[1:]
    inside = None if under is None else under.value
    place = where if under is None else under.where
    if isinstance(step, int):
        if inside is not None and not isinstance(inside, list):
            raise _Bad(f"[{step}] of what is no list")
        items = list(inside or ())
        items += [Node(None, where) for _ in range(step + 1 - len(items))]
        items[step] = _laid(items[step], rest, value, where)
        return Node(items, place)
    if inside is not None and not isinstance(inside, dict):
        raise _Bad(f".{step} of what is no map")
    return Node({**(inside or {}), step: _laid((inside or {}).get(step), rest, value, where)}, place)
