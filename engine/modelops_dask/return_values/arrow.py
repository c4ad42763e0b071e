"""Columns from Arrow tables, as pyarrow, polars, DuckDB and others provide them.

    an object -> ArrowData -> pointers -> Column of each field

pointers.py has the interface for reading them. Standard library only: see neutral.py.
"""

from __future__ import annotations

import struct
import sys
from ctypes import addressof, string_at

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

    from modelops_dask.return_values.pointers import Span

if __package__:
    from modelops_dask.return_values import columns, neutral, pointers
else:  # by path in values.py, which loads those modules first
    neutral, columns = sys.modules["_modelops_neutral"], sys.modules["_modelops_columns"]
    pointers = sys.modules["_modelops_pointers"]


_PIECE = 1 << 30  # bytes that string_at() reads in one call
# Formats of fixed width -> our type and, for times, the unit
_NUMBERS = {
    "c": "i1",
    "C": "u1",
    "s": "i2",
    "S": "u2",
    "i": "i4",
    "I": "u4",
    "l": "i8",
    "L": "u8",
    "f": "f4",
    "g": "f8",
    "tdD": "date",
}
_UNITS = {"s": "s", "m": "ms", "u": "us", "n": "ns"}
_CODES = {"c": "b", "C": "B", "s": "h", "S": "H", "i": "i", "I": "I", "l": "q", "L": "Q"}  # of struct
_VARIABLE = {"u": ("text", "i"), "U": ("text", "q"), "z": ("bytes", "i"), "Z": ("bytes", "q")}
_REFUSED = {
    "+s": "is a struct: make its fields columns, by unnest() of polars or flatten() of pyarrow",
    "+m": "is a map: return lists of its keys and values",
    "+u": "is a union of several types: make it one",
    "+r": "is run-end encoded: cast it to its values",
    "+v": "is a list view: cast it to a list",
}


def is_arrow(value: object) -> bool:
    """Whether a value has Arrow's C interface, or belongs to an older pyarrow."""
    kind = type(value)
    names = ["__arrow_c_stream__", "__arrow_c_array__"]
    if kind.__module__.startswith("pyarrow."):
        names += ["to_reader", "iterchunks", "_export_to_c"]
    return any(hasattr(kind, name) for name in names)


def column_of_arrow(array: object) -> neutral.Column:
    """The values of an array, or of a Series of polars. Raises Refused."""
    with pointers.ArrowData(array) as source:
        return _decode(source.schema, source.spans)


def columns_of_arrow(table: object, name: str) -> list[tuple[str, neutral.Column]]:
    """The columns of a table; for an array or a Series a single one with the other name. Raises Refused."""
    with pointers.ArrowData(table) as source:
        if source.schema.format != b"+s":
            return [(name, _decode(source.schema, source.spans))]
        if any(0 in (_mask(*span) or b"") for span in source.spans):
            raise neutral.Refused("has structs that are entirely null, which rows cannot be: drop them")
        fields = []
        for number in range(source.schema.n_children):
            schema = source.schema.children[number].contents
            name = (schema.name or b"").decode()
            try:
                fields.append((name, _decode(schema, _of_child(source.spans, number))))
            except neutral.Refused as refusal:
                raise neutral.Refused(f"column {name!r} {refusal}") from None
        return fields


# Decoding: a schema, and spans of arrays of that schema -> one neutral.Column


def _of_child(spans: list[Span], number: int) -> list[Span]:
    """The spans of a struct's child."""
    children = [(array.children[number].contents, start, length) for array, start, length in spans]
    return [(child, child.offset + start, length) for child, start, length in children]


def _decode(schema: Any, spans: list[Span]) -> neutral.Column:
    kind = schema.format.decode()
    spans = spans or [(None, 0, 0)]
    extension = _extension_of(schema)
    if extension not in ("", "arrow.uuid", "arrow.json"):
        raise neutral.Refused(
            f"is of the type {extension}, an extension of Arrow's: cast it to numbers or text"
        )
    if schema.dictionary:
        return _decode_dictionary(schema, spans)
    for start, reason in _REFUSED.items():
        if kind.startswith(start):
            raise neutral.Refused(reason)
    if kind in ("+l", "+L") or kind.startswith("+w:"):
        return _decode_lists(schema, kind, spans)
    if kind == "n":
        return neutral.Column("null", sum([length for _, _, length in spans]))
    raw = columns.join([_read_span(kind, *span) for span in spans])
    if extension == "arrow.uuid":
        return _as_uuids(raw)
    if kind.startswith(("ts", "tt", "tD")):
        name = {"s": "timestamp", "t": "time", "D": "duration"}[kind[1]]
        zone = kind[4:] if kind[1] == "s" else ""
        suffix = f",{columns.zone_name(zone)}" if zone else ""
        return columns.from_counts(f"{name}[{{}}{suffix}]", raw.values, _UNITS[kind[2]], raw.mask)
    return raw


