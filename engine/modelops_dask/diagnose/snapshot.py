"""What the modules of a process hold, to see what tasks changed there, and to undo one change at a time.

    Snapshot(bundle, seconds) -> tasks run -> changes() -> [Changed(where, name, before, after, undo)]

Walks from the globals of modules, those of the bundle first, through containers, attributes, default
arguments, closures and caches, breadth first, as far as time allows. Of each place (places.py) it keeps the
object and a shallow copy, so a change deep inside is found where it is, and undone in place. All changes
below one global are one Changed. Standard library only: inside.py loads it by path. What belongs to the whole
process (variables, folder, random state, ...) is surroundings.py's.
"""

from __future__ import annotations

import collections
import copy
import itertools
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from modelops_dask.diagnose import places, shown

MOST_PLACES = 300_000
PACKAGES = ("/site-packages/", "/dist-packages/")
# Packages whose objects are how Python itself works, and lead everywhere.
LEFT_ALONE = {"logging", "threading", "re", "typing", "abc", "types", "importlib", "_frozen_importlib"}
CALLABLE = (*shown.FUNCTIONS, type)


class Changed(NamedTuple):
    """Texts, and what puts it back as it was; None if that cannot be done."""

    where: str
    name: str
    before: str
    after: str
    undo: Callable[[], object] | None
    of_bundle: bool


class _Node(NamedTuple):
    """An object on the walk. path: how the global `top` leads to it, as links (sign, key, path before)."""

    module: str
    top: str
    path: tuple | None
    one: Any


class Snapshot:
    """What the modules of this process hold now."""

    def __init__(self, bundle: str, seconds: float) -> None:
        """Look for at most so many seconds; `complete` tells whether that was enough."""
        self._bundle = f"{bundle}/", f"{Path(bundle).resolve()}/"
        self._modules = {name: one for name, one in list(sys.modules.items()) if _is_module(one)}
        self._ours = {name for name, one in self._modules.items() if self._is_of_bundle(one)}
        self._packaged = {name for name, one in self._modules.items() if _is_packaged(one)}
        self._seen: set[int] = set()
        self._places: list[tuple[_Node, places.Place]] = []
        self._globals = {name: self._read(name) for name in self._modules}
        self.libraries: dict[str, str] = {}  # native ones that modules call through ctypes: by whom
        self._deadline = time.monotonic() + seconds
        self.complete = self._walk(self._ours) and self._walk(self._packaged)

    def changes(self) -> list[Changed]:
        """What is otherwise now, the bundle's own modules first."""
        below: dict[tuple[str, str], list] = {}
        for node, place in self._places:
            try:
                now = place.read()
                if not places.same(place.before, now):
                    below.setdefault((node.module, node.top), []).append((node, place, now))
            except Exception:  # it went out of use, half of it
                continue
        found = [*self._rebound(below), *self._loaded()]
        found += [self._below(*key, changed) for key, changed in below.items()]
        return sorted(found, key=lambda one: not one.of_bundle)

    def _rebound(self, below: dict) -> Iterator[Changed]:
        """Globals that have another value; what changed below the old one then no longer matters."""
        for name, before in self._globals.items():
            now = self._read(name)
            for key, old, new in places.differing(before, now):
                if isinstance(new, types.ModuleType):  # it was imported
                    continue
                below.pop((name, key), None)
                texts = shown.short(old), shown.short(new)
                if texts[0] == texts[1]:
                    texts = texts[0], "another"

                def undo(name: str = name, key: str = key, old: Any = old) -> None:
                    places.put(vars(self._modules[name]), key, old)

                yield Changed(f"module {name}", key, *texts, undo, name in self._ours)

    def _below(self, module: str, top: str, changed: list) -> Changed:
        node, place, now = changed[0]
        name, before, after = _texts(_path(node), place, now)
        if len(changed) > 1:
            after += f" (and {len(changed) - 1} more below {top})"

        def undo() -> None:
            for _, place, _ in changed:
                place.write(place.before)

        can = all(place.write for _, place, _ in changed)
        return Changed(f"module {module}", name, before, after, undo if can else None, module in self._ours)

    def _loaded(self) -> Iterator[Changed]:
        """Modules of the bundle that were imported, or replaced."""
        for name, one in list(sys.modules.items()):
            before = self._modules.get(name, shown.MISSING)
            if _is_module(one) and one is not before and self._is_of_bundle(one):

                def undo(name: str = name, before: Any = before) -> None:
                    places.put(sys.modules, name, before)

                was = "not loaded" if before is shown.MISSING else "another module"
                yield Changed(f"module {name}", "", was, "loaded", undo, True)

    def _walk(self, names: set[str]) -> bool:
        """Note all places that the globals of these modules lead to; False: time or room ended first."""
        queue: collections.deque[_Node] = collections.deque()
        for name in sorted(names):
            self._seen.add(id(vars(self._modules[name])))
            for key, value in self._globals[name]:
                owner = getattr(value, "__module__", None) if isinstance(value, CALLABLE) else None
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
            self._note_library(node)
            try:
                found = list(places.places_of(node.one, self._ours))
                parts = list(places.parts_of(node.one, found))
            except Exception:  # an object that does not bear to be looked at
                continue
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
            place = places.Place(node.one.__repr__, lambda _: places.put(holder, key, spare), repr(node.one))
            self._places.append((node, place))

    def _note_library(self, node: _Node) -> None:
        ctypes = sys.modules.get("ctypes")
        if ctypes and isinstance(node.one, ctypes.CDLL):
            called = sorted(name for name in vars(node.one) if not name.startswith("_"))
            library = os.path.basename(str(vars(node.one).get("_name") or "the C library"))  # noqa: PTH119
            functions = f" ({', '.join(called)})" if called else ""
            self.libraries[library] = f"module {node.module}{functions}"

    def _is_dull(self, one: Any) -> bool:
        """Whether it holds nothing of the model's: modules, functions and classes of Python itself."""
        if isinstance(one, (types.ModuleType, types.CodeType, types.BuiltinFunctionType)):
            return True
        if isinstance(one, CALLABLE):
            return getattr(one, "__module__", None) not in self._ours | self._packaged
        return str(type(one).__module__).partition(".")[0] in LEFT_ALONE

    def _read(self, name: str) -> places.Pairs:
        """The globals of a module; of Python's own just functions and classes: a model may replace some."""
        known = name in self._ours or name in self._packaged
        return places.Pairs(
            (key, value)
            for key, value in list(vars(self._modules[name]).items())
            if not key.startswith("__") and (known or isinstance(value, CALLABLE))
        )

    def _is_of_bundle(self, module: types.ModuleType) -> bool:
        file = str(vars(module).get("__file__") or "")
        return file.startswith(self._bundle) and not _is_packaged(module)


def _is_module(one: Any) -> bool:
    return isinstance(one, types.ModuleType)


def _is_packaged(module: types.ModuleType) -> bool:
    return any(part in str(vars(module).get("__file__") or "") for part in PACKAGES)


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
            return f"{path}.{key}", shown.short(old), shown.short(new)
        if not place.named and max(map(len, (before, now))) <= 4:
            return path, shown.short(dict(before)), shown.short(dict(now))
        sides = [[(key, one[side]) for key, *one in changed[:3]] for side in (0, 1)]
        old, new = (
            ", ".join(
                f"{key if place.named else shown.short(key, 30)}: {shown.short(one, 40)}" for key, one in side
            )
            for side in sides
        )
        return path, old, new + (f", and {len(changed) - 3} more" if len(changed) > 3 else "")
    old, new = shown.short(before), shown.short(now)
    return path, old, new if new != old else f"{new}, otherwise"
