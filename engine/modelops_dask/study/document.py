"""Read a YAML or JSON file as plain data and remember where everything stands.

file -> Document(value, position of any path into it);   plain data of a program -> Document without positions

JSON is read by the standard library, so that a million parameter sets take seconds; YAML 1.2 by ruamel.
Duplicate keys, aliases that explode, several documents and endless depth are findings, never a surprise.

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

Where = tuple[str | int, ...]  # names and list indices from the root
NAME = -1  # as the last step of a path: the name itself, not its value
_BLANK = re.compile(r"[ \t\r\n]*")
_LAST_COMMA = re.compile(r",\s*([}\]])")
_PLAIN = ("str", "int", "float", "bool", "null")


@dataclass(frozen=True, order=True)
class Finding:
    """Something to mend in a file. Lines and columns count from 1; 0 where there is no file."""

    line: int
    column: int
    code: str
    message: str


class BadDocument(BadInput):
    """All findings of one file."""

    def __init__(self, path: Path, findings: list[Finding]) -> None:
        self.path, self.findings = path, sorted(findings)
        super().__init__(path, findings)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.path}:{f.line}:{f.column}  {f.code}  {f.message}" if f.line else f"{f.code}  {f.message}"
            for f in self.findings
        )


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


def _read_yaml(path: Path, text: str) -> Document:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise BadDocument(path, [Finding(line, column, "SYNTAX", _words(error))]) from None
    except (YAMLError, ValueError) as error:
        raise BadDocument(path, [Finding(1, 1, "SYNTAX", " ".join(str(error).split()))]) from None
    reader = _Nodes(path, yaml.constructor, budget=1000 + 10 * len(text))
    value = reader.plain(root, ()) if root is not None else None
    return Document(path, value, reader.findings, reader.position)


def _words(error: Any) -> str:
    if "\t" in str(error.problem) or "'\\t'" in str(error.problem):
        return "a tab cannot indent YAML; use spaces"
    return " ".join(part for part in (error.context, error.problem) if part)


class _Nodes:
    """Turns ruamel's nodes into plain data, noting where each stands."""

    def __init__(self, path: Path, constructor: Any, budget: int) -> None:
        self.path, self.findings = path, []
        self._constructor, self._budget, self._marks = constructor, budget, {}

    def position(self, where: Where) -> tuple[int, int]:
        """Line and column of a path's value; of the nearest parent that is there."""
        while where and where not in self._marks:
            where = where[:-1]
        return self._marks.get(where, (1, 1))

    def plain(self, node: Any, where: Where) -> Any:
        self._marks[where] = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._budget -= 1
        if self._budget < 0:
            raise BadDocument(
                self.path, [Finding(1, 1, "SYNTAX", "its aliases expand it more than tenfold; write it out")]
            )
        if node.id == "mapping":
            return self._mapping(node, where)
        if node.id == "sequence":
            return [self.plain(item, (*where, number)) for number, item in enumerate(node.value)]
        kind = node.tag.rpartition(":")[2]
        try:
            if kind in _PLAIN:
                return self._constructor.construct_object(node)
            reason = f"{node.value} is read as a {kind}; write it in quotes"
        except (ValueError, OverflowError) as error:
            reason = str(error)
        self.findings.append(Finding(*self._marks[where], "TYPE", reason))
        return None

    def _mapping(self, node: Any, where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if key.id != "scalar" or key.tag.rpartition(":")[2] != "str":
                text = key.value if key.id == "scalar" else "this"
                hint = "write the names out" if text == "<<" else "write it in quotes"
                self.findings.append(
                    Finding(line, column, "TYPE", f"{text} is no text, and a name must be; {hint}")
                )
            elif key.value in result:
                message = f"{key.value} is there a second time; keep one"
                self.findings.append(Finding(line, column, "DUPLICATE_KEY", message))
            else:
                result[key.value] = self.plain(item, (*where, key.value))
                self._marks[(*where, key.value, NAME)] = line, column
                if item.start_mark.index == item.end_mark.index:  # nothing: its mark is at what follows
                    self._marks[(*where, key.value)] = line, column
        return result
