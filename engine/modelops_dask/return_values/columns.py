"""Columns from buffers of numbers, and from other columns. Standard library only: see neutral.py."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

    from modelops_dask.return_values.neutral import Buffer

if __package__:
    from modelops_dask.return_values import neutral
else:  # by path in values.py, which loads that module first
    neutral = sys.modules["_modelops_neutral"]

_ZONE_SIGNS = dict.fromkeys(map(ord, "/_+-:"))  # in names such as Etc/GMT+1, and offsets
_AS_NUMBERS = "return numbers, with the unit in the name"
_MOST_DATES = 2**34  # years, months, weeks or days that NumPy converts to days without overflow
_FIXED = {  # units of NumPy -> that of from_counts(), a factor and a divisor
    "W": ("s", 604_800, 1),
    "D": ("s", 86_400, 1),
    "h": ("s", 3600, 1),
    "m": ("s", 60, 1),
    "s": ("s", 1, 1),
    "ms": ("ms", 1, 1),
    "us": ("us", 1, 1),
    "ns": ("ns", 1, 1),
    "ps": ("ns", 1, 10**3),
    "fs": ("ns", 1, 10**6),
    "as": ("ns", 1, 10**9),
}
_SCALES = {"s": (10**6, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}  # to microseconds


def from_numbers(kind: str, values: Buffer, mask: bytes | None = None) -> neutral.Column:
    """A column from little-endian values of their type's width; values under nulls do not matter."""
    width = neutral.width_of(kind)
    values = neutral.zero_nulls(values, mask, width)
    if kind in ("f4", "f8"):
        values = _equal_nans(kind, values)
    return neutral.Column(kind, memoryview(values).nbytes // width, values, mask=mask)


def _equal_nans(kind: str, values: Buffer) -> Buffer:
    """The same numbers with a single NaN without a sign, because its bits depend on the processor."""
    numpy = loaded_numpy()
    if numpy:
        array = numpy.frombuffer(values, "<" + kind)
        is_nan = array != array
        if not is_nan.any():
            return values
        array = array.copy()
        array[is_nan] = numpy.nan
        data: bytes = array.tobytes()
        return data
    code = "d" if kind == "f8" else "f"
    numbers = struct.unpack(f"<{memoryview(values).nbytes // neutral.width_of(kind)}{code}", values)
    total = sum(numbers)
    if total == total:  # one NaN would make it NaN
        return values
    nan = float("nan")
    return struct.pack(f"<{len(numbers)}{code}", *[nan if number != number else number for number in numbers])


def from_counts(kind: str, values: Buffer, unit: str, mask: bytes | None = None) -> neutral.Column:
    """A column of times from int64 counts of s, ms, us or ns; kind has {} in place of the unit.

    They are stored in microseconds, or in nanoseconds if one of them needs it, independent of the unit, which
    has changed between pandas versions. Raises Refused for times that microseconds cannot hold.
    """
    values = neutral.zero_nulls(values, mask, 8)
    factor, divisor = _SCALES[unit]
    numpy = loaded_numpy()
    n_rows = memoryview(values).nbytes // 8
    counts: Any = numpy.frombuffer(values, "<i8") if numpy else struct.unpack(f"<{n_rows}q", values)
    if divisor > 1:
        fits = not (counts % divisor).any() if numpy else not any(count % divisor for count in counts)
        if not fits:
            return neutral.Column(kind.format("ns"), n_rows, values, mask=mask)
    elif factor > 1 and n_rows:
        low, high = (counts.min(), counts.max()) if numpy else (min(counts), max(counts))
        if not -(2**63) <= int(low) * factor <= int(high) * factor < 2**63:
            raise neutral.Refused(
                "has times that do not fit into microseconds, which reach to the year 294247"
            )
    if (factor, divisor) != (1, 1):
        if numpy:
            values = (counts // divisor * factor).tobytes()
        else:
            values = struct.pack(f"<{n_rows}q", *[count // divisor * factor for count in counts])
    return neutral.Column(kind.format("us"), n_rows, values, mask=mask)


def loaded_numpy() -> Any:
    """NumPy, if the model has imported it, because it is faster. It is never imported here."""
    numpy = sys.modules.get("numpy")
    return numpy if hasattr(numpy, "frombuffer") else None


def null_nans(column: neutral.Column) -> neutral.Column:
    """A column of floats with null for NaN."""
    if column.kind not in ("f4", "f8"):
        return column
    code = "d" if column.kind == "f8" else "f"
    numbers = struct.unpack(f"<{column.n_rows}{code}", column.values)
    valid = bytes([number == number for number in numbers])
    if column.mask is not None:
        valid = bytes(map(int.__and__, valid, column.mask))
    return from_numbers(column.kind, column.values, valid)


def join(pieces: Sequence[neutral.Column]) -> neutral.Column:
    """Join one or more columns of the same type; times may have several units. Raises Refused."""
    if len(pieces) == 1:
        return pieces[0]
    pieces = _with_one_unit(pieces)
    first = pieces[0]
    mask = None
    if any(piece.mask is not None for piece in pieces):
        mask = b"".join([b"\1" * piece.n_rows if piece.mask is None else piece.mask for piece in pieces])
    return neutral.Column(
        first.kind,
        sum([piece.n_rows for piece in pieces]),
        b"".join([piece.values for piece in pieces]),
        mask=mask,
        lengths=[length for piece in pieces for length in piece.lengths],
        items=None if first.items is None else join([piece.items for piece in pieces if piece.items]),
    )


def _with_one_unit(pieces: Sequence[neutral.Column]) -> Sequence[neutral.Column]:
    """Convert times to their finest unit, which depends on their values; other pieces are unchanged."""
    kinds = sorted({piece.kind for piece in pieces if neutral.width_of(piece.kind)})
    if len(kinds) < 2:
        return pieces
    finest = next((kind for kind in kinds if "[ns" in kind), kinds[-1])  # a date comes before the others
    return [_convert_times(piece, finest) for piece in pieces]


def _convert_times(column: neutral.Column, kind: str) -> neutral.Column:
    """The same moments or durations in a finer unit. Raises Refused if its range is too small."""
    if column.kind == kind:
        return column
    is_date = column.kind == "date"
    factor = (86_400 * 10**6 if is_date else 1) * (1000 if "[ns" in kind else 1)
    counts = struct.unpack(f"<{column.n_rows}{'i' if is_date else 'q'}", column.values)
    try:
        values = struct.pack(f"<{column.n_rows}q", *[count * factor for count in counts])
    except struct.error:
        raise neutral.Refused(
            "has times that need nanoseconds, which cover the years 1677 to 2262, and others outside these "
            "years: round them to microseconds"
        ) from None
    return neutral.Column(kind, column.n_rows, values, mask=column.mask)


def take(column: neutral.Column, rows: Sequence[int], mask: bytes | None = None) -> neutral.Column:
    """The values in some rows of a column; null if the mask is 0, whatever the row is. Raises Refused."""
    kind, width = column.kind, neutral.width_of(column.kind)
    if kind == "list":
        raise neutral.Refused("has lists as categories")
    if kind == "null":
        return neutral.Column("null", len(rows))
    items = _split(column)
    valid = [True] * len(items) if column.mask is None else [flag == 1 for flag in column.mask]
    items.append(bytes(width))  # of nulls
    valid.append(False)
    if mask is not None:
        rows = [row if flag else -1 for row, flag in zip(rows, mask)]
    picked = [items[row] for row in rows]
    data, flags = b"".join(picked), bytes([valid[row] for row in rows])
    if "[ns" in kind:  # the selected values may not need them
        return from_counts(kind.replace("[ns", "[{}"), data, "ns", flags)
    return neutral.Column(
        kind, len(rows), data, mask=flags, lengths=[] if width else [len(item) for item in picked]
    )


def _split(column: neutral.Column) -> list[bytes]:
    data, width = bytes(column.values), neutral.width_of(column.kind)
    lengths = [width] * column.n_rows if width else column.lengths
    items, start = [], 0
    for length in lengths:
        items.append(data[start : start + length])
        start += length
    return items


def from_numpy_times(array: Any) -> neutral.Column:
    """A column of an array of datetime64 or timedelta64; NaT is null, and whole days or longer units are
    dates.
    """
    numpy = sys.modules["numpy"]
    unit, multiple = numpy.datetime_data(array.dtype)
    counts = array.astype(array.dtype.newbyteorder("<")).view("<i8")
    valid = counts != -(2**63)  # NaT
    counts = numpy.where(valid, counts, 0)
    largest = max(abs(int(counts.min())), abs(int(counts.max()))) if len(counts) else 0
    if array.dtype.kind == "M" and unit in ("Y", "M", "W", "D"):
        days = array.astype("<M8[D]").view("<i8")[valid] if largest * multiple < _MOST_DATES else None
        if days is None or not ((days >= -(2**31)) & (days < 2**31)).all():
            raise neutral.Refused("has dates that do not fit into 32 bits: return text, or years as numbers")
        counts[valid] = days
        return from_numbers("date", counts.astype("<i4").tobytes(), valid.tobytes())
    has_no_length = unit in ("Y", "M", "generic") and valid.any()
    target, factor, divisor = _FIXED.get(unit, ("us", 1, 1))
    if has_no_length or (divisor > 1 and (counts % divisor * (multiple % divisor) % divisor).any()):
        raise neutral.Refused(f"has {array.dtype}{' without a unit' * (unit == 'generic')}: {_AS_NUMBERS}")
    if largest * multiple * factor >= 2**63:
        raise neutral.Refused(f"has {array.dtype} that does not fit into 64 bits: {_AS_NUMBERS}")
    counts = (counts * (multiple * factor)).astype("<i8") // divisor
    kind = "duration[{}]" if array.dtype.kind == "m" else "timestamp[{}]"
    return from_counts(kind, counts.tobytes(), target, valid.tobytes())


def zone_name(zone: Any) -> str:
    """The name of a time zone, otherwise its offset, such as +02:00, otherwise UTC, in which moments are the
    same.
    """
    name = zone if isinstance(zone, str) else getattr(zone, "key", None) or getattr(zone, "zone", None)
    if not name:
        return _offset_name(zone)
    is_plain = name.isascii() and name.translate(_ZONE_SIGNS).isalnum()
    return name if is_plain else "UTC"


def _offset_name(zone: Any) -> str:
    """The offset of a zone that has only one, such as Python's timezone; UTC for 0 and for other zones."""
    offset = zone.utcoffset(None) if hasattr(zone, "utcoffset") else None
    minutes, seconds = divmod(0 if offset is None else offset.days * 86_400 + offset.seconds, 60)
    if seconds or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
