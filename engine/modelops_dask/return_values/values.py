"""Convert what a function returned to outputs: tables in the neutral form, and unchanged bytes.

    to_outputs(value) -> {name: bytes}

One rule decides, by types alone, so that all tasks of a study have the same outputs; docs/return-values.md
has the table. Objects of other libraries are read by their own methods: nothing is imported that the model
has not imported. Values that cannot be stored completely are refused, with the output's name, the type and an
alternative. This module uses only the standard library and Python 3.9's language, because runner.py loads it
by path.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
import sys
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any


def _sibling(name: str) -> Any:
    """Load a module of this folder: in the worker normally, else by path, under a name that no model uses."""
    if __package__:
        return importlib.import_module(f"{__package__}.{name}")
    known = f"_modelops_{name}"
    if known not in sys.modules:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None and spec.loader is not None  # for mypy: a path that ends in .py has both
        module = sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[known]


if __package__:
    from modelops_dask.return_values import cells, neutral, refusals, shapes
else:
    neutral = _sibling("neutral")
    _sibling("columns")
    refusals, cells, shapes = _sibling("refusals"), _sibling("cells"), _sibling("shapes")

if TYPE_CHECKING:
    _Table = list[tuple[str, neutral.Column]]

RESULT = "result"  # the output of a single value, of a row of scalars, of columns
SCALARS = "scalars"  # the output of the scalars among other entries, if one of those is called result
VALUE = "value"  # the column of a single value or list
_POLARS_TABLES = ("DataFrame", "Series", "LazyFrame")
_MOST_ROWS = 256  # kinds of rows whose heads are cached
_rows: dict[tuple[object, ...], tuple[bytes, struct.Struct] | None] = {}


def to_outputs(value: object) -> dict[str, bytes]:
    """Outputs by name, for a returned value. Raises TypeError for values that cannot be stored."""
    if type(value) is dict and (row := _quick_row(value)):
        return {RESULT: row}
    if isinstance(value, shapes.BYTES):
        return {RESULT: bytes(value)}
    if type(value) is tuple:  # return x, y
        return _outputs_of_mapping({f"{RESULT}_{number}": item for number, item in enumerate(value)})
    try:
        value = shapes.settle(value)
        mapping = shapes.as_mapping(value)
    except neutral.Refused as refusal:
        raise _error(RESULT, refusal) from None
    return {RESULT: _encode(RESULT, value)} if mapping is None else _outputs_of_mapping(mapping)


def to_output(name: str, value: object) -> bytes:
    """One output, for a value under its name. Raises TypeError for values that cannot be stored."""
    return bytes(value) if isinstance(value, shapes.BYTES) else _encode(name, value)


def to_table(columns: Mapping[str, object]) -> bytes:
    """A table in the neutral form from lists or arrays by name. Raises TypeError for values that cannot be
    stored.
    """
    try:
        encoded: bytes = neutral.encode(_table_of_columns(columns))
    except neutral.Refused as refusal:
        raise TypeError(f"the table {refusal}") from None
    return encoded


def _error(name: str, refusal: Exception) -> TypeError:
    text = str(refusal)
    return TypeError(f"output {name!r}{', ' if text.startswith('column ') else ' '}{text}")


def _encode(name: str, value: object) -> bytes:
    try:
        encoded: bytes = neutral.encode(_table_of(shapes.settle(value)))
    except neutral.Refused as refusal:
        raise _error(name, refusal) from None
    return encoded


def _quick_row(row: dict[object, object]) -> bytes | None:
    """The table of a row of numbers, in a tenth of the time; None for any other row."""
    key = (*row, *map(type, row.values()))
    try:
        form = _rows[key]
    except KeyError:
        form = _prepare_row(row, key)
    if form is None:
        return None
    values = row.values()
    for value in values:
        if value != value:  # NaN, which has many bit patterns
            return None
    start, layout = form
    try:
        return start + layout.pack(*values)
    except struct.error:  # an integer of more than 63 bits
        return None


def _prepare_row(row: dict[Any, Any], key: tuple[object, ...]) -> tuple[bytes, struct.Struct] | None:
    """The part before the values of a row with these names and types, and the format of the values."""
    if len(_rows) >= _MOST_ROWS:
        _rows.clear()
    _rows[key] = None
    if not row or not all(type(name) is str for name in row):
        return None
    codes = [*map(cells.code_of, row.values())]
    if "" in codes:
        return None
    try:
        table: bytes = neutral.encode(
            [(str(name), cells.column_of([type(value)(0)])) for name, value in row.items()]
        )
    except neutral.Refused:
        return None
    _rows[key] = table[: -8 * len(row)], struct.Struct("<" + "".join(codes))
    return _rows[key]


# A mapping: a row, columns, or an output for each entry


def _outputs_of_mapping(mapping: Mapping[str, object]) -> dict[str, bytes]:
    entries = {name: _settle(name, value) for name, value in mapping.items()}
    if shapes.is_row(entries) or (shapes.is_columns(entries) and not shapes.is_uneven(entries)):
        return {RESULT: _encode(RESULT, entries)}
    outputs, scalars = {}, {}
    for name, value in entries.items():
        if isinstance(value, shapes.BYTES):
            outputs[name] = bytes(value)
        elif cells.is_scalar(value):
            scalars[name] = value
        else:
            outputs[name] = _encode(name, value)
    if scalars:
        name = SCALARS if RESULT in outputs else RESULT
        if name in outputs:
            raise TypeError(
                f"outputs {RESULT!r} and {SCALARS!r} are both taken, and {', '.join(scalars)} would be "
                "stored as one of them: return these as a dict in a separate entry"
            )
        outputs[name] = _encode(name, scalars)
    return outputs


def _settle(name: str, value: object) -> object:
    try:
        return shapes.settle(value)
    except neutral.Refused as refusal:
        raise _error(name, refusal) from None


# One output


def _table_of(value: Any) -> _Table:
    """The columns of one output."""
    if cells.is_scalar(value):
        if cells.plain(value) is None:
            raise neutral.Refused(
                "is None: does the function return its result? A None inside a dict is stored as null"
            )
        return [(VALUE, cells.column_of([value]))]
    mapping = shapes.as_mapping(value)
    if mapping is not None:
        return _table_of_mapping(mapping)
    if isinstance(value, (list, tuple)):
        return _table_of_list(value)
    for package in (_table_of_pandas, _table_of_arrow, _table_of_array):
        table = package(value)
        if table is not None:
            return table
    raise refusals.refuse(value)


def _table_of_mapping(mapping: Mapping[str, object]) -> _Table:
    entries = {name: shapes.settle(value) for name, value in mapping.items()}
    if shapes.is_row(entries):
        return [(name, cells.named(name, cells.column_of, [value])) for name, value in entries.items()]
    if shapes.is_columns(entries):
        return _table_of_columns(entries)
    name, item = next((name, item) for name, item in entries.items() if not cells.is_scalar(item))
    raise neutral.Refused(
        f"is a dict whose entry {name!r} is {refusals.describe_type(item)}. A dict inside a dict holds "
        f"scalars alone or lists alone: return {name!r} as an entry of the outer dict"
    )


def _table_of_columns(entries: Mapping[str, object]) -> _Table:
    """A column for each entry; those of the index first, if Series have an informative one."""
    table: _Table = []
    indexed: list[Any] = [v for v in entries.values() if cells.is_instance(v, "pandas", "Series")]
    if indexed:
        first = indexed[0]
        if not all(first.index.equals(series.index) for series in indexed):
            raise neutral.Refused(
                "has Series with different indexes: return them as entries of a dict in a dict, or as one "
                "DataFrame, pandas.DataFrame({'a': a, 'b': b})"
            )
        table = _load_frames().columns_of_index(first.index, entries)
    return table + [(name, cells.named(name, _column_of, value)) for name, value in entries.items()]


def _column_of(value: Any) -> neutral.Column:
    """The column of a value for which is_column() is true."""
    column: neutral.Column
    if type(value).__module__.partition(".")[0] == "polars":
        value = _as_arrow(value)
        value = next(iter(value.values())) if isinstance(value, dict) else value
    if isinstance(value, (list, tuple)):
        column = cells.column_of(value)
    elif cells.is_instance(value, "pandas", "Series"):
        column = _load_frames().column_of_series(value)
    elif _load_arrow().is_arrow(value):
        column = _load_arrow().column_of_arrow(value)
    else:
        column = _table_of(value)[-1][1]
    return column


def _table_of_list(values: Sequence[Any]) -> _Table:
    """Records, a list of scalars, or rows."""
    samples = shapes.samples(values)
    if not samples:
        return []
    records = [shapes.is_mapping(sample) for sample in samples]
    if all(records):
        return _table_of_records(values)
    if not any(records):
        if all(cells.is_scalar(sample) or isinstance(sample, shapes.BYTES) for sample in samples):
            return [(VALUE, cells.column_of(values))]
        if all(isinstance(sample, (list, tuple)) or shapes.is_array(sample) for sample in samples):
            rows: list[Sequence[object]] = [
                row if isinstance(row, (list, tuple)) else cells.items_of(row) for row in values
            ]
            return _table_of_rows(rows)
    for sample in samples:
        if cells.dimensions_of(sample) > 0:
            raise neutral.Refused(
                f"is a list whose items are each {refusals.describe_type(sample)}: return a dict of them, or "
                "one table with a column that tells them apart"
            )
        if not (
            cells.is_scalar(sample)
            or shapes.is_mapping(sample)
            or isinstance(sample, (list, tuple, *shapes.BYTES))
        ):
            raise refusals.refuse(sample)
    kinds = " and ".join(sorted([type(sample).__name__ for sample in samples]))
    raise neutral.Refused(f"is a list that mixes {kinds}: return a list of dicts, or one of numbers or text")


def _table_of_records(records: Sequence[object]) -> _Table:
    """A row for each record; missing fields are null."""
    rows = [shapes.as_mapping(record) or {} for record in records]
    names = list(dict.fromkeys([name for row in rows for name in row]))
    return [(name, cells.named(name, cells.column_of, [row.get(name) for row in rows])) for name in names]


def _table_of_rows(rows: list[Sequence[object]]) -> _Table:
    """The columns of a list of lists."""
    widths = sorted(set(map(len, rows)))
    if len(widths) > 1:
        raise neutral.Refused(
            f"is a list of lists of {widths[0]} to {widths[-1]} items: return a dict of names and lists, or "
            "a list of dicts"
        )
    table = []
    for number, values in enumerate(zip(*rows)):
        column = cells.named(f"column_{number}", cells.column_of, values)
        if column.kind == "list":
            raise neutral.Refused(
                "has three dimensions or more: return a table with a column for each dimension"
            )
        table.append((f"column_{number}", column))
    return table


# Tables of other libraries


def _load_frames() -> Any:
    _load_arrow()
    _sibling("arrays")
    return _sibling("frames")


def _load_arrow() -> Any:
    _sibling("pointers")
    return _sibling("arrow")


def _table_of_pandas(value: Any) -> _Table | None:
    """Tables of pandas, and of xarray, which makes a DataFrame of its data."""
    table: _Table
    if cells.is_instance(value, "xarray", "DataArray"):
        if not value.dims:  # of values that are not scalars, such as bytes
            return _table_of_array(value.values)
        value = value.to_dataframe(name=VALUE if value.name is None else str(value.name))
    elif cells.is_instance(value, "xarray", "Dataset"):
        if not value.dims:
            return _table_of_mapping({str(name): variable for name, variable in value.variables.items()})
        value = value.to_dataframe()
    if "pandas" not in sys.modules:
        return None
    frames = _load_frames()
    if cells.is_instance(value, "pandas", "DataFrame"):
        table = frames.columns_of_frame(value)
    elif cells.is_instance(value, "pandas", "Series"):
        table = frames.columns_of_series(value, VALUE)
    elif cells.is_instance(value, "pandas", "Index"):
        table = frames.columns_of_levels(value, VALUE)
    elif cells.is_instance(value, "pandas.api.extensions", "ExtensionArray") and not cells.unit_of(value):
        table = [(VALUE, frames.column_of_series(sys.modules["pandas"].Series(value)))]
    else:
        return None
    return table


def _table_of_arrow(value: Any) -> _Table | None:
    """Tables of polars, pyarrow and other libraries with Arrow's C interface."""
    is_polars = any(cells.is_instance(value, "polars", name) for name in _POLARS_TABLES)
    if is_polars:
        value = _as_arrow(value)
    arrow = _load_arrow()
    if not arrow.is_arrow(value):
        return _table_of_columns(value) if is_polars else None
    name = getattr(value, "name", "") if is_polars else ""
    table: _Table = arrow.columns_of_arrow(value, name or VALUE)
    return table


