"""A snapshot of the modules of a process, to find changes by tasks, and to undo one change at a time.

    Snapshot(seconds) -> tasks run -> changes() -> [StateChange]

It walks from the globals of modules, those of the bundle first, through containers, attributes, default
arguments, closures and caches, breadth first, as far as time allows. For each location (locations.py) it
stores the object and a shallow copy, so a change deep inside is found there, and undone in place. All changes
below one global are one StateChange. State of the whole process (variables, folder, random state and others)
is in process_state.py.
"""

from __future__ import annotations

import collections
import copy
import itertools
import sys
import time
import types
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelops_dask.diagnose.trials.inside import locations, model_values
from modelops_dask.diagnose.trials.inside.state_change import (
    OF_BUNDLE,
    OF_PACKAGE,
    OF_PYTHON,
    StateChange,
)

MOST_LOCATIONS = 300_000
STANDARD = tuple({f"{file.parent}/" for file in (Path(types.__file__), Path(types.__file__).resolve())})
ENGINE = f"{Path(__file__).resolve().parents[3]}/"
PACKAGES = ("/site-packages/", "/dist-packages/")
# Packages whose objects are part of Python itself, and lead everywhere.
LEFT_ALONE = {"logging", "threading", "re", "typing", "abc", "types", "importlib", "_frozen_importlib"}
CALLABLE = (*model_values.FUNCTIONS, type)
CONTAINERS = (dict, list, set, collections.deque)
# Python's own modules that change all the time; process_state.py handles their relevant state.
UNSTEADY = {"sys", "os", "posix", "gc", "warnings", "_warnings", "random"}


class _Node(NamedTuple):
    """An object on the walk. path: how the global `top` leads to it, as links (sign, key, path before)."""

    module: str
    top: str
    path: tuple | None
    value: Any


NodeChange = tuple[_Node, locations.Location, Any]  # the location, the value before, the value now


