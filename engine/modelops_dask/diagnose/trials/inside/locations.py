"""Locations in a process's memory that hold state: read one, restore it, list what it refers to.

    find_locations(object) -> Location(read, write), one each for content, attributes, state of a generator

Reading returns a shallow copy: pairs (key, value) for named or keyed parts, else a value. Writing restores it
in the same object. Only Python's own and NumPy's types are read, by their own methods. snapshot.py walks the
objects.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from modelops_dask.diagnose.trials.inside import model_values, states


class Pairs(list):
    """[(key, value)…] of a location whose parts have names (attributes) or keys."""


class Location(NamedTuple):
    """`before` is the first result of read(). write(before) restores it; None if that is impossible."""

    read: Callable[[], Any]
    write: Callable[[Any], object] | None
    before: Any
    holds_attributes: bool = False


def find_locations(holder: Any, bundle_modules: set[str]) -> Iterator[Location]:
    """The locations of an object; none if it holds no state. Functions of other modules hold none."""
    kind = type(holder)
    if kind in model_values.SCALARS:
        return
    if model_values.is_a(holder, dict):
        yield _read_location(lambda: Pairs(dict.items(holder)), _dict_writer(holder))
    elif model_values.is_a(holder, list):
        yield _read_location(
            lambda: list.copy(holder), lambda saved: list.__setitem__(holder, slice(None), saved)
        )
    elif model_values.is_a(holder, set):
        yield _read_location(
            lambda: set.copy(holder), lambda saved: (set.clear(holder), set.update(holder, saved))
        )
    elif model_values.is_a(holder, collections.deque):
        yield _read_location(lambda: list(holder), lambda saved: (holder.clear(), holder.extend(saved)))
    elif state := states.state_of(holder):
        yield _read_location(*state)
    elif model_values.is_a(holder, type):
        yield _read_location(
            lambda: _public_pairs(type.__getattribute__(holder, "__dict__")),
            _class_writer(holder),
            holds_attributes=True,
        )
        return
    elif kind is types.FunctionType and holder.__module__ not in bundle_modules:
        return
    attributes = model_values.attributes_of(holder)
    if attributes is not None and not model_values.is_a(holder, type):
        yield _read_location(
            lambda: Pairs(attributes.items()), _dict_writer(attributes), holds_attributes=True
        )
    if slots := [
        (name, descriptor)
        for base_class in kind.__mro__
        if base_class.__module__ not in ("builtins", "types")
        for name, descriptor in type.__getattribute__(base_class, "__dict__").items()
        if type(descriptor) is types.MemberDescriptorType and "__slots__" in vars(base_class)
    ]:
        yield _read_location(
            lambda: _read_slots(holder, slots),
            lambda saved: _set_slots(holder, slots, saved),
            holds_attributes=True,
        )


def list_parts(holder: Any, locations: list[Location]) -> Iterator[tuple[str, Any, Any]]:
    """(sign, key, value) of the values that an object and its locations refer to.

    The signs: "." an attribute, "[" an item, "(" a default argument, "{" a variable of the enclosing
    function.
    """
    for location in locations:
        if isinstance(location.before, Pairs):
            for key, value in location.before:
                yield "." if location.holds_attributes else "[", key, value
        elif isinstance(location.before, (list, set)):
            for number, value in enumerate(location.before):
                yield "[", number, value
    kind = type(holder)
    if kind in (tuple, frozenset):
        for number, value in enumerate(holder):
            yield "[", number, value
    elif kind is types.FunctionType:
        names = holder.__code__.co_varnames[: holder.__code__.co_argcount]
        for name, value in zip(reversed(names), reversed(holder.__defaults__ or ())):  # noqa: B905 (Python 3.9)
            yield "(", name, value
        for name, value in (holder.__kwdefaults__ or {}).items():
            yield "(", name, value
        for name, cell in zip(holder.__code__.co_freevars, holder.__closure__ or ()):  # noqa: B905 (Python 3.9)
            yield "{", name, cell
    elif kind is types.CellType:
        yield "", "", locations[0].before
    for name in _LEADS.get(kind, ()):
        yield "", "", getattr(holder, name)


def list_differences(before: Pairs, now: Pairs) -> Iterator[tuple[Any, Any, Any]]:
    """(key, value before, value now) of the pairs that differ; model_values.MISSING stands for no value."""
    later = {_identity_key(key): (key, value) for key, value in now}
    for key, old in before:
        _, new = later.pop(_identity_key(key), (key, model_values.MISSING))
        if not model_values.are_same(old, new):
            yield key, old, new
    for key, new in later.values():
        yield key, model_values.MISSING, new


def are_same(before: Any, now: Any) -> bool:
    """Whether two readings of a location are the same objects or equal values."""
    if isinstance(before, Pairs):
        return len(before) == len(now) and all(
            model_values.are_same(*keys) and model_values.are_same(*values)
            for keys, values in ((zip(*pairs)) for pairs in zip(before, now))  # noqa: B905 (Python 3.9)
        )
    if isinstance(before, set) and set(map(id, before)) == set(map(id, now)):
        return True
    return model_values.are_same(before, now)


def put_item(holder: Any, key: Any, value: Any) -> None:
    """Set an item of a dict or list; remove it if value is model_values.MISSING."""
    if value is model_values.MISSING:
        dict.pop(holder, key, None)
    else:
        (list if isinstance(holder, list) else dict).__setitem__(holder, key, value)


def _identity_key(key: Any) -> Any:
    """A value to find a key by without calling the model's __eq__."""
    return key if type(key) in model_values.SCALARS else id(key)


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


def _read_location(
    read: Callable[[], Any], write: Callable[[Any], object] | None, holds_attributes: bool = False
) -> Location:
    return Location(read, write, read(), holds_attributes)


def _public_pairs(namespace: Any) -> Pairs:
    return Pairs((name, value) for name, value in namespace.items() if not name.startswith("__"))


def _dict_writer(mapping: dict) -> Callable[[Pairs], None]:
    kind = collections.OrderedDict if model_values.is_a(mapping, collections.OrderedDict) else dict

    def write(saved: Pairs) -> None:
        kind.clear(mapping)
        for key, value in saved:
            kind.__setitem__(mapping, key, value)

    return write


def _class_writer(class_: type) -> Callable[[Pairs], None]:
    def write(saved: Pairs) -> None:
        attributes = dict(saved)
        now = dict(_public_pairs(type.__getattribute__(class_, "__dict__")))
        for name in now.keys() - attributes.keys():
            type.__delattr__(class_, name)
        for name, value in attributes.items():
            if now.get(name, model_values.MISSING) is not value:
                type.__setattr__(class_, name, value)

    return write


def _read_slots(holder: Any, slots: list) -> Pairs:
    return Pairs((name, _read_slot(holder, descriptor)) for name, descriptor in slots)


def _read_slot(holder: Any, descriptor: Any) -> Any:
    try:
        return descriptor.__get__(holder)
    except AttributeError:
        return model_values.MISSING


def _set_slots(holder: Any, slots: list, saved: Pairs) -> None:
    for (_, descriptor), (_, value) in zip(slots, saved):  # noqa: B905 (Python 3.9)
        if value is not model_values.MISSING:
            descriptor.__set__(holder, value)
