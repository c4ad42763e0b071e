"""Tables in the neutral form, in which rows hold tables returned by models: bytes -> an Arrow table.

    MAGIC | length of the head | head: [rows, [name, type], [name, type, 1], ...] | buffers, in that order

Buffers have Arrow's layout, so reading copies nothing. docs/store-format.md describes the form.
return_values/neutral.py writes it in the model's process, which is not trusted: every length is checked here
before it is used, and Arrow checks offsets and text.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

MAGIC = b"\x89table1\n"
HEAD_AT = len(MAGIC) + 4
MOST_NESTED = 8  # depth of lists in lists
_TYPES: dict[str, tuple[pa.DataType, int]] = {  # bits of a value
    "bool": (pa.bool_(), 1),
    "i1": (pa.int8(), 8),
    "i2": (pa.int16(), 16),
    "i4": (pa.int32(), 32),
    "i8": (pa.int64(), 64),
    "u1": (pa.uint8(), 8),
    "u2": (pa.uint16(), 16),
    "u4": (pa.uint32(), 32),
    "u8": (pa.uint64(), 64),
    "f4": (pa.float32(), 32),
    "f8": (pa.float64(), 64),
    "date": (pa.date32(), 32),
}
_TIMES: dict[str, Callable[..., pa.DataType]] = {
    "timestamp": pa.timestamp,
    "time": pa.time64,
    "duration": pa.duration,
}
_TIME = re.compile(r"(timestamp|time|duration)\[(us|ns)(?:,([\w/+:-]+))?\]", re.ASCII)
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)", re.ASCII)


class DamagedTable(ValueError):
    """Bytes that begin like the neutral form but are invalid; str() gives the position."""


def read_table(data: bytes) -> pa.Table:
    """The table in bytes of the neutral form, which must stay in memory with it. Raises DamagedTable."""
    try:
        n_rows, fields, buffers_at = _read_head(data)
        buffers = _Buffers(data, buffers_at)
        arrays = [buffers.read(kind, has_nulls, n_rows) for _, kind, has_nulls in fields]
        table = pa.Table.from_arrays(arrays, [name for name, _, _ in fields])
        table.validate(full=True)  # offsets, and text
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, pa.ArrowException) as error:
        raise DamagedTable(str(error) or type(error).__name__) from None
    if buffers.position != len(data):
        raise DamagedTable(f"ends at byte {buffers.position:,} of {len(data):,}")
    return table


def _read_head(data: bytes) -> tuple[int, list[tuple[str, Any, bool]], int]:
    """The number of rows; name, type and nullability of each column; the offset of the buffers."""
    size = int.from_bytes(data[len(MAGIC) : HEAD_AT], "little")
    stop = HEAD_AT + size
    if not data.startswith(MAGIC) or stop > len(data):
        raise ValueError("the head is cut off")
    n_rows, *entries = json.loads(data[HEAD_AT:stop].decode())
    if type(n_rows) is not int or n_rows < 0:
        raise ValueError("the head has no number of rows")
    fields = []
    for entry in entries:
        name, kind, *flags = entry
        if type(name) is not str or flags not in ([], [1]):
            raise ValueError("the head has a column without a name")
        fields.append((name, kind, bool(flags)))
    if len({name for name, _, _ in fields}) < len(fields) or (n_rows and not fields):
        raise ValueError("the head has a name twice, or rows without columns")
    return n_rows, fields, stop + -stop % 8


class _Buffers:
    """The buffers of a table, read one after another."""

    def __init__(self, data: bytes, position: int) -> None:
        self._buffer, self.position = pa.py_buffer(data), position

    def read(self, kind: Any, has_nulls: bool, n_rows: int, depth: int = 0) -> pa.Array:
        """The array of a column."""
        validity = self._take((n_rows + 7) // 8) if has_nulls or kind == "null" else None
        if kind == "null":
            return pa.nulls(n_rows)
        if isinstance(kind, list):
            if depth == MOST_NESTED:
                raise ValueError("lists are nested too deeply")
            item_kind, *flags = kind
            if flags not in ([], [1]):
                raise ValueError("a list has no type")
            offsets = self._take(4 * (n_rows + 1))
            items = self.read(item_kind, bool(flags), _last(offsets), depth + 1)
            return pa.Array.from_buffers(pa.list_(items.type), n_rows, [validity, offsets], children=[items])
        if kind in ("text", "bytes"):
            offsets = self._take(4 * (n_rows + 1))
            arrow_type = pa.string() if kind == "text" else pa.binary()
            return pa.Array.from_buffers(arrow_type, n_rows, [validity, offsets, self._take(_last(offsets))])
        arrow_type, bits = _TYPES[kind] if kind in _TYPES else _parse_type(kind)
        return pa.Array.from_buffers(arrow_type, n_rows, [validity, self._take((n_rows * bits + 7) // 8)])

    def _take(self, size: int) -> pa.Buffer:
        if not 0 <= size <= self._buffer.size - self.position:
            raise ValueError("a buffer is cut off")
        buffer = self._buffer.slice(self.position, size)
        self.position = min(self.position + size + -size % 8, self._buffer.size)
        return buffer


def _last(offsets: pa.Buffer) -> int:
    return int.from_bytes(memoryview(offsets)[-4:], "little", signed=True)


def _parse_type(kind: str) -> tuple[pa.DataType, int]:
    if match := _TIME.fullmatch(kind):
        name, unit, zone = match.groups()
        return _TIMES[name](unit, zone) if zone else _TIMES[name](unit), 64
    if match := _DECIMAL.fullmatch(kind):
        return pa.decimal128(int(match[1]), int(match[2])), 128
    raise ValueError(f"there is no type {kind!r}")