class Snapshot:
    """The current contents of the modules of this process."""

    def __init__(self, seconds: float) -> None:
        """Walk for at most this many seconds; `complete` is whether that was enough."""
        self._modules = {name: module for name, module in list(sys.modules.items()) if _is_module(module)}
        self._bundle_modules = {name for name, module in self._modules.items() if _is_of_bundle(module)}
        self._package_modules = {name for name, module in self._modules.items() if _is_packaged(module)}
        self._visited_ids: set[int] = set()
        self._locations: list[tuple[_Node, locations.Location]] = []
        self._globals = {name: self._read_globals(name) for name in self._modules}
        self._unreadable: list[_Node] = []  # objects of the bundle whose state cannot be read
        self._deadline = time.monotonic() + seconds
        self._skip_generator(sys.modules.get("numpy.random.mtrand"), "_rand")  # process_state.py reads it
        others = self._modules.keys() - self._bundle_modules - self._package_modules - UNSTEADY
        self.complete = all(map(self._walk, (self._bundle_modules, self._package_modules, others)))

    def list_changes(self) -> list[StateChange]:
        """Current differences, the bundle's own modules first."""
        below: dict[tuple[str, str], list[NodeChange]] = {}
        for node, location in self._locations:
            try:
                now = location.read()
                if not locations.are_same(location.before, now):
                    below.setdefault((node.module, node.top), []).append((node, location, now))
            except BaseException:  # it is no longer in use
                continue
        changes = [*self._find_rebound(below), *self._find_loaded()]
        changes += [self._merge_changes(*key, changed) for key, changed in below.items()]
        return sorted(changes, key=lambda change: change.owner)

    def describe_unreadable(self) -> Iterator[str]:
        """A description of objects of the bundle whose state only native code knows."""
        for node in self._unreadable:
            kind, called = type(node.value), ""
            if _is_library(node.value):
                functions = sorted(name for name in vars(node.value) if not name.startswith("_"))
                called = f", calling {', '.join(functions)}" if functions else ""
                name = Path(str(vars(node.value).get("_name") or "the C library")).name
            else:
                name = f"{kind.__module__}.{kind.__name__}"
            yield f"module {node.module}: {_format_path(node)}: {name}{called}"

    def _find_rebound(self, below: dict[tuple[str, str], list[NodeChange]]) -> Iterator[StateChange]:
        """Globals with another value; changes below the old one no longer matter."""
        for name, before in self._globals.items():
            now = self._read_globals(name)
            for key, old, new in locations.list_differences(before, now):
                if model_values.is_a(new, types.ModuleType):  # it was imported
                    continue
                inner = below.pop((name, key), [])
                before_text = model_values.describe_named(key, old)
                after_text = model_values.describe_named(key, new)

                def undo(
                    name: str = name, key: str = key, old: Any = old, inner: list[NodeChange] = inner
                ) -> None:
                    _restore_all(inner)
                    locations.put_item(vars(self._modules[name]), key, old)

                yield StateChange(
                    holder=f"module {name}",
                    name=key,
                    before=before_text,
                    after=after_text if after_text != before_text else "another",
                    undo=undo,
                    owner=self._owner_of(name),
                )

    def _merge_changes(self, module: str, top: str, changed: list[NodeChange]) -> StateChange:
        node, location, now = changed[0]
        name, before, after = _describe_change(_format_path(node), location, now)
        if len(changed) > 1:
            after += f" (and {len(changed) - 1} more below {top})"
        undo = partial(_restore_all, changed) if all(location.write for _, location, _ in changed) else None
        return StateChange(
            holder=f"module {module}",
            name=name,
            before=before,
            after=after,
            undo=undo,
            owner=self._owner_of(module),
        )

    def _find_loaded(self) -> Iterator[StateChange]:
        """Modules of the bundle that were imported, or replaced."""
        for name, module in list(sys.modules.items()):
            before = self._modules.get(name, model_values.MISSING)
            if _is_module(module) and module is not before and _is_of_bundle(module):

                def undo(name: str = name, before: Any = before) -> None:
                    locations.put_item(sys.modules, name, before)

                yield StateChange(
                    holder=f"module {name}",
                    name="",
                    before="not loaded" if before is model_values.MISSING else "another module",
                    after="loaded",
                    undo=undo,
                    owner=OF_BUNDLE,
                )

    def _owner_of(self, module: str) -> float:
        if module in self._bundle_modules:
            return OF_BUNDLE
        return OF_PACKAGE if module in self._package_modules else OF_PYTHON

    def _skip_generator(self, module: types.ModuleType | None, name: str) -> None:
        if module and (generator := getattr(module, name, None)):
            self._visited_ids |= {id(generator), id(generator._bit_generator)}

    def _walk(self, names: Collection[str]) -> bool:
        """Record all locations that the globals of these modules lead to; False: no time, or too many."""
        queue: collections.deque[_Node] = collections.deque()
        self._visited_ids |= {id(vars(self._modules[name])) for name in names}
        for name in sorted(names):
            for key, value in self._globals[name]:
                if self._owner_of(name) == OF_PYTHON and type(value) not in CONTAINERS:
                    continue
                owner = getattr(value, "__module__", None) if model_values.is_a(value, CALLABLE) else None
                # otherwise its own module leads to it
                if owner in (None, name) or owner not in self._modules:
                    queue.append(_Node(name, key, None, value))
                self._note_counter(_Node(name, key, None, value), vars(self._modules[name]), key)
        while queue:
            if len(self._locations) > MOST_LOCATIONS or time.monotonic() > self._deadline:
                return False
            node = queue.popleft()
            if id(node.value) in self._visited_ids or self._is_dull(node.value):
                continue
            self._visited_ids.add(id(node.value))
            if _is_library(node.value):
                self._unreadable.append(node)
                continue
            try:
                node_locations = list(locations.find_locations(node.value, self._bundle_modules))
                parts = list(locations.list_parts(node.value, node_locations))
            except BaseException:  # an object that cannot be inspected
                continue
            if self._owner_of(node.module) == OF_BUNDLE and not (node_locations or parts):
                self._unreadable.append(node)
            self._locations += [(node, location) for location in node_locations]
            for sign, key, value in parts:
                if type(value) not in model_values.SCALARS:
                    inner = node._replace(path=(sign, key, node.path), value=value)
                    queue.append(inner)
                    holder = model_values.attributes_of(node.value) if sign == "." else node.value
                    self._note_counter(inner, holder, key)
        return True

    def _note_counter(self, node: _Node, holder: Any, key: Any) -> None:
        """Record an itertools.count, which cannot be reset: to undo it, its holder gets an earlier copy."""
        if type(node.value) is itertools.count and id(node.value) not in self._visited_ids:
            self._visited_ids.add(id(node.value))
            spare = copy.copy(node.value)
            location = locations.Location(
                lambda: model_values.Words(repr(node.value)),
                lambda _: locations.put_item(holder, key, spare),
                model_values.Words(repr(node.value)),
            )
            self._locations.append((node, location))

    def _is_dull(self, value: Any) -> bool:
        """Whether it holds nothing of the model: modules, functions and classes of Python itself."""
        if model_values.is_a(value, (types.ModuleType, types.CodeType, types.BuiltinFunctionType)):
            return True
        if model_values.is_a(value, CALLABLE):
            return getattr(value, "__module__", None) not in self._bundle_modules | self._package_modules
        return str(type(value).__module__).partition(".")[0] in LEFT_ALONE

    def _read_globals(self, name: str) -> locations.Pairs:
        """The globals of a module."""
        everything = list(vars(self._modules[name]).items())
        return locations.Pairs((key, value) for key, value in everything if not key.startswith("__"))


