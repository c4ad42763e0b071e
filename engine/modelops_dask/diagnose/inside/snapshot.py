"""What the modules of a process hold, to see what tasks changed there, and to undo one change at a time.

    Snapshot(seconds) -> tasks run -> changes() -> [Changed(where, name, before, after, undo)]

Walks from the globals of modules, those of the bundle first, through containers, attributes, default
arguments, closures and caches, breadth first, as far as time allows. Of each place (places.py) it keeps the
object and a shallow copy, so a change deep inside is found where it is, and undone in place. All changes
below one global are one Changed. What belongs to the whole process (variables, folder, random state, ...) is
surroundings.py's.
"""

from __future__ import annotations

import collections
import copy
import itertools
import sys
import time
import types
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelops_dask.diagnose.inside import places, shown

MOST_PLACES = 300_000
STANDARD = tuple({f"{file.parent}/" for file in (Path(types.__file__), Path(types.__file__).resolve())})
ENGINE = f"{Path(__file__).resolve().parents[2]}/"
PACKAGES = ("/site-packages/", "/dist-packages/")
# Packages whose objects are how Python itself works, and lead everywhere.
LEFT_ALONE = {"logging", "threading", "re", "typing", "abc", "types", "importlib", "_frozen_importlib"}
CALLABLE = (*shown.FUNCTIONS, type)
CONTAINERS = (dict, list, set, collections.deque)
# Of Python's own modules, those that change all the time; surroundings.py sees to what matters in them.
UNSTEADY = {"sys", "os", "posix", "gc", "warnings", "_warnings", "random"}
OF_BUNDLE, OF_PACKAGE, OF_PYTHON = range(3)


class Changed(NamedTuple):
    """Texts, and what puts it back as it was; None if that cannot be done."""

    where: str
    name: str
    before: str
    after: str
    undo: Callable[[], object] | None
    whose: int  # OF_BUNDLE, OF_PACKAGE, OF_PYTHON


class _Node(NamedTuple):
    """An object on the walk. path: how the global `top` leads to it, as links (sign, key, path before)."""

    module: str
    top: str
    path: tuple | None
    one: Any


class Snapshot:
    """What the modules of this process hold now."""

    def __init__(self, seconds: float) -> None:
        """Look for at most so many seconds; `complete` tells whether that was enough."""
        self._modules = {name: one for name, one in list(sys.modules.items()) if _is_module(one)}
        self._ours = {name for name, one in self._modules.items() if _is_ours(one)}
        self._packaged = {name for name, one in self._modules.items() if _is_packaged(one)}
        self._seen: set[int] = set()
        self._places: list[tuple[_Node, places.Place]] = []
        self._globals = {name: self._read(name) for name in self._modules}
        self._unseen: list[_Node] = []  # objects of the bundle whose state cannot be read
        self._deadline = time.monotonic() + seconds
        self._leave(sys.modules.get("numpy.random.mtrand"), "_rand")  # surroundings.py reads it
        groups = self._ours, self._packaged, self._modules.keys() - self._ours - self._packaged - UNSTEADY
        self.complete = all(map(self._walk, groups))

    def changes(self) -> list[Changed]:
        """What is otherwise now, the bundle's own modules first."""
        below: dict[tuple[str, str], list] = {}
        for node, place in self._places:
            try:
                now = place.read()
                if not places.same(place.before, now):
                    below.setdefault((node.module, node.top), []).append((node, place, now))
            except BaseException:  # it went out of use, half of it
                continue
        found = [*self._rebound(below), *self._loaded()]
        found += [self._below(*key, changed) for key, changed in below.items()]
        return sorted(found, key=lambda one: one.whose)

    def unseen(self) -> Iterator[str]:
        """Objects of the bundle whose state only native code knows, in words."""
        for node in self._unseen:
            kind, called = type(node.one), ""
            if _is_library(node.one):
                functions = sorted(name for name in vars(node.one) if not name.startswith("_"))
                called = f", of which it calls {', '.join(functions)}" if functions else ""
                name = Path(str(vars(node.one).get("_name") or "the C library")).name
            else:
                name = f"{kind.__module__}.{kind.__name__}"
            yield f"module {node.module}: {_path(node)}: {name}{called}"

    def _rebound(self, below: dict) -> Iterator[Changed]:
        """Globals that have another value; what changed below the old one then no longer matters."""
        for name, before in self._globals.items():
            now = self._read(name)
            for key, old, new in places.differing(before, now):
                if shown.is_a(new, types.ModuleType):  # it was imported
                    continue
                inner = below.pop((name, key), [])
                texts = shown.named(key, old), shown.named(key, new)
                if texts[0] == texts[1]:
                    texts = texts[0], "another"

                def undo(name: str = name, key: str = key, old: Any = old, inner: list = inner) -> None:
                    _put_back(inner)
                    places.put(vars(self._modules[name]), key, old)

                yield Changed(f"module {name}", key, *texts, undo, self._whose(name))

    def _below(self, module: str, top: str, changed: list) -> Changed:
        node, place, now = changed[0]
        name, before, after = _texts(_path(node), place, now)
        if len(changed) > 1:
            after += f" (and {len(changed) - 1} more below {top})"
        undo = partial(_put_back, changed) if all(place.write for _, place, _ in changed) else None
        return Changed(f"module {module}", name, before, after, undo, self._whose(module))

    def _loaded(self) -> Iterator[Changed]:
        """Modules of the bundle that were imported, or replaced."""
        for name, one in list(sys.modules.items()):
            before = self._modules.get(name, shown.MISSING)
            if _is_module(one) and one is not before and _is_ours(one):

                def undo(name: str = name, before: Any = before) -> None:
                    places.put(sys.modules, name, before)

                was = "not loaded" if before is shown.MISSING else "another module"
                yield Changed(f"module {name}", "", was, "loaded", undo, OF_BUNDLE)

    def _whose(self, module: str) -> int:
        return OF_BUNDLE if module in self._ours else OF_PACKAGE if module in self._packaged else OF_PYTHON

    def _leave(self, module: types.ModuleType | None, name: str) -> None:
        if module and (one := getattr(module, name, None)):
            self._seen |= {id(one), id(one._bit_generator)}

    def _walk(self, names: Collection[str]) -> bool:
        """Note all places that the globals of these modules lead to; False: time or room ended first."""
        queue: collections.deque[_Node] = collections.deque()
        self._seen |= {id(vars(self._modules[name])) for name in names}
        for name in sorted(names):
            for key, value in self._globals[name]:
                if self._whose(name) == OF_PYTHON and type(value) not in CONTAINERS:
                    continue
                owner = getattr(value, "__module__", None) if shown.is_a(value, CALLABLE) else None
                if owner in (None, name) or owner not in self._modules:  # else its own module leads to it
                    queue.append(_Node(name, key, None, value))
                self._note_counter(_Node(name, key, None, value), vars(self._modules[name]), key)
        while queue:
            if len(self._places) > MOST_PLACES or time.monotonic() > self._deadline:
                return False
            node = queue.popleft()
            if id(node.one) in self._seen or self._is_dull(node.one):
                continue
            self._seen.add(id(node.one))
            if _is_library(node.one):
                self._unseen.append(node)
                continue
            try:
                found = list(places.places_of(node.one, self._ours))
                parts = list(places.parts_of(node.one, found))
            except BaseException:  # an object that does not bear to be looked at
                continue
            if self._whose(node.module) == OF_BUNDLE and not (found or parts):
                self._unseen.append(node)
            self._places += [(node, place) for place in found]
            for sign, key, value in parts:
                if type(value) not in shown.SCALARS:
                    inner = node._replace(path=(sign, key, node.path), one=value)
                    queue.append(inner)
                    self._note_counter(inner, shown.attributes(node.one) if sign == "." else node.one, key)
        return True

    def _note_counter(self, node: _Node, holder: Any, key: Any) -> None:
        """itertools.count cannot be set back: undone, its holder has one that was copied before."""
        if type(node.one) is itertools.count and id(node.one) not in self._seen:
            self._seen.add(id(node.one))
            spare = copy.copy(node.one)
            place = places.Place(
                lambda: shown.Words(repr(node.one)),
                lambda _: places.put(holder, key, spare),
                shown.Words(repr(node.one)),
            )
            self._places.append((node, place))

    def _is_dull(self, one: Any) -> bool:
        """Whether it holds nothing of the model's: modules, functions and classes of Python itself."""
        if shown.is_a(one, (types.ModuleType, types.CodeType, types.BuiltinFunctionType)):
            return True
        if shown.is_a(one, CALLABLE):
            return getattr(one, "__module__", None) not in self._ours | self._packaged
        return str(type(one).__module__).partition(".")[0] in LEFT_ALONE

    def _read(self, name: str) -> places.Pairs:
        """The globals of a module."""
        everything = list(vars(self._modules[name]).items())
        return places.Pairs((key, value) for key, value in everything if not key.startswith("__"))


