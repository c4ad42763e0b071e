"""Read a values file as helm reads it, and keep where each key and value stands.

    bytes -> YAML events -> Node tree (maps, lists, scalars, each with its place) + findings

Does not know which names or types a value should have: check.py does. A study is told from values here, for
each of its names would be a finding there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mops_helm.values.findings import Finding
from mops_helm.values.scalars import resolve

MAX_BYTES = 1 << 20  # a release, values included, must fit a Secret of 1 MiB
MAX_DEPTH = 64
MAX_NODES = 100_000  # after aliases are expanded

_STUDY_MODEL = ("model", "scenario", "entrypoint")
_STUDY_SETS = ("sets", "grid", "latin-hypercube", "sobol", "parameter_sets")
_EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file, from 1. `text` is a plain (unquoted) scalar as written, else None."""

    file: str
    line: int
    column: int
    key_line: int = 0
    key_column: int = 0
    text: str | None = None


@dataclass(slots=True)
class Node:
    """A value and its place. `value` is a dict of Nodes by key, a list of Nodes, or a scalar."""

    value: Any
    where: Where

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, *path: str | int) -> "Node | None":
        """The node at a path; None when there is none."""
        node = self
        for step in path:
            inside = node.value
            in_map = isinstance(inside, dict) and step in inside
            in_list = isinstance(inside, list) and isinstance(step, int) and step < len(inside)
            if not (in_map or in_list):
                return None
            node = inside[step]
        return node


@dataclass(frozen=True)
class Source:
    """One layer of values: a file, or the --set flags."""

    name: str
    root: Node
    findings: tuple[Finding, ...] = ()


