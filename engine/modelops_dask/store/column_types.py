"""The common type of a column of several tasks, and casts to it that change no value.

    types of a column in two tasks -> join_types() -> types to try -> fit_column() -> column, or DoesNotFit

Integers become floats if some values are, and types become wider. Nothing is rounded: a cast that would
change a value is refused. Tables and files are not known here: tables.py handles them.
"""

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

MOST_DIGITS = 38  # of a decimal that DuckDB and polars read as a decimal


class DoesNotFit(Exception):
    """A column has a value that the type cannot hold."""


def type_of_values(column: pa.ChunkedArray) -> pa.DataType:
    """The type of a column; null if no value determines it, also for the items of its lists."""
    if column.null_count == len(column):
        return pa.null()
    kind = column.type
    if not _is_list(kind):
        return kind
    item_type = type_of_values(pa.chunked_array(map(pc.list_flatten, column.chunks), kind.value_type))
    return kind if item_type.equals(kind.value_type) else _list_like(kind)(item_type)


def join_types(kind: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    """The types that may hold the values of both, the better one first; empty if no type does."""
    if kind.equals(other) or pa.types.is_null(other):
        return [kind]
    if pa.types.is_null(kind):
        return [other]
    if pa.types.is_integer(kind) and pa.types.is_integer(other):
        return _join_integers(kind, other)
    if pa.types.is_decimal(kind) and (pa.types.is_decimal(other) or pa.types.is_integer(other)):
        return [_join_decimals(kind, other)]
    if pa.types.is_integer(kind) and pa.types.is_decimal(other):
        return [_join_decimals(other, kind)]
    if _is_list(kind) and _is_list(other):
        like = _list_like(kind if pa.types.is_large_list(kind) else other)
        return [like(item_type) for item_type in join_types(kind.value_type, other.value_type)]
    try:
        schemas = [pa.schema([pa.field("", column_type)]) for column_type in (kind, other)]
        return [pa.unify_schemas(schemas, promote_options="permissive").field(0).type]
    except pa.ArrowException:
        return []


def choose_type(kind: pa.DataType, declared: Iterable[pa.DataType]) -> pa.DataType:
    """The type of a column that has no values, or lists without items, from the types that tasks declare."""
    for other in sorted(declared, key=str) if _has_null(kind) else ():
        kind = next(iter(join_types(kind, other)), kind)
    return kind


def fit_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The same values in another type. Raises DoesNotFit."""
    if column.type.equals(kind):
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    try:
        if pa.types.is_integer(column.type) and pa.types.is_decimal(kind):
            column = column.cast(pa.decimal128(20, 0))  # Arrow requires space for any integer
        fitted = column.cast(kind)
    except pa.ArrowException:
        if not _has_null(type_of_values(column)):
            raise DoesNotFit from None
        fitted = _build(column, kind)
    # Arrow rounds decimals to floats; Python compares the two exactly.
    if _has_decimal(column.type) and fitted.to_pylist() != column.to_pylist():
        raise DoesNotFit
    return fitted


def _build(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast lists without items: Arrow does not do so if it cannot cast the type of their items."""
    try:
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])
    except pa.ArrowException:
        raise DoesNotFit from None


def _join_integers(kind: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_signed_integer(kind) == pa.types.is_signed_integer(other):
        return [kind if kind.bit_width >= other.bit_width else other]
    signed, unsigned = (kind, other) if pa.types.is_signed_integer(kind) else (other, kind)
    if unsigned.bit_width == 64:  # depends on the values; the current type first, because it may be written
        types = [pa.int64(), pa.uint64()]
        return types[::-1] if kind.equals(pa.uint64()) else types
    widths = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
    return [widths[max(signed.bit_width, 2 * unsigned.bit_width)]]


def _join_decimals(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that is wide enough for both, with at most the digits that readers support."""
    precision, scale = (other.precision, other.scale) if pa.types.is_decimal(other) else (20, 0)
    joined_scale = max(kind.scale, scale)
    digits = max(kind.precision - kind.scale, precision - scale) + joined_scale
    if max(kind.precision, precision) > MOST_DIGITS:  # a file of the model has it, which its readers support
        return pa.decimal256(min(digits, 76), joined_scale)
    return pa.decimal128(min(digits, MOST_DIGITS), joined_scale)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _list_like(kind: pa.DataType) -> Callable[[pa.DataType], pa.DataType]:
    return pa.large_list if pa.types.is_large_list(kind) else pa.list_


def _has_null(kind: pa.DataType) -> bool:
    return pa.types.is_null(kind) or (_is_list(kind) and _has_null(kind.value_type))


def _has_decimal(kind: pa.DataType) -> bool:
    children = [kind.field(number).type for number in range(kind.num_fields)]
    return pa.types.is_decimal(kind) or any(map(_has_decimal, children))
