"""YAML as a tree of nodes, each with its position in the file.

text -> PyYAML's events (libyaml if available) -> Node tree;   problems on the way -> Nodes.report

Values files and study files are read by this module. A subclass of Nodes defines their differences: the
meaning of unquoted scalars, the allowed keys and depth, and the text of findings. Nothing is lost silently: a
second document, a repeated key, a tag or too many aliases are reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NoReturn

import yaml

NodePath = tuple[str | int, ...]  # names and list indices from the root
# libyaml's if PyYAML was built with it: several times as fast.
YAML_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a file, in lines and code points from 1. `text` is a plain (unquoted) scalar as written,
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
    """A value and its position. `value` is a dict of Nodes by key, a list of Nodes, or a scalar.

    `position` of an alias is that of the alias; `anchor` is then the position of the value itself.
    """

    value: Any
    position: Position
    anchor: Position | None = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        inside = self.value
        if isinstance(inside, dict):  # no comprehensions: each would need one more frame for a deep file
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
        """The node at a path; None if there is none."""
        node = self
        for step in path:
            if (child := node.child(step)) is None:
                return None
            node = child
        return node

    def child(self, step: str | int) -> "Node | None":
        """The node below a key or at an index; None if there is none."""
        inside = self.value
        in_map = isinstance(inside, dict) and step in inside
        in_list = isinstance(inside, list) and isinstance(step, int) and step < len(inside)
        return inside[step] if in_map or in_list else None

    def walk(self) -> Iterator[tuple[NodePath, "Node"]]:
        """Path and node of everything below, aliases expanded, in the order of the file."""
        stack: list[tuple[NodePath, Node]] = [((), self)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, node
            inside = node.value
            if isinstance(inside, dict):
                stack += [((*path, key), child) for key, child in reversed(inside.items())]
            elif isinstance(inside, list):
                stack += [((*path, index), inside[index]) for index in reversed(range(len(inside)))]


class YamlProblem(Enum):
    """The problems of a YAML file; reading ends after the marked ones."""

    SYNTAX = auto()  # ends; detail: the parser's message, its context, and the line as written
    TAB = auto()  # ends
    CONTROL = auto()  # ends
    DOCUMENTS = auto()  # ends
    DEPTH = auto()  # ends
    SIZE = auto()  # ends
    CYCLE = auto()  # ends; detail: the anchor
    ANCHOR = auto()  # ends; detail: the alias
    MERGE = auto()  # ends
    TAG = auto()  # detail: the tag as written
    DUPLICATE = auto()  # detail: the key and the first line that has it


class StopReading(Exception):
    """Reading cannot continue; the problem has been reported."""


@dataclass(slots=True)
class _OpenCollection:
    """A map or list being read."""

    node: Node
    anchor: str | None
    key: Node | None = None  # of a map: the key whose value comes next
    size: int = 1
    merges: list[Node] | None = None


class Nodes:
    """Builds nodes from events on its own stack, so that depth cannot exhaust Python's."""

    max_depth: int
    max_nodes: int  # after aliases are expanded

    def __init__(self, name: str) -> None:
        self.name = name  # of the file
        self.root: Node | None = None  # as far as it was read; None for an empty file
        self._stack: list[_OpenCollection] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None while the node is being read

    # defined by subclasses

    def report(self, problem: YamlProblem, position: Position, **detail: Any) -> None:
        """Record a problem. May raise StopReading."""
        raise NotImplementedError

    def scalar(self, text: str, tag: str | None, position: Position) -> Any:
        """The value of a plain scalar, or of one with a tag such as !!int; quoted ones are text."""
        raise NotImplementedError

    def key(self, key: Node) -> str | None:
        """The name that a key represents; None skips its value. May raise StopReading."""
        raise NotImplementedError

    def is_merge(self, key: Node) -> bool:
        """Whether the value of a key is merged into the map."""
        return key.position.text == "<<"

    # reading

    @property
    def expects_key(self) -> bool:
        """Whether the next event is a key."""
        return bool(self._stack) and isinstance(self._stack[-1].node.value, dict) and not self._stack[-1].key

    def read(self, text: str) -> None:
        """Build `root`."""
        try:
            self._read(yaml.parse(text, Loader=YAML_LOADER))
        except StopReading:
            pass
        except yaml.MarkedYAMLError as error:
            self._syntax_error(error, text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            self.report(YamlProblem.CONTROL, Position(file=self.name, line=line, column=column))

    def _stop(self, problem: YamlProblem, position: Position, **detail: Any) -> NoReturn:
        self.report(problem, position, **detail)
        raise StopReading

    def _syntax_error(self, error: yaml.MarkedYAMLError, text: str) -> None:
        mark = error.problem_mark
        if error.problem == "found unexpected end of stream" and error.context_mark:  # an unclosed quote
            mark = error.context_mark
        assert mark is not None  # errors of the scanner and parser have one
        lines = text.splitlines()
        source_line = lines[mark.line] if mark.line < len(lines) else ""
        indent = source_line[: len(source_line) - len(source_line.lstrip(" \t"))]
        if "\t" in indent:
            tab = Position(file=self.name, line=mark.line + 1, column=indent.index("\t") + 1)
            self.report(YamlProblem.TAB, tab)
            return
        message, context = error.problem or "cannot be read", error.context or ""
        position = Position(file=self.name, line=mark.line + 1, column=mark.column + 1)
        self.report(YamlProblem.SYNTAX, position, words=message, context=context, written=source_line)

    def _read(self, events: Iterator[yaml.Event]) -> None:
        documents = 0
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents == 2:
                        self._stop(YamlProblem.DOCUMENTS, self._position(event))
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()

    def _position(self, event: yaml.Event, text: str | None = None) -> Position:
        mark = event.start_mark
        assert mark is not None  # events of the parser have one
        return Position(file=self.name, line=mark.line + 1, column=mark.column + 1, text=text)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        plain = event.implicit[0]
        node = Node(event.value, self._position(event, event.value if plain else None))
        if plain:
            node.value = self.scalar(event.value, None, node.position)
        elif event.tag is not None and event.tag not in ("!", _TAG + "str"):
            node.value = self.scalar(event.value, _short_tag(event.tag), node.position)
        self._place(node, 1, event.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        position = self._position(event)
        assert event.anchor is not None  # otherwise it would not be an alias
        if event.anchor not in self._anchors:
            self._stop(YamlProblem.ANCHOR, position, name=event.anchor)
        if (anchor_entry := self._anchors[event.anchor]) is None:
            self._stop(YamlProblem.CYCLE, position, name=event.anchor)
        node, size = anchor_entry
        self._place(Node(node.value, position, node.position), size, None)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        position = self._position(event)
        if len(self._stack) >= self.max_depth:
            self._stop(YamlProblem.DEPTH, position)
        if event.tag is not None and event.tag not in ("!", _TAG + "map", _TAG + "seq"):
            self.report(YamlProblem.TAG, position, tag=_short_tag(event.tag))
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(
            _OpenCollection(
                Node({} if isinstance(event, yaml.MappingStartEvent) else [], position), event.anchor
            )
        )

    def _end(self) -> None:
        collection = self._stack.pop()
        for merged in collection.merges or ():  # the map's own keys win, then the first merged map
            for key, node in merged.value.items():
                collection.node.value.setdefault(key, node)
        self._place(collection.node, collection.size, collection.anchor)

    def _place(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.size += size
        if parent.size > self.max_nodes:
            self._stop(YamlProblem.SIZE, node.position)
        inside = parent.node.value
        if isinstance(inside, list):
            inside.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            key, parent.key = parent.key, None
            self._entry(parent, key, node)

    def _entry(self, parent: _OpenCollection, key: Node, node: Node) -> None:
        if self.is_merge(key):
            self._merge(parent, node)
            return
        name = self.key(key)
        if name is None:
            return
        key_position, value_position = key.position, node.position
        if name in parent.node.value:
            first = parent.node.value[name].position
            self.report(YamlProblem.DUPLICATE, key_position, name=name, first=first.key_line)
        place = Position(
            file=self.name,
            line=value_position.line,
            column=value_position.column,
            key_line=key_position.line,
            key_column=key_position.column,
            text=value_position.text,
        )
        parent.node.value[name] = Node(node.value, place, node.anchor)

    def _merge(self, parent: _OpenCollection, node: Node) -> None:
        maps = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(item.value, dict) for item in maps):
            self._stop(YamlProblem.MERGE, node.position)
        parent.merges = (parent.merges or []) + maps


def _short_tag(tag: str) -> str:
    """A tag as a person writes it."""
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