def load(path: Path) -> Source:
    """A file's values and what is wrong with it as a file; after an error the values may be incomplete."""
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _unusable(name, 0, 0, "FILE_UNREADABLE", error.strerror or str(error))
    if len(data) > MAX_BYTES:
        return _unusable(
            name, 0, 0, "TOO_LARGE", "more than 1 MiB of values", "helm cannot store them in a release"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        return _unusable(name, line, column, "NOT_UTF8", f"byte 0x{data[error.start]:02x} is not UTF-8")
    return loads(text, name)


def loads(text: str, name: str) -> Source:
    """load() for a text; `name` stands for the file in findings."""
    reader = _Reader(name)
    try:
        reader.read(yaml.parse(text, Loader=_EVENTS))
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        reader.syntax_error(error, text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        reader.add(line, column, "YAML_SYNTAX", "a control character", "remove it")
    root = reader.root if reader.root is not None else Node({}, Where(name, 1, 1))
    if not isinstance(root.value, dict):
        if root.value is not None:
            reader.add(
                root.where.line, root.where.column, "NOT_A_MAP", "a values file is a map of names to values"
            )
        root = Node({}, root.where)
    if any(step in root.value for step in _STUDY_MODEL) and any(step in root.value for step in _STUDY_SETS):
        at = next(iter(root.value.values())).where
        said, instead = "this is a study, not values", f"mops-helm study plan {name} reads it"
        return _unusable(name, at.key_line, at.key_column, "STUDY", said, instead)
    return Source(name, root, tuple(reader.findings))


def _unusable(name: str, line: int, column: int, code: str, message: str, suggestion: str = "") -> Source:
    finding = Finding(name, line, column, code, message, suggestion)
    return Source(name, Node({}, Where(name, 1, 1)), (finding,))


class _Stop(Exception):
    """Reading on makes no sense; the finding is recorded."""


@dataclass(slots=True)
class _Open:
    """A map or list being read."""

    node: Node
    anchor: str | None
    key: Node | None = None  # of a map: the key whose value comes next
    size: int = 1
    merges: list[Node] | None = None


class _Reader:
    """Builds Nodes from events on a stack of its own, so that depth cannot exhaust Python's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None while the node is being read

    def add(self, line: int, column: int, code: str, message: str, suggestion: str = "") -> None:
        self.findings.append(Finding(self.name, line, column, code, message, suggestion))

    def stop(self, where: Where, code: str, message: str, suggestion: str = "") -> None:
        self.add(where.line, where.column, code, message, suggestion)
        raise _Stop

    def syntax_error(self, error: yaml.MarkedYAMLError, text: str) -> None:
        unclosed = error.problem == "found unexpected end of stream" and error.context_mark
        mark = error.context_mark if unclosed else error.problem_mark
        line, column = mark.line + 1, mark.column + 1
        lines = text.splitlines()
        written = lines[mark.line] if mark.line < len(lines) else ""
        indent = re.match(r"[ \t]*", written)[0]
        if "\t" in indent:
            self.add(
                line, indent.index("\t") + 1, "YAML_TAB", "a tab in the indentation", "indent with spaces"
            )
            return
        self.add(line, column, "YAML_SYNTAX", error.problem or "cannot be read", _hint(written, column))

    def read(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents == 2:
                        self.stop(
                            self._at(event),
                            "YAML_DOCUMENTS",
                            "a second document: Helm 3 ignores it, Helm 4 merges it",
                            "keep one document in a file",
                        )
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()

    def _at(self, event: Any, text: str | None = None) -> Where:
        mark = event.start_mark
        return Where(self.name, mark.line + 1, mark.column + 1, text=text)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        plain = event.implicit[0]
        node = Node(event.value, self._at(event, event.value if plain else None))
        if plain:
            node.value = self._finite(resolve(event.value), node.where)
        elif event.tag is not None and event.tag not in ("!", _TAG + "str"):
            self._check_tag(event.tag, node.where)
            node.value = resolve(event.value)
        self._place(node, 1, event.anchor)

    def _finite(self, value: Any, where: Where) -> Any:
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            self.add(
                where.line,
                where.column,
                "YAML_SYNTAX",
                "no values file can hold this number",
                "write a finite one",
            )
            return 0
        return value

    def _check_tag(self, tag: str, where: Where) -> None:
        written = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self.add(
            where.line, where.column, "YAML_TAG", f"the tag {written}", "remove it; quote what is a text"
        )

    def _alias(self, event: yaml.AliasEvent) -> None:
        where = self._at(event)
        if event.anchor not in self._anchors:
            self.stop(
                where,
                "YAML_SYNTAX",
                f"*{event.anchor} names no anchor",
                f"mark the value with &{event.anchor}",
            )
        if (known := self._anchors[event.anchor]) is None:
            self.stop(where, "YAML_ALIASES", f"&{event.anchor} contains itself", "write the value out")
        node, size = known
        self._place(Node(node.value, where), size, None)

    def _begin(self, event: Any) -> None:
        where = self._at(event)
        if len(self._stack) >= MAX_DEPTH:
            self.stop(where, "YAML_DEEP", f"nested more than {MAX_DEPTH} levels deep", "no value is")
        implied = event.tag in (None, "!", _TAG + "map", _TAG + "seq")
        if not implied:
            self._check_tag(event.tag, where)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(
            _Open(Node({} if isinstance(event, yaml.MappingStartEvent) else [], where), event.anchor)
        )

    def _end(self) -> None:
        done = self._stack.pop()
        for merged in done.merges or ():  # what the map itself states wins, then the first one merged
            for key, node in merged.value.items():
                done.node.value.setdefault(key, node)
        self._place(done.node, done.size, done.anchor)

    def _place(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.size += size
        if parent.size > MAX_NODES:
            self.stop(
                node.where,
                "YAML_ALIASES",
                f"more than {MAX_NODES:,} values with aliases expanded",
                "write them out",
            )
        inside = parent.node.value
        if isinstance(inside, list):
            inside.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            key, parent.key = parent.key, None
            self._entry(parent, key, node)

    def _entry(self, parent: _Open, key: Node, node: Node) -> None:
        at = key.where
        if at.text == "<<":
            self._merge(parent, node)
            return
        name = self._key(key)
        if name in parent.node.value:
            first = parent.node.value[name].where
            self.add(
                at.line,
                at.column,
                "DUPLICATE_KEY",
                f"{name} is here a second time (first on line {first.key_line}); helm keeps only the last",
                "remove one",
            )
        place = Where(self.name, node.where.line, node.where.column, at.line, at.column, node.where.text)
        parent.node.value[name] = Node(node.value, place)

    def _key(self, key: Node) -> str:
        at, value = key.where, key.value
        if isinstance(value, dict | list) or value is None:
            suggestion = "write a name" if value is None else "quote it; {{ }} belongs in templates only"
            self.stop(at, "YAML_KEY", "a key that is no text", suggestion)
        if isinstance(value, str):
            return value
        name = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, float):
            name = f"{value:g}"
        if name != at.text:
            self.add(
                at.line,
                at.column,
                "YAML_KEY",
                f'the name {at.text} is read as "{name}"',
                f'quote it: "{at.text}"',
            )
        return name

    def _merge(self, parent: _Open, node: Node) -> None:
        maps = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(item.value, dict) for item in maps):
            self.stop(node.where, "YAML_SYNTAX", "<< takes a map or a list of maps", "alias a map: <<: *name")
        parent.merges = (parent.merges or []) + maps


def _hint(written: str, column: int) -> str:
    """What most likely went wrong on a line that the parser refuses."""
    rest = written[column - 1 :]
    if rest[:1] in ("@", "`", "%"):
        return f"quote a text that starts with {rest[:1]}"
    if "{{" in written:
        return "a values file is no template: write the value itself"
    if written.count(": ") > 1:
        return "quote a text that contains a colon and a space"
    return "look at the indentation, quotes and brackets of this line and the one above"
