"""Columns from Python values: numbers, text, dates and lists of them, with scalars of any library.

    [1, None, 2.5] -> column_of() -> Column

A column has one type, determined by the types of its values: integers among floats become floats if that
preserves all of them. None, and pandas' equivalents, are null; a NaN stays a NaN. Standard library only: see
neutral.py.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

if __package__:
    from modelops_dask.return_values import columns, neutral, refusals
else:  # by path in values.py, which loads those modules first
    neutral, columns = sys.modules["_modelops_neutral"], sys.modules["_modelops_columns"]
    refusals = sys.modules["_modelops_refusals"]


class Unsigned(int):
    """An integer of an unsigned 64-bit type, such as numpy.uint64; its column has the type u8."""


NOT_SCALAR = object()
_SCALARS = frozenset((bool, int, float, str, complex, type(None)))
_PLAIN = _SCALARS | {bytes, list}
_NO_SCALARS = frozenset((bytes, bytearray, memoryview, list, tuple, dict, set, frozenset))
_CODES = {bool: "?7x", int: "q", float: "d"}  # of struct
_TIMES = ("datetime", "date", "time", "timedelta")  # in the module datetime; a datetime is also a date
_CUT_OFF = ("time64[ns]", "date64[ms]")  # types of pyarrow whose as_py() loses nanoseconds, or times
_MISSING = ("NAType", "NaTType", "MaskedConstant")
_NAMES = {"list": "lists", "str": "text", "int": "integers", "float": "floats", "bool": "booleans"}


def column_of(values: Sequence[object], depth: int = 0) -> neutral.Column:
    """A column of scalars, bytes or lists; depth counts the lists around them. Raises Refused."""
    kinds = set(map(type, values))
    names = {kind.__name__ for kind in kinds}
    if not kinds <= _PLAIN:
        values = [value if type(value) in _PLAIN else plain(value) for value in values]
        names = set(map(_kind_of, values))
    mask = None
    if "NoneType" in names:
        names.discard("NoneType")
        mask = bytes([value is not None for value in values])
    if not names:
        return neutral.Column("null", len(values))
    if "Unsigned" in names and len(names) > 1:
        names = names - {"Unsigned"} | {"int"}
    if names == {"int", "float"}:
        values, names = _as_floats(values), {"float"}
    if len(names) > 1:
        if "float" in names and all(value != value for value in values if type(value) is float):
            raise neutral.Refused("has a NaN, which is a float, among other values: return None in its place")
        mixed = " and ".join(sorted([_NAMES.get(name, name) for name in names]))
        raise neutral.Refused(f"mixes {mixed}: write all of its values as one type, such as text")
    name = names.pop()
    if name == "list":
        return _from_lists(values, mask, depth)
    if name not in _ENCODERS:
        raise refusals.refuse(next(value for value in values if value is not None))
    return _ENCODERS[name](values, mask)


def is_scalar(value: object) -> bool:
    """Whether a value is a number, text, a date, a time or a similar value, or None. Bytes are not."""
    if type(value) in _SCALARS:
        return True
    if type(value) in _NO_SCALARS or dimensions_of(value) > 0:
        return False
    try:
        return scalar_of(value) is not NOT_SCALAR
    except neutral.Refused:
        return True  # of a kind that cannot be stored


def code_of(value: Any) -> str:
    """How the struct module packs a number in 8 bytes, if its type determines that; otherwise ""."""
    kind = type(value)
    if kind in _CODES:
        return _CODES[kind]
    if kind.__module__ != "numpy" or not is_instance(value, "numpy", "generic"):
        return ""
    letter, width = value.dtype.kind, value.dtype.itemsize
    if letter == "u" and width == 8:
        return "Q"
    return {"b": "?7x", "i": "q", "u": "q", "f": "d"}.get(letter, "") if width <= 8 else ""


def dimensions_of(value: object) -> int:
    """The number of dimensions of an array of any library; -1 for other values."""
    kind: Any = type(value)
    if hasattr(kind, "ndim") and (hasattr(kind, "tolist") or hasattr(kind, "__array__")):
        n_dimensions = value.ndim  # type: ignore[attr-defined]  # what the type has, its instance has
        return n_dimensions if isinstance(n_dimensions, int) else -1
    return -1


def plain(value: object) -> object:
    """The value of a cell as one of few types: a scalar, bytes or a list. Raises Refused."""
    scalar = scalar_of(value)
    if scalar is not NOT_SCALAR:
        return scalar
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple, range)) and not hasattr(value, "_fields"):
        return list(value)
    if dimensions_of(value) == 1 and hasattr(value, "tolist") and "pandas" not in type(value).__module__:
        return items_of(value)
    raise refusals.refuse(value)


def items_of(array: Any) -> list[object]:
    """The items of an array with one dimension, with their own types. Raises Refused.

    tolist() makes integers of times in nanoseconds, and does not tell those without a sign from others.
    """
    if unit_of(array):
        raise refusals.refuse_unit(array, unit_of(array))
    if dimensions_of(array) != 1:
        raise neutral.Refused("mixes arrays with one dimension and others: return them as entries of a dict")
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "names", None) is not None:
        raise neutral.Refused("is a structured array in a cell: make each of its fields a cell")
    if getattr(dtype, "kind", "") in ("m", "M") or _is_unsigned(dtype):
        return list(array)
    items: list[object] = array.tolist()
    return items


def _is_unsigned(dtype: Any) -> bool:
    """Whether a type, of NumPy or another library, is an unsigned 64-bit integer."""
    kind, width = getattr(dtype, "kind", ""), getattr(dtype, "itemsize", 0)
    return (kind == "u" and width == 8) or str(dtype) in ("uint64", "torch.uint64")


def scalar_of(value: Any) -> object:
    """A scalar as one of Python's types or NumPy's times; NOT_SCALAR for anything else. Raises Refused."""
    kind = type(value)
    if kind in _SCALARS or kind is Unsigned:
        return value
    package = kind.__module__.partition(".")[0]
    if is_instance(value, "enum", "Enum"):
        return scalar_of(value.value)
    if kind.__name__ in _MISSING and package in ("pandas", "numpy"):
        return None
    if is_instance(value, "numpy", "generic"):
        return _scalar_of_numpy(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, complex):
        return complex(value)
    if any(is_instance(value, "datetime", name) for name in _TIMES) or is_instance(
        value, "decimal", "Decimal"
    ):
        return value
    if package == "pyarrow" and hasattr(kind, "as_py"):
        return _scalar_of_arrow(value)
    if is_instance(value, "uuid", "UUID") or (
        package == "pandas" and kind.__name__ in ("Period", "Interval")
    ):
        return str(value)
    if dimensions_of(value) == 0 and not unit_of(value):
        return _scalar_of_array(value)
    return NOT_SCALAR


def named(name: str, make: Callable[[Any], neutral.Column], value: object) -> neutral.Column:
    """The column made from a value; a refusal begins with its name."""
    try:
        return make(value)
    except neutral.Refused as refusal:
        raise neutral.Refused(f"column {name!r} {refusal}") from None


def name_of(label: object) -> str:
    """A name as text; the parts of a tuple, a pandas name, are joined by _, without empty ones."""
    if type(label) is str:
        return label
    if isinstance(label, tuple):
        return "_".join([name for name in map(name_of, label) if name])
    scalar = scalar_of(label)
    return str(label if scalar is NOT_SCALAR else scalar)


def is_instance(value: object, module: str, name: str) -> bool:
    """isinstance() for a class whose module the model may not have imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _scalar_of_arrow(value: Any) -> object:
    """The value of a pyarrow scalar. Raises Refused for a time that as_py() truncates or cannot return."""
    try:
        item = value.as_py()
        is_whole = item is None or str(value.type) not in _CUT_OFF
        is_exact = is_whole or sys.modules["pyarrow"].scalar(item, value.type).equals(value)
    except (ValueError, OverflowError):
        is_exact = False
    if not is_exact:
        raise neutral.Refused(
            f"is {refusals.describe_type(value)} that Python's own times cannot hold: return it as an array"
        )
    return Unsigned(item) if type(item) is int and _is_unsigned(value.type) else scalar_of(item)