def _restore_all(changed: list[NodeChange]) -> None:
    for _, location, _ in changed:
        if location.write:
            location.write(location.before)


def _is_library(value: Any) -> bool:
    ctypes = sys.modules.get("ctypes")
    return ctypes is not None and model_values.is_a(value, ctypes.CDLL)


def _is_module(value: Any) -> bool:
    return model_values.is_a(value, types.ModuleType)


def _is_packaged(module: types.ModuleType) -> bool:
    return any(part in str(vars(module).get("__file__") or "") for part in PACKAGES)


def _is_of_bundle(module: types.ModuleType) -> bool:
    """Whether it belongs to the bundle, or to a folder that the bundle leads to."""
    file = str(vars(module).get("__file__") or "")
    return bool(file) and not file.startswith((*STANDARD, ENGINE)) and not _is_packaged(module)


def _format_path(node: _Node) -> str:
    """Format a path, such as "Model.cache['a']"."""
    links, path = [], node.path
    while path:
        sign, key, path = path
        links.append(
            {".": ".{}", "[": "[{}]", "(": "({}=)", "{": "{{{}}}", "": ""}[sign].format(
                model_values.describe(key, 30) if sign == "[" else key
            )
        )
    return node.top + "".join(reversed(links))


def _describe_change(path: str, location: locations.Location, now: Any) -> tuple[str, str, str]:
    """(path, before, after): a container completely if that is short, otherwise the changed parts."""
    before = location.before
    if isinstance(before, locations.Pairs):
        changed = list(locations.list_differences(before, now))
        if location.holds_attributes and len(changed) == 1:
            key, old, new = changed[0]
            return (
                f"{path}.{key}",
                model_values.describe_named(key, old),
                model_values.describe_named(key, new),
            )
        if not location.holds_attributes and max(map(len, (before, now))) <= 4:
            return path, model_values.describe(dict(before)), model_values.describe(dict(now))
        old_texts, new_texts = [], []
        for key, old, new in changed[:3]:
            label = key if location.holds_attributes else model_values.describe(key, 30)
            old_texts.append(f"{label}: {model_values.describe_named(key, old, 40)}")
            new_texts.append(f"{label}: {model_values.describe_named(key, new, 40)}")
        suffix = [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
        return path, ", ".join(old_texts), ", ".join(new_texts + suffix)
    old, new = model_values.describe(before), model_values.describe(now)
    return path, old, new if new != old else f"{new}, otherwise"
