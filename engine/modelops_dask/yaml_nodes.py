"""YAML as a tree of nodes, each of which knows where it stands in the file.

text -> PyYAML's events (libyaml where there is one) -> Node tree;   what is wrong on the way -> Nodes.report

Values files and study files are read by this module. What differs between them, each states in a subclass
of Nodes: what an unquoted scalar means, which keys may be, how much may be nested, and the words of findings.
Nothing is lost silently: a second document, a key that repeats, a tag or an alias too many is reported.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import yaml

Path = tuple[str | int, ...]  # names and list indices from the root
_EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file, in lines and code points from 1. `text` is a plain (unquoted) scalar as written,
    else None.
    """

    file: str
    line: int
    column: int
    key_line: int = 0
    key_column: int = 0
    text: str | None = None


@dataclass(slots=True)
class Node:
    """A value and its place. `value` is a dict of Nodes by key, a list of Nodes, or a scalar.

    `where` of an alias is the place of the alias; `anchor` is then the place of the value itself.
    """

    value: Any
    where: Where
    anchor: Where | None = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        inside = self.value
        if isinstance(inside, dict):  # no comprehensions: each would take a frame more of a deep file
            mapping = {}
            for key, node in inside.items():
                mapping[key] = node.plain()
            return mapping
        if isinstance(inside, list):
            items = []
            for node in inside:
                items.append(node.plain())  # noqa: PERF401
            return items
        return inside

    def find(self, *path: str | int) -> "Node | None":
        """The node at a path; None when there is none."""
        node = self
        for step in path:
            if (child := node.child(step)) is None:
                return None
            node = child
        return node

    def child(self, step: str | int) -> "Node | None":
        """The node below a key or at an index; None when there is none."""
        inside = self.value
        in_map = isinstance(inside, dict) and step in inside
        in_list = isinstance(inside, list) and isinstance(step, int) and step < len(inside)
        return inside[step] if in_map or in_list else None

    def walk(self) -> Iterator[tuple[Path, "Node"]]:
        """Path and node of everything below, aliases expanded, in the order of the file."""
        stack = [((), self)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, node
            inside = node.value
            if isinstance(inside, dict):
                stack += [((*path, key), child) for key, child in reversed(inside.items())]
            elif isinstance(inside, list):
                stack += [((*path, index), inside[index]) for index in reversed(range(len(inside)))]


class Problem(Enum):
    """What can be wrong with a file as YAML; after those that are marked, reading ends."""

    SYNTAX = auto()  # ends; detail: the parser's words, their context, and the line as written
    TAB = auto()  # ends
    CONTROL = auto()  # ends
    DOCUMENTS = auto()  # ends
    DEPTH = auto()  # ends
    SIZE = auto()  # ends
    CYCLE = auto()  # ends; detail: the anchor
    ANCHOR = auto()  # ends; detail: the alias
    MERGE = auto()  # ends
    TAG = auto()  # detail: the tag as written
    DUPLICATE = auto()  # detail: the key, and the line of the first one


class Stop(Exception):
    """Reading on makes no sense; the problem is reported."""


@dataclass(slots=True)
class _Open:
    """A map or list being read."""

    node: Node
    anchor: str | None
    key: Node | None = None  # of a map: the key whose value comes next
    size: int = 1
    merges: list[Node] | None = None


class Nodes:
    """Builds nodes from events on a stack of its own, so that depth cannot exhaust Python's."""

    max_depth: int
    max_nodes: int  # after aliases are expanded

    def __init__(self, name: str) -> None:
        self.name = name  # of the file
        self.root: Node | None = None  # as far as it was read; None for a file with nothing in it
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None while the node is being read

    # what a subclass states

    def report(self, problem: Problem, where: Where, **detail: Any) -> None:
        """Take note of a problem. May raise Stop."""
        raise NotImplementedError

    def scalar(self, text: str, tag: str | None, where: Where) -> Any:
        """The value of a plain scalar, or of one with a tag such as !!int; quoted ones are texts."""
        raise NotImplementedError

    def key(self, key: Node) -> str | None:
        """The name that a key is; None leaves its value out. May raise Stop."""
        raise NotImplementedError

    def is_merge(self, key: Node) -> bool:
        """Whether what follows a key is laid under the map."""
        return key.where.text == "<<"

    # reading

    @property
    def expects_key(self) -> bool:
        """Whether what comes next is a key."""
        return bool(self._stack) and isinstance(self._stack[-1].node.value, dict) and not self._stack[-1].key

    def read(self, text: str) -> None:
        """Build `root`."""
        try:
            self._read(yaml.parse(text, Loader=_EVENTS))
        except Stop:
            pass
        except yaml.MarkedYAMLError as error:
            self._syntax_error(error, text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            self.report(Problem.CONTROL, Where(self.name, line, column))

    def _stop(self, problem: Problem, where: Where, **detail: Any) -> None:
        self.report(problem, where, **detail)
        raise Stop

    def _syntax_error(self, error: yaml.MarkedYAMLError, text: str) -> None:
        unclosed = error.problem == "found unexpected end of stream" and error.context_mark
        mark = error.context_mark if unclosed else error.problem_mark
        lines = text.splitlines()
        written = lines[mark.line] if mark.line < len(lines) else ""
        indent = re.match(r"[ \t]*", written)[0]
        if "\t" in indent:
            self.report(Problem.TAB, Where(self.name, mark.line + 1, indent.index("\t") + 1))
            return
        words, context = error.problem or "cannot be read", error.context or ""
        where = Where(self.name, mark.line + 1, mark.column + 1)
        self.report(Problem.SYNTAX, where, words=words, context=context, written=written)

    def _read(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents == 2:
                        self._stop(Problem.DOCUMENTS, self._at(event))
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
            node.value = self.scalar(event.value, None, node.where)
        elif event.tag is not None and event.tag not in ("!", _TAG + "str"):
            node.value = self.scalar(event.value, _written(event.tag), node.where)
        self._place(node, 1, event.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        where = self._at(event)
        if event.anchor not in self._anchors:
            self._stop(Problem.ANCHOR, where, name=event.anchor)
        if (known := self._anchors[event.anchor]) is None:
            self._stop(Problem.CYCLE, where, name=event.anchor)
        node, size = known
        self._place(Node(node.value, where, node.where), size, None)

    def _begin(self, event: Any) -> None:
        where = self._at(event)
        if len(self._stack) >= self.max_depth:
            self._stop(Problem.DEPTH, where)
        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            self.report(Problem.TAG, where, tag=_written(event.tag))
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
        if parent.size > self.max_nodes:
            self._stop(Problem.SIZE, node.where)
        inside = parent.node.value
        if isinstance(inside, list):
            inside.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            key, parent.key = parent.key, None
            self._entry(parent, key, node)

    def _entry(self, parent: _Open, key: Node, node: Node) -> None:
        if self.is_merge(key):
            self._merge(parent, node)
            return
        name = self.key(key)
        if name is None:
            return
        at, where = key.where, node.where
        if name in parent.node.value:
            first = parent.node.value[name].where
            self.report(Problem.DUPLICATE, at, name=name, first=first.key_line)
        place = Where(self.name, where.line, where.column, at.line, at.column, where.text)
        parent.node.value[name] = Node(node.value, place, node.anchor)

    def _merge(self, parent: _Open, node: Node) -> None:
        maps = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(item.value, dict) for item in maps):
            self._stop(Problem.MERGE, node.where)
        parent.merges = (parent.merges or []) + maps


def _written(tag: str) -> str:
    """A tag as a person writes it."""
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
