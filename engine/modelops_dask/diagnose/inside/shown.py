"""Values of a model as short text, and whether two are the same, without running any code of the model's.

Only what Python's own and NumPy's types hold is looked into: no __repr__, __eq__ or property of the model's
is called.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import re
import sys
import types
import zlib
from typing import Any

LENGTH = 80  # characters
DEPTH = 6
SECRET = re.compile(
    r"secret|token|passw|credential|auth(?!or)|cookie|signature|(api|access|account|private)_?key|_sas$|conn_?str",
    re.IGNORECASE,
)
SCALARS = (
    *(int, float, complex, bool, str, bytes, type(None), type(...), range, slice),
    *(datetime.date, datetime.datetime, datetime.timedelta, datetime.time),
    *(decimal.Decimal, fractions.Fraction),
)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


class Words(str):
    """What stands for a value that has no text of its own; shown as it is."""

    __slots__ = ()


class Opaque:
    """A value whose text says nothing to a person: shown by a checksum."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Missing:
    """In place of a value: there is none."""


MISSING = Missing()


def named(name: Any, value: Any, length: int = LENGTH) -> str:
    """short(), but not for what has the name of a secret."""
    if type(name) is str and value is not MISSING and SECRET.search(name):
        return "(not shown)"
    return short(value, length)


def is_a(value: Any, kinds: Any) -> bool:
    """isinstance() without asking the object, whose class may compute __class__."""
    return issubclass(type(value), kinds)


def short(value: Any, length: int = LENGTH) -> str:
    """At most so many characters that show a value."""
    text = str(_text(value, DEPTH, length))
    return text if len(text) <= length else text[: length - 1] + "…"


def _text(value: Any, depth: int, room: int) -> str:
    kind = type(value)
    if value is MISSING:
        return "not there"
    if kind is Words:
        return value
    if kind is Opaque:
        return f"state {zlib.crc32(_text(value.value, DEPTH, sys.maxsize).encode()):08x}"
    if kind is str and len(value) > room:
        return repr(value[:room])
    if kind is int and value.bit_length() > 4096:
        return f"int of {value.bit_length()} bits"
    if kind in SCALARS or is_numpy_scalar(value):
        return repr(value)
    if is_a(value, type):
        return f"class {type.__dict__['__name__'].__get__(value)}"
    if is_a(value, FUNCTIONS):
        return f"function {getattr(value, '__qualname__', '?')}"
    if is_a(value, types.ModuleType):
        return f"module {vars(value).get('__name__', '?')}"
    if is_array(value):
        return _array(value)
    if is_a(value, enum.Enum):
        return f"{kind.__name__}.{vars(value).get('_name_')}"
    if depth and kind in (list, tuple, set, frozenset, dict, collections.deque, collections.OrderedDict):
        return _items(value, depth, room)
    if depth and is_a(value, dict):
        return f"{kind.__name__}({_items(dict.copy(value), depth, room)})"
    return f"<{kind.__name__}>"


def _items(value: Any, depth: int, room: int) -> str:
    opening, closing = "[({"[_bracket(value)], "])}"[_bracket(value)]
    shown: list[str] = []
    for one in value.items() if isinstance(value, dict) else value:
        if sum(map(len, shown)) > room:
            shown.append("…")
            break
        if isinstance(value, dict):
            hidden = type(one[0]) is str and SECRET.search(one[0])
            text = "(not shown)" if hidden else _text(one[1], depth - 1, room)
            shown.append(f"{_text(one[0], depth - 1, room)}: {text}")
        else:
            shown.append(_text(one, depth - 1, room))
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(shown))}}}" if shown else "set()"
    comma = "," if isinstance(value, tuple) and len(shown) == 1 else ""
    return f"{opening}{', '.join(shown)}{comma}{closing}"


def _bracket(value: Any) -> int:
    return 2 if isinstance(value, (dict, set, frozenset)) else int(isinstance(value, tuple))


def _array(value: Any) -> str:
    if value.dtype.hasobject:
        return f"array of {value.size} objects"
    first = ", ".join(repr(one) for one in value.ravel()[:4].tolist())
    more = ", …" if value.size > 4 else ""
    return f"array {value.dtype} {value.shape} [{first}{more}]"


def is_array(value: Any) -> bool:
    """Whether it is a NumPy array, and no subclass."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def is_numpy_scalar(value: Any) -> bool:
    """Whether it is one of NumPy's own numbers."""
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    return generic is not None and is_a(value, generic) and type(value).__module__ == "numpy"


def attributes(value: Any) -> dict | None:
    """An object's own __dict__; None if it has none."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except Exception:  # no __dict__, or one that is computed
        return None
    return own if type(own) is dict else None


def same(one: Any, other: Any, depth: int = DEPTH) -> bool:
    """Whether two values are alike in all that can be seen; what cannot be seen is not the same."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is Opaque:
        return same(one.value, other.value)
    if kind in (*SCALARS, Words) or is_numpy_scalar(one):
        return bool(one == other) or bool(one != one and other != other)
    if is_array(one):
        if one.dtype != other.dtype or one.shape != other.shape or one.dtype.hasobject:
            return False
        return one.tobytes() == other.tobytes()
    if not depth:
        return False
    if kind in (list, tuple, collections.deque):
        return len(one) == len(other) and all(map(same, one, other, [depth - 1] * len(one)))
    if kind in (set, frozenset):
        return all(type(each) in SCALARS for each in (*one, *other)) and one == other
    if kind in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return same(list(dict.items(one)), list(dict.items(other)), depth - 1)
    if kind is types.FunctionType:
        parts = "__code__", "__defaults__", "__kwdefaults__"
        return all(same(getattr(one, part), getattr(other, part), depth - 1) for part in parts[1:]) and (
            one.__code__ == other.__code__ and one.__closure__ is other.__closure__
        )
    mine, theirs = attributes(one), attributes(other)
    if mine is None or theirs is None or is_a(one, (type, types.ModuleType, dict, list, set)):
        return False
    return same(mine, theirs, depth - 1)