def _scalar_of_array(value: Any) -> object:
    """The scalar in an array without dimensions, of any library. Raises Refused."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "names", None) is not None:
        return NOT_SCALAR
    if is_instance(value, "numpy.ma", "MaskedArray") and value.mask:
        return None
    if getattr(dtype, "kind", "") in ("m", "M"):
        return scalar_of(sys.modules["numpy"].asarray(value)[()])  # item() makes integers of nanoseconds
    try:
        item = value.item() if hasattr(type(value), "item") else sys.modules["numpy"].asarray(value).item()
    except NotImplementedError:  # a jax key
        raise refusals.refuse(value) from None
    return Unsigned(item) if type(item) is int and _is_unsigned(dtype) else scalar_of(item)


def _scalar_of_numpy(value: Any) -> object:
    kind = value.dtype.kind
    if kind in "mM":
        return value if value == value else None  # NaT
    if kind == "f" and value.dtype.itemsize > 8:
        raise refusals.refuse(value)
    if kind in "biuf":
        return Unsigned(value) if kind == "u" and value.dtype.itemsize == 8 else value.item()
    if kind == "c":
        return complex(value)
    if kind == "U":
        return str(value)
    return (
        float(value)
        if kind == "V" and not is_instance(value, "numpy", "void") and hasattr(value, "__float__")
        else NOT_SCALAR
    )


def _kind_of(value: object) -> str:
    kind = type(value)
    if kind not in _PLAIN:
        for name in _TIMES:
            if is_instance(value, "datetime", name):
                return name
    return kind.__name__


def _as_floats(values: Sequence[Any]) -> list[float | None]:
    floats = [None if value is None else float(value) for value in values]
    for value, number in zip(values, floats):
        if number is not None and number != value and value == value:
            raise neutral.Refused(
                f"mixes floats with the integer {value}, which a float cannot represent exactly"
            )
    return floats


# Encoders: values of one type and None -> neutral.Column


def _filled(values: Sequence[Any], mask: bytes | None, filling: object) -> Sequence[Any]:
    return values if mask is None else [filling if value is None else value for value in values]


def _from_booleans(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    return neutral.Column("bool", len(values), bytes(_filled(values, mask, False)), mask=mask)


def _from_integers(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    integers = _filled(values, mask, 0)
    for kind, code in (("i8", "q"), ("u8", "Q")):
        try:
            return neutral.Column(
                kind, len(values), struct.pack(f"<{len(values)}{code}", *integers), mask=mask
            )
        except struct.error:
            continue
    largest = max(integers, key=abs)
    advice = "return text, str(value), or a float"
    digits = f"{largest:,}" if abs(largest) < 10**30 else f"of {largest.bit_length()} bits"
    raise neutral.Refused(
        f"has the integer {digits}, which does not fit into 64 bits with the others: {advice}"
    )


def _from_unsigned(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    data = struct.pack(f"<{len(values)}Q", *_filled(values, mask, 0))
    return neutral.Column("u8", len(values), data, mask=mask)


def _from_floats(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    data = struct.pack(f"<{len(values)}d", *_filled(values, mask, 0.0))
    return columns.from_numbers("f8", data, mask)


def _from_texts(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    texts = _filled(values, mask, "")
    joined = "".join(texts)
    try:
        data = joined.encode()
    except UnicodeEncodeError:
        raise neutral.Refused(
            "has text with a lone surrogate, which cannot be stored: return text.encode()"
        ) from None
    is_ascii = len(data) == len(joined)
    lengths = list(map(len, texts)) if is_ascii else [len(text.encode()) for text in texts]
    return neutral.Column("text", len(values), data, mask=mask, lengths=lengths)


def _from_bytes(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    pieces = _filled(values, mask, b"")
    return neutral.Column("bytes", len(values), b"".join(pieces), mask=mask, lengths=list(map(len, pieces)))


def _from_lists(values: Sequence[Any], mask: bytes | None, depth: int) -> neutral.Column:
    if depth == neutral.MOST_NESTED:
        raise neutral.Refused(
            f"holds lists in lists, more than {neutral.MOST_NESTED} deep, or a list that holds itself"
        )
    lists = _filled(values, mask, [])
    try:
        items = column_of([item for items in lists for item in items], depth + 1)
    except neutral.Refused as refusal:
        if depth:
            raise
        raise neutral.Refused(f"has lists that cannot be stored: such a list {refusal}") from None
    return neutral.Column("list", len(values), mask=mask, lengths=list(map(len, lists)), items=items)


def _from_dates(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    days = [0 if value is None else value.toordinal() - 719_163 for value in values]  # since 1970-01-01
    return neutral.Column("date", len(values), struct.pack(f"<{len(days)}i", *days), mask=mask)


def _from_times(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    if any(value is not None and value.tzinfo is not None for value in values):
        raise neutral.Refused(
            "has times of day with a time zone: return whole dates and times, or leave the zone out"
        )
    seconds = [
        0 if value is None else (value.hour * 60 + value.minute) * 60 + value.second for value in values
    ]
    counts = [s * 10**6 + (0 if v is None else v.microsecond) for s, v in zip(seconds, values)]
    return columns.from_counts("time[{}]", _pack(counts), "us", mask)


def _from_timestamps(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    from datetime import datetime, timezone

    stamps = [value for value in values if value is not None]
    zones = {None if stamp.tzinfo is None else _zone(stamp) for stamp in stamps}
    if None in zones and len(zones) > 1:
        raise neutral.Refused(
            "mixes times with and without a time zone: use a time zone for all of them or for none"
        )
    zone = zones.pop() if len(zones) == 1 else "UTC"
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc if zone else None)  # noqa: UP017
    deltas = [None if value is None else _as_python(value) - epoch for value in values]
    kind = f"timestamp[{{}},{zone}]" if zone else "timestamp[{}]"
    return _from_deltas(kind, deltas, [getattr(value, "nanosecond", 0) for value in values], mask)


def _as_python(stamp: Any) -> Any:
    """A datetime without nanoseconds, which pandas' datetimes have."""
    if not hasattr(stamp, "nanosecond"):
        return stamp
    return type(stamp).to_pydatetime(stamp, warn=False)


