"""The part of verify.py that reads tables in the neutral form, and checks that they are canonical.

    bytes of an output -> NeutralTable: columns as Arrow arrays; or NotCanonical, with the problem

Equal tables must be equal bytes, or tasks that return the same would count as different. So everything that
the form fixes is checked: padding, values under nulls, offsets, the unit of times, NaNs. It shares no code
with the modules that write and read the form: docs/store-format.md describes it.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

START = b"\x89table1\n"
NUMBERS = {
    **{f"i{size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{"f4": "<f4", "f8": "<f8", "date": "<i4"},
}
NANS = {"f4": 0x7FC00000, "f8": 0x7FF8000000000000}
DAY = {"us": 86_400 * 10**6, "ns": 86_400 * 10**9}
DEEPEST = 8


class NotCanonical(Exception):
    """The problem of a table."""


def is_neutral(data: bytes) -> bool:
    """Whether an output claims to be in the neutral form."""
    return data.startswith(START)


def read_neutral(data: bytes) -> pa.Table:
    """The table of an output in the neutral form. Raises NotCanonical."""
    head_size = int.from_bytes(data[8:12], "little")
    head = data[12 : 12 + head_size]
    try:
        document = json.loads(head)
        n_rows, columns = document[0], document[1:]
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, LookupError, TypeError, RecursionError):
        raise NotCanonical("its head is not JSON") from None
    if len(head) < head_size or text != head or not isinstance(n_rows, int) or n_rows < 0:
        raise NotCanonical("its head is not written as it should be")
    if isinstance(n_rows, bool) or (n_rows and not columns):
        raise NotCanonical("its head has rows and no columns")
    cursor = _Cursor(data, 12 + head_size)
    cursor.skip_padding()
    arrays: dict[str, pa.Array] = {}
    for column in columns:
        if (
            not isinstance(column, list)
            or not column
            or not isinstance(column[0], str)
            or column[0] in arrays
        ):
            raise NotCanonical("its head has a column without a name, or a name twice")
        try:
            arrays[column[0]] = _read(cursor, column[1:], n_rows, 0)
        except NotCanonical as problem:
            raise NotCanonical(f"its column {column[0]!r} {problem}") from None
    if cursor.position != len(data):
        raise NotCanonical(f"it has {len(data) - cursor.position:,} bytes too many")
    return pa.Table.from_arrays(list(arrays.values()), list(arrays))


@dataclass
class _Cursor:
    data: bytes
    position: int

    def take(self, size: int) -> bytes:
        """The next buffer, with its padding checked."""
        buffer = self.data[self.position : self.position + size]
        if len(buffer) < size:
            raise NotCanonical("is cut off")
        self.position += size
        self.skip_padding()
        return buffer

    def skip_padding(self) -> None:
        stop = (self.position + 7) // 8 * 8
        padding = self.data[self.position : stop]
        if len(padding) < stop - self.position or padding.strip(b"\0"):
            raise NotCanonical("is not padded with zeros")
        self.position = stop


def _read(cursor: _Cursor, kind_and_flag: list[Any], n_rows: int, depth: int) -> pa.Array:
    if len(kind_and_flag) not in (1, 2) or str(kind_and_flag[1:]) not in ("[]", "[1]"):
        raise NotCanonical("has no type")
    if n_rows > 8 * len(cursor.data):
        raise NotCanonical("is cut off")
    kind, has_nulls = kind_and_flag[0], len(kind_and_flag) == 2
    if kind == "null":
        if has_nulls or cursor.take((n_rows + 7) // 8).strip(b"\0"):
            raise NotCanonical("is of the type null and has values")
        return pa.array([None] * n_rows, pa.null())
    valid = np.ones(n_rows, bool)
    if has_nulls:
        valid = _read_bits(cursor, n_rows)
        if valid.all():
            raise NotCanonical("has no null, although it is marked as having some")
    if isinstance(kind, list):
        return _read_lists(cursor, kind, valid, depth)
    if kind == "bool":
        values = _read_bits(cursor, n_rows)
        _check_zero(values[~valid])
        return pa.array(values, mask=~valid)
    if kind in ("text", "bytes"):
        return _read_texts(cursor, kind, valid)
    if kind in NUMBERS:
        return _read_numbers(cursor, kind, valid)
    if isinstance(kind, str) and kind.startswith("decimal("):
        return _read_decimals(cursor, kind, valid)
    return _read_times(cursor, str(kind), valid)


def _read_bits(cursor: _Cursor, n_rows: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(cursor.take((n_rows + 7) // 8), np.uint8), bitorder="little")
    if bits[n_rows:].any():
        raise NotCanonical("has bits after its last row")
    return bits[:n_rows].astype(bool)


def _check_zero(values: np.ndarray) -> None:
    if values.any():
        raise NotCanonical("has values where it is null")


def _read_numbers(cursor: _Cursor, kind: str, valid: np.ndarray) -> pa.Array:
    dtype = np.dtype(NUMBERS[kind])
    values = np.frombuffer(cursor.take(len(valid) * dtype.itemsize), dtype)
    bits = values.view(f"<u{dtype.itemsize}")
    _check_zero(bits[~valid])
    if kind in NANS and (bits[np.isnan(values)] != NANS[kind]).any():
        raise NotCanonical("has a NaN with other bits")
    array = pa.array(values, mask=~valid)
    return array.cast(pa.date32()) if kind == "date" else array


def _read_times(cursor: _Cursor, kind: str, valid: np.ndarray) -> pa.Array:
    match = re.fullmatch(r"(timestamp|time|duration)\[(us|ns)(,[A-Za-z0-9_/+:-]+)?\]", kind)
    if not match or (match[3] and match[1] != "timestamp"):
        raise NotCanonical(f"has the unknown type {kind!r}")
    values = np.frombuffer(cursor.take(len(valid) * 8), "<i8")
    _check_zero(values[~valid])
    if match[2] == "ns" and not (values % 1000).any():
        raise NotCanonical("is in nanoseconds, although no value needs them")
    if match[1] == "time" and ((values < 0) | (values >= DAY[match[2]])).any():
        raise NotCanonical("has a time of day outside the day")
    array = pa.array(values, mask=~valid)
    if match[1] == "timestamp":
        return array.cast(pa.timestamp(match[2], match[3][1:] if match[3] else None))
    return array.cast(pa.time64(match[2]) if match[1] == "time" else pa.duration(match[2]))


def _read_decimals(cursor: _Cursor, kind: str, valid: np.ndarray) -> pa.Array:
    match = re.fullmatch(r"decimal\(([1-9]\d?),(\d\d?)\)", kind, re.ASCII)
    if not match or int(match[1]) > 38 or int(match[2]) > int(match[1]):
        raise NotCanonical(f"has the unknown type {kind!r}")
    data = cursor.take(16 * len(valid))
    units = [int.from_bytes(data[at : at + 16], "little", signed=True) for at in range(0, len(data), 16)]
    if any(unit and not is_valid for unit, is_valid in zip(units, valid, strict=True)):
        raise NotCanonical("has values where it is null")
    if any(abs(unit) >= 10 ** int(match[1]) for unit in units):
        raise NotCanonical("has more digits than its type")
    arrow_type = pa.decimal128(int(match[1]), int(match[2]))
    scalars = [
        f"{unit}e-{match[2]}" if is_valid else None for unit, is_valid in zip(units, valid, strict=True)
    ]
    return pa.array(scalars, pa.string()).cast(arrow_type)


def _read_offsets(cursor: _Cursor, valid: np.ndarray) -> np.ndarray:
    offsets = np.frombuffer(cursor.take(4 * (len(valid) + 1)), "<i4").astype(np.int64)
    lengths = np.diff(offsets)
    if offsets[0] != 0 or (lengths < 0).any():
        raise NotCanonical("has offsets that do not begin at 0 and rise")
    _check_zero(lengths[~valid])
    return offsets


def _read_texts(cursor: _Cursor, kind: str, valid: np.ndarray) -> pa.Array:
    offsets = _read_offsets(cursor, valid)
    data = cursor.take(int(offsets[-1]))
    bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), valid.tolist(), strict=True)
    pieces = [data[start:stop] if is_valid else None for start, stop, is_valid in bounds]
    if kind == "bytes":
        return pa.array(pieces, pa.binary())
    try:
        return pa.array([None if piece is None else piece.decode() for piece in pieces], pa.string())
    except UnicodeDecodeError:
        raise NotCanonical("has text that is not UTF-8") from None


def _read_lists(cursor: _Cursor, kind: list[Any], valid: np.ndarray, depth: int) -> pa.Array:
    if depth == DEEPEST:
        raise NotCanonical("has lists that are nested too deeply")
    offsets = _read_offsets(cursor, valid)
    items = _read(cursor, kind, int(offsets[-1]), depth + 1)
    starts = [start if is_valid else None for start, is_valid in zip(offsets, valid, strict=False)]
    return pa.ListArray.from_arrays(pa.array([*starts, offsets[-1]], pa.int32()), items)
