"""Columns from NumPy arrays, and from arrays of libraries that convert to them: jax, torch and others.

It uses the object's own methods, and imports nothing that the model has not imported. Standard library only:
see neutral.py.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

if __package__:
    from modelops_dask.return_values import cells, columns, neutral, refusals
else:  # by path in values.py, which loads those modules first
    neutral, columns = sys.modules["_modelops_neutral"], sys.modules["_modelops_columns"]
    refusals, cells = sys.modules["_modelops_refusals"], sys.modules["_modelops_cells"]


def as_numpy(value: Any) -> Any:
    """An array of any library as a NumPy array, or as nested lists without NumPy. Raises Refused."""
    kind = type(value)
    if cells.unit_of(value):
        raise refusals.refuse_unit(value, cells.unit_of(value))
    numpy = columns.loaded_numpy()
    if numpy and isinstance(value, numpy.ndarray):
        return value if cells.is_instance(value, "numpy.ma", "MaskedArray") else numpy.asarray(value)
    if kind.__module__.partition(".")[0] == "torch":
        value = value.detach().cpu()
        if value.is_sparse:
            raise refusals.refuse(value)
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        value = value.resolve_conj().resolve_neg()
    elif hasattr(kind, "get") and kind.__module__.partition(".")[0] == "cupy":
        value = value.get()
    if numpy and hasattr(kind, "__array__"):
        return numpy.asarray(value)
    if hasattr(kind, "tolist"):
        return value.tolist()
    raise refusals.refuse(value)


def column_of_array(array: Any) -> neutral.Column:
    """The column of an array with one dimension, masked or not, or of a list. Raises Refused."""
    if isinstance(array, list):
        return cells.column_of(array)
    numpy = sys.modules["numpy"]
    valid = None
    if cells.is_instance(array, "numpy.ma", "MaskedArray"):
        valid = (~numpy.ma.getmaskarray(array)).tobytes()
        array = array.data
    array = numpy.asarray(array)
    kind = array.dtype.kind
    if kind in "mM":
        column = columns.from_numpy_times(array)
        return column if valid is None else _mask_more(column, valid)
    if kind == "V" and array.dtype.type is not numpy.void:  # bfloat16 and similar types, of jax
        array = array.astype("f4")
        kind = "f"
    if kind in "biuf" and array.dtype.itemsize <= 8:
        if kind == "b":
            return neutral.Column("bool", len(array), _zeroed(array, valid), mask=valid)
        size = max(4, array.dtype.itemsize) if kind == "f" else array.dtype.itemsize
        name = f"{kind}{size}"
        return columns.from_numbers(name, _bytes_of(array.astype(f"<{name}", copy=False)), valid)
    if kind in "OUST":
        values = array.tolist()
        if valid is not None:
            values = [value if flag else None for value, flag in zip(values, valid)]
        return cells.column_of(values)
    raise refusals.refuse(array[0] if len(array) else array.dtype.type(0))


def _bytes_of(array: Any) -> Any:
    """The bytes of a one-dimensional array of numbers, without a copy if they are contiguous."""
    return memoryview(array).cast("B") if array.flags.c_contiguous and len(array) else array.tobytes()


def _zeroed(array: Any, valid: bytes | None) -> Any:
    data = array.tobytes()
    return neutral.zero_nulls(data, valid, 1)


def _mask_more(column: neutral.Column, valid: bytes) -> neutral.Column:
    both = valid if column.mask is None else bytes(map(int.__and__, valid, column.mask))
    values = neutral.zero_nulls(column.values, both, neutral.width_of(column.kind))
    return neutral.Column(column.kind, column.n_rows, values, mask=both)


def fields_of(array: Any) -> list[tuple[str, neutral.Column]]:
    """The columns of a structured array with one dimension; a field that has two becomes numbered columns."""
    table = []
    for name in array.dtype.names:
        field = array[name]
        if field.ndim > 2:
            raise neutral.Refused(
                f"column {name!r} is a field with {field.ndim - 1} dimensions in each row: return it as a "
                "separate array, or a table with a column for each dimension"
            )
        if field.ndim == 2:
            names = [f"{name}_{number}" for number in range(field.shape[1])]
            table += columns_of_matrix(field, names)
        else:
            table.append((name, cells.named(name, column_of_array, field)))
    return table


def names_of_columns(value: Any, n_columns: int) -> list[str]:
    """The column names that a two-dimensional array itself has, as in libRoadRunner; otherwise "column_0",
    "column_1", ...
    """
    names = getattr(value, "colnames", None)
    if (
        isinstance(names, (list, tuple))
        and len(set(names)) == len(names) == n_columns
        and all(isinstance(name, str) and name for name in names)
    ):
        return list(names)
    return [f"column_{number}" for number in range(n_columns)]


def columns_of_matrix(array: Any, names: list[str]) -> list[tuple[str, neutral.Column]]:
    """The columns of an array with two dimensions, by their names."""
    return [(name, cells.named(name, column_of_array, array[:, number])) for number, name in enumerate(names)]
