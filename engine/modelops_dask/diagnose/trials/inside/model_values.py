"""Values of a model as short text, and whether two are equal, without running any code of the model.

Only contents of Python's own and NumPy's types are read: no __repr__, __eq__ or property of the model is
called.
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
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    type(None),
    type(...),
    range,
    slice,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    datetime.time,
    decimal.Decimal,
    fractions.Fraction,
)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


class Words(str):
    """Represents a value without its own text; shown unchanged."""

    __slots__ = ()


class Opaque:
    """A value with an unreadable text: shown by a checksum."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Missing:
    """Represents a missing value."""


MISSING = Missing()


def describe_named(name: Any, value: Any, length: int = LENGTH) -> str:
    """Like describe(), except for names that look like secrets."""
    if type(name) is str and value is not MISSING and SECRET.search(name):
        return "(not shown)"
    return describe(value, length)


def is_a(value: Any, kinds: Any) -> bool:
    """Like isinstance(), without asking the object, whose class may compute __class__."""
    return issubclass(type(value), kinds)


def describe(value: Any, length: int = LENGTH) -> str:
    """A short text of limited length that shows a value."""
    text = str(_describe_value(value, DEPTH, length))
    return text if len(text) <= length else text[: length - 1] + "…"


def _describe_value(value: Any, depth: int, max_length: int) -> str:
    kind = type(value)
    if value is MISSING:
        return "absent"
    if kind is Words:
        return value
    if kind is Opaque:
        return f"state {zlib.crc32(_describe_value(value.value, DEPTH, sys.maxsize).encode()):08x}"
    if kind is str and len(value) > max_length:
        return repr(value[:max_length])
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
        return _describe_array(value)
    if is_a(value, enum.Enum):
        return f"{kind.__name__}.{vars(value).get('_name_')}"
    if depth and kind in (list, tuple, set, frozenset, dict, collections.deque, collections.OrderedDict):
        return _describe_items(value, depth, max_length)
    if depth and is_a(value, dict):
        return f"{kind.__name__}({_describe_items(dict.copy(value), depth, max_length)})"
    return f"<{kind.__name__}>"


def _describe_items(value: Any, depth: int, max_length: int) -> str:
    opening, closing = "[({"[_bracket_index(value)], "])}"[_bracket_index(value)]
    texts: list[str] = []
    for item in value.items() if isinstance(value, dict) else value:
        if sum(map(len, texts)) > max_length:
            texts.append("…")
            break
        if isinstance(value, dict):
            hidden = type(item[0]) is str and SECRET.search(item[0])
            text = "(not shown)" if hidden else _describe_value(item[1], depth - 1, max_length)
            texts.append(f"{_describe_value(item[0], depth - 1, max_length)}: {text}")
        else:
            texts.append(_describe_value(item, depth - 1, max_length))
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(texts))}}}" if texts else "set()"
    comma = "," if isinstance(value, tuple) and len(texts) == 1 else ""
    return f"{opening}{', '.join(texts)}{comma}{closing}"


def _bracket_index(value: Any) -> int:
    return 2 if isinstance(value, (dict, set, frozenset)) else int(isinstance(value, tuple))


def _describe_array(value: Any) -> str:
    if value.dtype.hasobject:
        return f"array of {value.size} objects"
    first = ", ".join(repr(element) for element in value.ravel()[:4].tolist())
    ellipsis = ", …" if value.size > 4 else ""
    return f"array {value.dtype} {value.shape} [{first}{ellipsis}]"


def is_array(value: Any) -> bool:
    """Whether it is a NumPy array, not of a subclass."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def is_numpy_scalar(value: Any) -> bool:
    """Whether it is one of NumPy's own numbers."""
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    return generic is not None and is_a(value, generic) and type(value).__module__ == "numpy"


def attributes_of(value: Any) -> dict | None:
    """An object's own __dict__; None if it has none."""
    try:
        namespace = object.__getattribute__(value, "__dict__")
    except Exception:  # no __dict__, or a computed one
        return None
    return namespace if type(namespace) is dict else None


def are_same(value: Any, other: Any, depth: int = DEPTH) -> bool:
    """Whether two values are equal in all that can be read; anything else is not equal."""
    if value is other:
        return True
    kind = type(value)
    if kind is not type(other):
        return False
    if kind is Opaque:
        return are_same(value.value, other.value)
    if kind in (*SCALARS, Words) or is_numpy_scalar(value):
        return bool(value == other) or bool(value != value and other != other)
    if is_array(value):
        if value.dtype != other.dtype or value.shape != other.shape or value.dtype.hasobject:
            return False
        return value.tobytes() == other.tobytes()
    if not depth:
        return False
    if kind in (list, tuple, collections.deque):
        return len(value) == len(other) and all(map(are_same, value, other, [depth - 1] * len(value)))
    if kind in (set, frozenset):
        return all(type(element) in SCALARS for element in (*value, *other)) and value == other
    if kind in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return are_same(list(dict.items(value)), list(dict.items(other)), depth - 1)
    if kind is types.FunctionType:
        parts = "__code__", "__defaults__", "__kwdefaults__"
        return all(
            are_same(getattr(value, part), getattr(other, part), depth - 1) for part in parts[1:]
        ) and (value.__code__ == other.__code__ and value.__closure__ is other.__closure__)
    value_attributes, other_attributes = attributes_of(value), attributes_of(other)
    if (
        value_attributes is None
        or other_attributes is None
        or is_a(value, (type, types.ModuleType, dict, list, set))
    ):
        return False
    return are_same(value_attributes, other_attributes, depth - 1)
