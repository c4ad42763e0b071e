"""Places of a process's memory that hold state: read one, write it back, see what it leads to.

    places_of(object) -> Place(read, write), as many as it has: content, attributes, a generator's state, ...

What is read is a shallow copy: pairs (key, value) of what has names or keys, else a value. Writing puts it
back into the same object. Only Python's own and NumPy's types are read, by their own methods. Standard
library only: inside.py loads it by path. Does not walk: snapshot.py does.
"""

from __future__ import annotations

import array
import collections
import copy
import functools
import io
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from modelops_dask.diagnose import shown

ARRAY_BYTES = 4 << 20  # a larger array is compared by its hash, and cannot be put back


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
    if isinstance(one, dict):
        yield _place(lambda: Pairs(dict.items(one)), _dict_writer(one))
    elif isinstance(one, list):
        yield _place(lambda: list.copy(one), lambda saved: list.__setitem__(one, slice(None), saved))
    elif isinstance(one, set):
        yield _place(lambda: set.copy(one), lambda saved: (set.clear(one), set.update(one, saved)))
    elif isinstance(one, collections.deque):
        yield _place(lambda: list(one), lambda saved: (one.clear(), one.extend(saved)))
    elif kind in (bytearray, array.array):
        yield _place(lambda: one[:], lambda saved: one.__setitem__(slice(None), saved))
    elif shown.is_array(one):
        yield _array(one)
    elif kind is types.CellType:
        yield _place(lambda: _content(one), lambda saved: _set_content(one, saved))
    elif kind is functools._lru_cache_wrapper:
        yield _place(lambda: _cached(one), lambda _saved: one.cache_clear())
    elif reader := _STATES.get(kind) or _numpy_state(one) or _native(one):
        yield _place(*reader(one))
    elif isinstance(one, type):
        yield _place(lambda: _named(type.__getattribute__(one, "__dict__")), _class_writer(one), True)
        return
    elif kind is types.FunctionType and one.__module__ not in ours:
        return
    attributes = shown.attributes(one)
    if attributes is not None and not isinstance(one, type):
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
        yield "", "", _content(one)
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
    kind = collections.OrderedDict if isinstance(one, collections.OrderedDict) else dict

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


def _array(one: Any) -> Place:
    if one.dtype.hasobject:
        return _place(lambda: one.ravel().tolist(), None)
    if one.nbytes > ARRAY_BYTES:
        return _place(lambda: (one.shape, hash(one.tobytes())), None)
    return _place(one.copy, lambda saved: one.__setitem__(..., saved))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return shown.MISSING


def _set_content(cell: Any, value: Any) -> None:
    if value is shown.MISSING:
        del cell.cell_contents
    else:
        cell.cell_contents = value


def _cached(one: Any) -> str:
    info = one.cache_info()
    return f"{info.currsize} cached" + (f", {info.misses} missed" if info.currsize == info.maxsize else "")


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


# State that is in neither attributes nor items: type -> object -> (read, write)


def _random(one: random.Random) -> tuple:
    return lambda: random.Random.getstate(one), lambda saved: random.Random.setstate(one, saved)


def _variable(one: ContextVar) -> tuple:
    return lambda: one.get(shown.MISSING), lambda saved: None if saved is shown.MISSING else one.set(saved)


def _file(one: Any) -> tuple:
    def write(saved: tuple) -> None:
        one.seek(0)
        one.truncate()
        one.write(saved[0])
        one.seek(saved[1])

    return lambda: (one.getvalue(), one.tell()), write


def _generator(one: Any) -> tuple:
    def read() -> Any:
        frame = one.gi_frame
        return (
            "ended" if frame is None else (frame.f_lineno, tuple(map(shown.short, frame.f_locals.values())))
        )

    return read, None


_STATES: dict[type, Callable[[Any], tuple]] = {
    random.Random: _random,
    ContextVar: _variable,
    io.StringIO: _file,
    io.BytesIO: _file,
    types.GeneratorType: _generator,
}


def _numpy_state(one: Any) -> Callable[[Any], tuple] | None:
    """How to read one of NumPy's generators; None for anything else."""
    numpy = sys.modules.get("numpy.random")
    if numpy is None or type(one).__module__.partition(".")[0] != "numpy":
        return None
    if isinstance(one, numpy.BitGenerator):
        return lambda bits: (lambda: copy.deepcopy(bits.state), lambda saved: setattr(bits, "state", saved))
    if isinstance(one, numpy.Generator):
        return lambda generator: _numpy_state(generator.bit_generator)(generator.bit_generator)
    if isinstance(one, numpy.RandomState):
        return lambda state: (lambda: state.get_state(legacy=False), state.set_state)
    return None


def _native(one: Any) -> Callable[[Any], tuple] | None:
    """How to read a variable, array or structure of ctypes; None for anything else."""
    ctypes = sys.modules.get("ctypes")
    kinds = ctypes and (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)
    if kinds is None or not isinstance(one, kinds):
        return None

    def reader(value: Any) -> tuple:
        at, size = ctypes.addressof(value), ctypes.sizeof(value)
        return lambda: ctypes.string_at(at, size), lambda saved: ctypes.memmove(at, saved, size)

    return reader