def _put_back(changed: list) -> None:
    for _, place, _ in changed:
        place.write(place.before)


def _is_library(one: Any) -> bool:
    ctypes = sys.modules.get("ctypes")
    return ctypes is not None and shown.is_a(one, ctypes.CDLL)


def _is_module(one: Any) -> bool:
    return shown.is_a(one, types.ModuleType)


def _is_packaged(module: types.ModuleType) -> bool:
    return any(part in str(vars(module).get("__file__") or "") for part in PACKAGES)


def _is_ours(module: types.ModuleType) -> bool:
    """Whether it is the bundle's, or of a folder that the bundle leads to."""
    file = str(vars(module).get("__file__") or "")
    return bool(file) and not file.startswith((*STANDARD, ENGINE)) and not _is_packaged(module)


def _path(node: _Node) -> str:
    """Such as Model.cache['a']."""
    links, path = [], node.path
    while path:
        sign, key, path = path
        links.append(
            {".": ".{}", "[": "[{}]", "(": "({}=)", "{": "{{{}}}", "": ""}[sign].format(
                shown.short(key, 30) if sign == "[" else key
            )
        )
    return node.top + "".join(reversed(links))


def _texts(path: str, place: places.Place, now: Any) -> tuple[str, str, str]:
    """(path, before, after): a container whole where that is short, else the parts that changed."""
    before = place.before
    if isinstance(before, places.Pairs):
        changed = list(places.differing(before, now))
        if place.named and len(changed) == 1:
            key, old, new = changed[0]
            return f"{path}.{key}", shown.named(key, old), shown.named(key, new)
        if not place.named and max(map(len, (before, now))) <= 4:
            return path, shown.short(dict(before)), shown.short(dict(now))
        sides = [[(key, one[side]) for key, *one in changed[:3]] for side in (0, 1)]
        old, new = (
            ", ".join(
                f"{key if place.named else shown.short(key, 30)}: {shown.named(key, one, 40)}"
                for key, one in side
            )
            for side in sides
        )
        return path, old, new + (f", and {len(changed) - 3} more" if len(changed) > 3 else "")
    old, new = shown.short(before), shown.short(now)
    return path, old, new if new != old else f"{new}, otherwise"
