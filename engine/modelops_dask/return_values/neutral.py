"""Tables in the neutral form: what a runner makes of a model's tables of any library.

    columns -> encode() -> MAGIC | length of the head, 4 bytes | head, JSON | buffers

The form is canonical: tables with the same names, types and values are the same bytes. docs/store-format.md
describes it; store/neutral.py reads it, and store/verify_neutral.py checks it. This module uses only the
standard library and Python 3.9's language, because values.py loads it by path.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007  # Python 3.9 has no |

MAGIC = b"\x89table1\n"
LENGTH = struct.Struct("<I")
MOST_BYTES = 2**31 - 1  # of the text, the bytes or the items of lists in one column
MOST_NESTED = 8  # lists in lists
WIDTHS = {"i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8, "f4": 4, "f8": 8, "date": 4}
_DIGITS = bytes.maketrans(b"\0\1", b"01")
_ALL_BITS = bytes.maketrans(b"\1", b"\xff")
_BITS: list[bytes] = []  # of each byte: see unpack_bits


class Refused(Exception):
    """A value that cannot be stored; str() says what it is and what to return instead."""


class Column:
    """The values of a column, all of one type.

    Attributes:
        kind: A type's name, or "list".
        values: Little-endian with zeros under nulls for a fixed width; for "bool" a byte 0 or 1 for each row;
            for "text" and "bytes" all of them concatenated.
        mask: A byte for each row, 0 for null; None without nulls.
        lengths: For "text", "bytes" and "list", an int for each row.
        items: For "list", all of them in one Column.
    """

    __slots__ = ("items", "kind", "lengths", "mask", "n_rows", "values")

    def __init__(
        self,
        kind: str,
        n_rows: int,
        values: Buffer = b"",
        *,
        mask: bytes | None = None,
        lengths: Sequence[int] = (),
        items: Column | None = None,
    ) -> None:
        self.kind, self.n_rows, self.values, self.lengths, self.items = kind, n_rows, values, lengths, items
        self.mask = None if mask is None or 0 not in mask else mask


def width_of(kind: str) -> int:
    """Bytes of a value of a type of fixed width, 1 for a "bool" of a Column; 0 for other types."""
    if kind in WIDTHS:
        return WIDTHS[kind]
    if kind.startswith(("timestamp", "duration", "time[")):
        return 8
    return 16 if kind.startswith("decimal") else int(kind == "bool")


def encode(columns: Iterable[tuple[str, Column]]) -> bytes:
    """The bytes of a table. Raises Refused for a repeated name, and for unequal lengths."""
    columns = list(columns)
    names = [name for name, _ in columns]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise Refused(f"has two columns named {repeated!r}: rename one of them")
    n_rows = columns[0][1].n_rows if columns else 0
    buffers: list[Buffer] = []
    heads = [str(n_rows)]
    for name, column in columns:
        if column.n_rows != n_rows:
            raise _refuse_lengths(columns)
        try:
            heads.append(f"[{quote(name)},{_encode_column(column, buffers)}]")
        except Refused as refusal:
            raise Refused(f"column {name!r} {refusal}") from None
    return b"".join([begin(f"[{','.join(heads)}]".encode()), *buffers])


def _refuse_lengths(columns: list[tuple[str, Column]]) -> Refused:
    lengths = ", ".join([f"{name} {column.n_rows:,}" for name, column in columns[:8]])
    empty = next((f"; {name!r} is empty" for name, column in columns if not column.n_rows), "")
    return Refused(
        f"has columns of unequal length ({lengths}{empty}): return each table as a separate entry, such "
        "as {'curve': {'day': days, 'cases': cases}, 'deaths': {'day': days_of_deaths}}"
    )


def begin(head: bytes) -> bytes:
    """The part of a table before the buffers."""
    start = MAGIC + LENGTH.pack(len(head)) + head
    return start + bytes(-len(start) % 8)


def quote(name: str) -> str:
    """A name in JSON. Raises Refused for one that is not Unicode."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return f'"{name}"'
    from json import dumps

    try:
        name.encode()
    except UnicodeEncodeError:
        raise Refused("has a name with a lone surrogate, which cannot be stored") from None
    return dumps(name, ensure_ascii=False)


def _encode_column(column: Column, buffers: list[Buffer], depth: int = 0) -> str:
    """Add a column's buffers, and return its type, and ",1" if it has nulls, as the head has them."""
    kind = column.kind
    if kind == "null":
        _add(buffers, bytes((column.n_rows + 7) // 8))
        return '"null"'
    nulls = ""
    if column.mask is not None:
        nulls = ",1"
        _add(buffers, pack_bits(column.mask))
    if kind in ("text", "bytes", "list"):
        _add(buffers, _pack_offsets(column.lengths))
    if column.items is not None:
        if depth == MOST_NESTED:
            raise Refused(f"holds lists in lists in lists, more than {MOST_NESTED} deep")
        return f"[{_encode_column(column.items, buffers, depth + 1)}]{nulls}"
    _add(buffers, pack_bits(column.values) if kind == "bool" else column.values)
    return f"{quote(kind)}{nulls}"


def _add(buffers: list[Buffer], data: Buffer) -> None:
    buffers.append(data)
    if padding := -memoryview(data).nbytes % 8:
        buffers.append(bytes(padding))


def _pack_offsets(lengths: Sequence[int]) -> bytes:
    offsets = [0, *accumulate(lengths)]
    if offsets[-1] > MOST_BYTES:
        raise Refused(
            "holds more than 2 GiB of text or bytes, or two billion items of lists: return several outputs"
        )
    return struct.pack(f"<{len(offsets)}i", *offsets)


# Bits and masks: all together, by long integers and tables, so that a million rows need no library


def pack_bits(flags: Buffer) -> bytes:
    """A byte 0 or 1 for each row -> a bit for each, from the lowest bit of the first byte on."""
    size = len(flags)
    if not size:
        return b""
    return int(bytes(flags)[::-1].translate(_DIGITS), 2).to_bytes((size + 7) // 8, "little")


def unpack_bits(data: Buffer, start: int, size: int) -> bytes:
    """The inverse of pack_bits, for `size` bits from bit `start` on."""
    if not _BITS:
        _BITS.extend(bytes([byte >> bit & 1 for bit in range(8)]) for byte in range(256))
    first = start // 8
    return b"".join(map(_BITS.__getitem__, data[first : (start + size + 7) // 8]))[start % 8 :][:size]


def zero_nulls(values: Buffer, mask: bytes | None, width: int) -> Buffer:
    """Values of a fixed width, with zeros where the mask is 0."""
    if mask is None or 0 not in mask:
        return values
    wide = bytearray(len(mask) * width)
    bits = mask.translate(_ALL_BITS)
    for byte in range(width):
        wide[byte::width] = bits
    valid = int.from_bytes(values, "little") & int.from_bytes(wide, "little")
    return valid.to_bytes(len(wide), "little")
