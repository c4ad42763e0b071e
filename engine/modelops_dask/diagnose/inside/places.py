"""Places of a process's memory that hold state: read one, write it back, see what it leads to.

    places_of(object) -> Place(read, write), as many as it has: content, attributes, a generator's state, ...

What is read is a shallow copy: pairs (key, value) of what has names or keys, else a value. Writing puts it
back into the same object. Only Python's own and NumPy's types are read, by their own methods. Does not walk:
snapshot.py does.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from modelops_dask.diagnose.inside import shown, states


class Pairs(list):
    """[(key, value)…] of a place whose parts have names (attributes) or keys."""


class Place(NamedTuple):
    """`before` is what read() gave when this was made. write(before) puts it back; None: nothing can."""

    read: Callable[[], Any]
    write: Callable[[Any], None] | None
    before: Any
    named: bool = False  # its parts are attributes


def places_of(one: Any, ours: set[str]) -> Iterator[Place]:
    """The places of an object; none for what holds no state. ours: modules whose functions count."""
    kind = type(one)
    if kind in shown.SCALARS:
        return
    if shown.is_a(one, dict):
        yield _place(lambda: Pairs(dict.items(one)), _dict_writer(one))
    elif shown.is_a(one, list):
        yield _place(lambda: list.copy(one), lambda saved: list.__setitem__(one, slice(None), saved))
    elif shown.is_a(one, set):
        yield _place(lambda: set.copy(one), lambda saved: (set.clear(one), set.update(one, saved)))
    elif shown.is_a(one, collections.deque):
        yield _place(lambda: list(one), lambda saved: (one.clear(), one.extend(saved)))
    elif state := states.state_of(one):
        yield _place(*state)
    elif shown.is_a(one, type):
        yield _place(lambda: _named(type.__getattribute__(one, "__dict__")), _class_writer(one), True)
        return
    elif kind is types.FunctionType and one.__module__ not in ours:
        return
    attributes = shown.attributes(one)
    if attributes is not None and not shown.is_a(one, type):
        yield _place(lambda: Pairs(attributes.items()), _dict_writer(attributes), True)
    if slots := [
        (name, descriptor)
        for each in kind.__mro__
        if each.__module__ not in ("builtins", "types")
        for name, descriptor in type.__getattribute__(each, "__dict__").items()
        if type(descriptor) is types.MemberDescriptorType and "__slots__" in vars(each)
    ]:
        yield _place(lambda: _slots(one, slots), lambda saved: _set_slots(one, slots, saved), True)


def parts_of(one: Any, found: list[Place]) -> Iterator[tuple[str, Any, Any]]:
    """(sign, key, value) of what an object and its places lead to. The signs: "." an attribute, "[" an item,
    "(" a default argument, "{" a variable of the function around.
    """
    for place in found:
        if isinstance(place.before, Pairs):
            for key, value in place.before:
                yield "." if place.named else "[", key, value
        elif isinstance(place.before, (list, set)):
            for number, value in enumerate(place.before):
                yield "[", number, value
    kind = type(one)
    if kind in (tuple, frozenset):
        for number, value in enumerate(one):
            yield "[", number, value
    elif kind is types.FunctionType:
        names = one.__code__.co_varnames[: one.__code__.co_argcount]
        for name, value in zip(reversed(names), reversed(one.__defaults__ or ())):  # noqa: B905 (Python 3.9)
            yield "(", name, value
        for name, value in (one.__kwdefaults__ or {}).items():
            yield "(", name, value
        for name, cell in zip(one.__code__.co_freevars, one.__closure__ or ()):  # noqa: B905 (Python 3.9)
            yield "{", name, cell
    elif kind is types.CellType:
        yield "", "", found[0].before
    for name in _LEADS.get(kind, ()):
        yield "", "", getattr(one, name)


def differing(before: Pairs, now: Pairs) -> Iterator[tuple[Any, Any, Any]]:
    """(key, value before, value now) of what is otherwise; shown.MISSING in place of a value that is not."""
    later = {_key(key): (key, value) for key, value in now}
    for key, old in before:
        _, new = later.pop(_key(key), (key, shown.MISSING))
        if not shown.same(old, new):
            yield key, old, new
    for key, new in later.values():
        yield key, shown.MISSING, new


def same(before: Any, now: Any) -> bool:
    """Whether what was read of a place is the same objects, or equal values in their stead."""
    if isinstance(before, Pairs):
        return len(before) == len(now) and all(
            shown.same(*keys) and shown.same(*values)
            for keys, values in ((zip(*pairs)) for pairs in zip(before, now))  # noqa: B905 (Python 3.9)
        )
    if isinstance(before, set) and set(map(id, before)) == set(map(id, now)):
        return True
    return shown.same(before, now)


def put(holder: Any, key: Any, value: Any) -> None:
    """Set an item of a dict or list; take it away if value is shown.MISSING."""
    if value is shown.MISSING:
        dict.pop(holder, key, None)
    else:
        (list if isinstance(holder, list) else dict).__setitem__(holder, key, value)


def _key(key: Any) -> Any:
    """Something to find a key by without calling the model's __eq__."""
    return key if type(key) in shown.SCALARS else id(key)


_LEADS = {
    types.MethodType: ("__self__", "__func__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.partial: ("func", "args", "keywords"),
    functools._lru_cache_wrapper: ("__wrapped__",),
    functools.cached_property: ("func",),
    functools.partialmethod: ("func", "args", "keywords"),
}


def _place(read: Callable[[], Any], write: Callable[[Any], Any] | None, named: bool = False) -> Place:
    return Place(read, write, read(), named)


def _named(namespace: Any) -> Pairs:
    return Pairs((name, value) for name, value in namespace.items() if not name.startswith("__"))


def _dict_writer(one: dict) -> Callable[[Pairs], None]:
    kind = collections.OrderedDict if shown.is_a(one, collections.OrderedDict) else dict

    def write(saved: Pairs) -> None:
        kind.clear(one)
        for key, value in saved:
            kind.__setitem__(one, key, value)

    return write


def _class_writer(one: type) -> Callable[[Pairs], None]:
    def write(saved: Pairs) -> None:
        wanted = dict(saved)
        now = dict(_named(type.__getattribute__(one, "__dict__")))
        for name in now.keys() - wanted.keys():
            type.__delattr__(one, name)
        for name, value in wanted.items():
            if now.get(name, shown.MISSING) is not value:
                type.__setattr__(one, name, value)

    return write


def _slots(one: Any, slots: list) -> Pairs:
    return Pairs((name, _slot(one, descriptor)) for name, descriptor in slots)


def _slot(one: Any, descriptor: Any) -> Any:
    try:
        return descriptor.__get__(one)
    except AttributeError:
        return shown.MISSING


def _set_slots(one: Any, slots: list, saved: Pairs) -> None:
    for (_, descriptor), (_, value) in zip(slots, saved):  # noqa: B905 (Python 3.9)
        if value is not shown.MISSING:
            descriptor.__set__(one, value)