def _zone(stamp: Any) -> str:
    """The name of a datetime's time zone."""
    return columns.zone_name(stamp.tzinfo)


def _from_durations(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    return _from_deltas("duration[{}]", values, [getattr(value, "nanoseconds", 0) for value in values], mask)


def _from_deltas(
    kind: str, deltas: Sequence[Any], nanoseconds: list[int], mask: bytes | None
) -> neutral.Column:
    counts = [0 if d is None else (d.days * 86_400 + d.seconds) * 10**6 + d.microseconds for d in deltas]
    if not any(nanoseconds):
        return columns.from_counts(kind, _pack(counts), "us", mask)
    counts = [count * 1000 + extra for count, extra in zip(counts, nanoseconds)]
    return columns.from_counts(kind, _pack(counts), "ns", mask)


def _pack(counts: list[int]) -> bytes:
    try:
        return struct.pack(f"<{len(counts)}q", *counts)
    except struct.error:
        raise neutral.Refused("has times that do not fit into 64 bits") from None


def _from_decimals(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    numbers = [value.as_tuple() for value in values if value is not None]
    if not all(isinstance(number.exponent, int) for number in numbers):
        raise neutral.Refused("has a Decimal that is not a number (NaN, Infinity): return None or floats")
    scale = max([0, *[-number.exponent for number in numbers]])
    units = [0 if value is None else int(value.scaleb(scale, _context())) for value in values]
    precision = max([scale, *[len(str(abs(unit))) for unit in units]])
    if precision > 38:
        raise neutral.Refused("has Decimals of more than 38 digits: return text, str(value), or floats")
    data = b"".join([unit.to_bytes(16, "little", signed=True) for unit in units])
    return neutral.Column(f"decimal({precision},{scale})", len(values), data, mask=mask)


def _context() -> Any:
    from decimal import Context

    return Context(prec=1000, Emax=999_999, Emin=-999_999)


def _from_numpy_times(values: Sequence[Any], mask: bytes | None) -> neutral.Column:
    numpy = sys.modules["numpy"]
    rows_by_type: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        if value is not None:
            rows_by_type.setdefault(value.dtype, []).append(row)
    if len(rows_by_type) == 1:
        (dtype,) = rows_by_type
        missing = numpy.array("NaT", dtype)[()]
        return columns.from_numpy_times(numpy.array(_filled(values, mask, missing), dtype))
    pieces = [
        columns.from_numpy_times(numpy.array([values[row] for row in rows], dtype))
        for dtype, rows in rows_by_type.items()
    ]
    filled_rows = [row for rows in rows_by_type.values() for row in rows]
    places = {row: place for place, row in enumerate(filled_rows)}
    return columns.take(columns.join(pieces), [places.get(row, -1) for row in range(len(values))])


_ENCODERS: dict[str, Callable[[Sequence[Any], Any], neutral.Column]] = {
    "bool": _from_booleans,
    "int": _from_integers,
    "Unsigned": _from_unsigned,
    "float": _from_floats,
    "str": _from_texts,
    "bytes": _from_bytes,
    "date": _from_dates,
    "datetime": _from_timestamps,
    "time": _from_times,
    "timedelta": _from_durations,
    "Decimal": _from_decimals,
    "datetime64": _from_numpy_times,
    "timedelta64": _from_numpy_times,
}


def unit_of(value: object) -> str:
    """The unit of a number or an array with a unit (astropy, pint), else ""."""
    for name in ("units", "unit"):
        if hasattr(type(value), name) and hasattr(type(value), "to"):
            return str(getattr(value, name)) or "1"
    return ""