def _as_arrow(value: Any) -> Any:
    """A polars table or Series with Arrow's interface, or as lists by name."""
    if hasattr(type(value), "collect"):  # a LazyFrame
        value = value.collect()
    schema = value.schema if hasattr(value, "schema") else {value.name: value.dtype}
    for name, dtype in schema.items():
        if _has_objects(dtype):  # which polars would export as addresses
            raise neutral.Refused(f"column {name!r} holds Python objects: convert them to numbers or text")
    if _load_arrow().is_arrow(value):
        return value
    try:  # before 1.3
        return value.to_arrow()
    except ImportError:  # without pyarrow
        lists = value.to_dict(as_series=False) if hasattr(value, "schema") else {value.name: value.to_list()}
        return {name or VALUE: items for name, items in lists.items()}


def _has_objects(dtype: Any) -> bool:
    """Whether a polars type is Object, or contains it."""
    if getattr(dtype, "__name__", type(dtype).__name__) == "Object":
        return True
    inner, fields = getattr(dtype, "inner", None), getattr(dtype, "fields", None) or ()
    return (inner is not None and _has_objects(inner)) or any(_has_objects(field.dtype) for field in fields)


def _table_of_array(value: Any) -> _Table | None:
    """Arrays of NumPy, and of libraries whose arrays convert to NumPy's."""
    if cells.dimensions_of(value) < 0 and not hasattr(type(value), "__array__"):
        return None
    arrays = _sibling("arrays")
    array = arrays.as_numpy(value)
    if isinstance(array, list):
        return _table_of_list(array)
    if array.ndim > 2:
        shape = " x ".join(map(str, array.shape))
        raise neutral.Refused(
            f"has {array.ndim} dimensions ({shape}), and a table has two: return one with a column for each "
            "dimension, as xarray's to_dataframe() makes, or a dict of names and parts"
        )
    if array.ndim == 0:
        if array.dtype.kind != "O":
            raise refusals.refuse(array[()])
        return _table_of(array.item())
    table: _Table
    if array.dtype.names is not None:
        table = arrays.fields_of(array.ravel())
    elif array.ndim == 2:
        table = arrays.columns_of_matrix(array, arrays.names_of_columns(value, array.shape[1]))
    else:
        table = [(VALUE, arrays.column_of_array(array))]
    return table