def _extension_of(schema: Any) -> str:
    """The name of an extension type, whose meaning goes beyond its stored values; otherwise ""."""
    if not schema.metadata:
        return ""
    address, pairs = schema.metadata + 4, {}
    for _ in range(struct.unpack("<i", string_at(schema.metadata, 4))[0]):
        pair = []
        for _ in ("key", "value"):
            (size,) = struct.unpack("<i", string_at(address, 4))
            pair.append(string_at(address + 4, size))
            address += 4 + size
        pairs[pair[0]] = pair[1]
    return pairs.get(b"ARROW:extension:name", b"").decode("utf-8", "replace")


def _mask(array: Any, start: int, length: int) -> bytes | None:
    if array is None or array.null_count == 0 or not array.n_buffers or not array.buffers[0]:
        return None
    first = start // 8
    bits = _bytes_at(array, 0, first, (start + length + 7) // 8 - first)
    return neutral.unpack_bits(bits, start % 8, length)


def _bytes_at(array: Any, number: int, start: int, size: int) -> bytes:
    """`size` bytes of a buffer of an array, from byte `start` on."""
    if not size:
        return b""
    pieces, address = [], array.buffers[number] + start
    while size > 0:
        pieces.append(string_at(address, min(size, _PIECE)))
        address, size = address + _PIECE, size - _PIECE
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_span(kind: str, array: Any, start: int, length: int) -> neutral.Column:
    """The rows of one array; times as their counts."""
    mask = _mask(array, start, length)
    if kind in _NUMBERS:
        width = neutral.width_of(_NUMBERS[kind])
        return columns.from_numbers(_NUMBERS[kind], _bytes_at(array, 1, start * width, length * width), mask)
    if kind == "b":
        first = start // 8
        bits = _bytes_at(array, 1, first, (start + length + 7) // 8 - first) if length else b""
        return neutral.Column(
            "bool",
            length,
            neutral.zero_nulls(neutral.unpack_bits(bits, start % 8, length), mask, 1),
            mask=mask,
        )
    if kind == "e":
        halves = struct.unpack(f"<{length}e", _bytes_at(array, 1, start * 2, length * 2))
        return columns.from_numbers("f4", struct.pack(f"<{length}f", *halves), mask)
    if kind in ("tts", "ttm"):
        counts = struct.unpack(f"<{length}i", _bytes_at(array, 1, start * 4, length * 4))
        return columns.from_numbers("i8", struct.pack(f"<{length}q", *counts), mask)
    if kind == "tdm":
        return _read_dates(_bytes_at(array, 1, start * 8, length * 8), mask, length)
    if kind[:2] in ("ts", "tt", "tD"):
        return columns.from_numbers("i8", _bytes_at(array, 1, start * 8, length * 8), mask)
    if kind.startswith("d:"):
        return _read_decimals(kind, array, start, length)
    return _read_variable(kind, array, start, length)


def _as_uuids(raw: neutral.Column) -> neutral.Column:
    """The text that also represents a Python UUID."""
    from uuid import UUID

    flags = raw.mask or b"\1" * raw.n_rows
    data, texts, at = bytes(raw.values), [], 0
    for flag in flags:
        texts.append(str(UUID(bytes=data[at : at + 16])) if flag else "")
        at += 16 * flag
    text = "".join(texts).encode()
    return neutral.Column("text", raw.n_rows, text, mask=raw.mask, lengths=list(map(len, texts)))


def _read_dates(data: bytes, mask: bytes | None, length: int) -> neutral.Column:
    counts = struct.unpack(f"<{length}q", neutral.zero_nulls(data, mask, 8))
    if any(count % 86_400_000 for count in counts):
        raise neutral.Refused("has dates (date64) that are not whole days: cast them to timestamps")
    return columns.from_numbers(
        "date", struct.pack(f"<{length}i", *[count // 86_400_000 for count in counts]), mask
    )


def _read_decimals(kind: str, array: Any, start: int, length: int) -> neutral.Column:
    precision, scale, bits = [*map(int, kind[2:].split(",")), 128][:3]
    if precision > 38 or scale < 0:
        raise neutral.Refused(
            "has decimals of more than 38 digits or of a negative scale: cast them to float64"
        )
    width = bits // 8
    data = _bytes_at(array, 1, start * width, length * width)
    if width != 16:
        units = [
            int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)
        ]
        data = b"".join([unit.to_bytes(16, "little", signed=True) for unit in units])
    return columns.from_numbers(f"decimal({precision},{scale})", data, _mask(array, start, length))


def _read_variable(kind: str, array: Any, start: int, length: int) -> neutral.Column:
    """Text and bytes."""
    mask = _mask(array, start, length)
    if kind.startswith("w:"):
        width = int(kind[2:])
        offsets: Any = range(0, (length + 1) * width, width) if width else [0] * (length + 1)
        name, data = "bytes", _bytes_at(array, 1, start * width, length * width)
    elif kind in _VARIABLE:
        name, code = _VARIABLE[kind]
        offsets = _offsets(array, code, start, length)
        data = _bytes_at(array, 2, offsets[0], offsets[-1] - offsets[0])
        offsets = [offset - offsets[0] for offset in offsets]
    elif kind in ("vu", "vz"):
        pieces = _read_views(array, start, length, mask)
        return neutral.Column(
            "text" if kind == "vu" else "bytes",
            length,
            b"".join(pieces),
            mask=mask,
            lengths=list(map(len, pieces)),
        )
    else:
        raise neutral.Refused(
            f"is of a type of Arrow that is not stored (format {kind}): cast it to a number or text"
        )
    lengths = [stop - begin for begin, stop in zip(offsets, offsets[1:])]
    if mask is not None and any(size for size, valid in zip(lengths, mask) if not valid):
        data = b"".join([data[at : at + size] for at, size, valid in zip(offsets, lengths, mask) if valid])
        lengths = [size if valid else 0 for size, valid in zip(lengths, mask)]
    return neutral.Column(name, length, data, mask=mask, lengths=lengths)


def _offsets(array: Any, code: str, start: int, length: int) -> Any:
    if not length:
        return (0,)
    width = struct.calcsize(f"<{code}")
    return struct.unpack(f"<{length + 1}{code}", _bytes_at(array, 1, start * width, (length + 1) * width))


def _read_views(array: Any, start: int, length: int, mask: bytes | None) -> list[bytes]:
    """The values of Arrow's string views: 16 bytes each, which hold a short value or point to a longer
    one.
    """
    views = _bytes_at(array, 1, start * 16, length * 16)
    pieces = []
    for row, (size, _, number, at) in enumerate(struct.iter_unpack("<i4sii", views)):
        if mask is not None and not mask[row]:
            pieces.append(b"")
        elif size <= 12:
            pieces.append(views[row * 16 + 4 : row * 16 + 4 + size])
        else:
            pieces.append(_bytes_at(array, 2 + number, at, size))
    return pieces


def _decode_dictionary(schema: Any, spans: list[Span]) -> neutral.Column:
    code = _CODES[schema.format.decode()]
    width = struct.calcsize(f"<{code}")
    pieces = []
    for array, start, length in spans:
        dictionaries = [] if array is None else [array.dictionary.contents]
        categories = _decode(schema.dictionary.contents, [(d, d.offset, d.length) for d in dictionaries])
        mask = _mask(array, start, length)
        rows = struct.unpack(f"<{length}{code}", _bytes_at(array, 1, start * width, length * width))
        pieces.append(columns.take(categories, rows, mask))
    return columns.join(pieces)


def _decode_lists(schema: Any, kind: str, spans: list[Span]) -> neutral.Column:
    lengths: list[int] = []
    masks: list[bytes] = []
    items: list[Span] = []
    for array, start, length in spans:
        mask = _mask(array, start, length) or b"\1" * length
        if kind.startswith("+w:"):
            width = int(kind[3:])
            offsets: Any = [(start + row) * width for row in range(length + 1)]
        else:
            offsets = _offsets(array, "i" if kind == "+l" else "q", start, length)
        masks.append(mask)
        for row, valid in enumerate(mask):
            size = offsets[row + 1] - offsets[row] if valid else 0
            lengths.append(size)
            if size:
                _add_items(items, array.children[0].contents, offsets[row], size)
    child = _decode(schema.children[0].contents, items)
    return neutral.Column("list", len(lengths), mask=b"".join(masks), lengths=lengths, items=child)


def _add_items(items: list[Span], child: Any, first: int, size: int) -> None:
    """Add the items of one list, extending the last span if they follow it."""
    first += child.offset
    if items and addressof(items[-1][0]) == addressof(child) and items[-1][1] + items[-1][2] == first:
        child, first, size = items[-1][0], items[-1][1], items.pop()[2] + size
    items.append((child, first, size))
