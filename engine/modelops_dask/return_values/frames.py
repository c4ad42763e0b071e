"""Columns from pandas' tables and Series, using their own methods: the index becomes columns.

Standard library only: see neutral.py.
"""

from __future__ import annotations

import sys
from collections.abc import Collection

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

if __package__:
    from modelops_dask.return_values import arrays, arrow, cells, columns, neutral
else:  # by path in values.py, which loads those modules first
    neutral, columns = sys.modules["_modelops_neutral"], sys.modules["_modelops_columns"]
    arrays, cells = sys.modules["_modelops_arrays"], sys.modules["_modelops_cells"]
    arrow = sys.modules["_modelops_arrow"]


def columns_of_frame(frame: Any) -> list[tuple[str, neutral.Column]]:
    """The columns of a DataFrame, beginning with its index."""
    names = [cells.name_of(label) for label in frame.columns]
    table = columns_of_index(frame.index, names)
    for number, name in enumerate(names):
        table.append((name, cells.named(name, column_of_series, frame.iloc[:, number])))
    return table


def columns_of_series(series: Any, name: str) -> list[tuple[str, neutral.Column]]:
    """The columns of a Series, named by its own name or the other; beginning with its index."""
    name = name if series.name is None else cells.name_of(series.name)
    return [*columns_of_index(series.index, [name]), (name, cells.named(name, column_of_series, series))]


def columns_of_index(index: Any, taken: Collection[str]) -> list[tuple[str, neutral.Column]]:
    """The columns of an index, with unused names; none if it only counts rows from 0."""
    if is_default_index(index):
        return []
    table: list[tuple[str, neutral.Column]] = []
    for number in range(index.nlevels):
        label = index.names[number]
        name = (
            cells.name_of(label)
            if label is not None
            else "index"
            if index.nlevels == 1
            else f"level_{number}"
        )
        names = {*taken, *[name for name, _ in table]}
        if name in names and name != "index":
            name += "_index"
        while name in names:
            name += "_"
        table.append((name, cells.named(name, column_of_series, index.get_level_values(number).to_series())))
    return table


def columns_of_levels(index: Any, name: str) -> list[tuple[str, neutral.Column]]:
    """The columns of a returned index; the other name is for an unnamed one."""
    if index.nlevels == 1:
        name = name if index.name is None else cells.name_of(index.name)
        return [(name, cells.named(name, column_of_series, index.to_series()))]
    return columns_of_index(index, [])


def is_default_index(index: Any) -> bool:
    """Whether an index has no information: an unnamed RangeIndex that counts from 0.

    Other indexes are columns, even if their values happen to be 0, 1, 2, ..., as pandas counts values.
    """
    is_range = cells.is_instance(index, "pandas", "RangeIndex") and index.name is None
    return is_range and (len(index) == 0 or (index.start == 0 and index.step == 1))


def column_of_series(series: Any) -> neutral.Column:
    """The values of a Series, without its index."""
    dtype, values = series.dtype, series.array
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        codes = values.codes
        categories = column_of_series(dtype.categories.to_series())
        return columns.take(categories, codes.tolist(), (codes >= 0).tobytes())
    if kind == "DatetimeTZDtype":
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None)
        column = columns.from_numpy_times(naive.to_numpy())
        zone = columns.zone_name(dtype.tz)
        column.kind = column.kind.replace("]", f",{zone}]")
        return column
    if "Arrow" in type(values).__name__:
        return columns.null_nans(arrow.column_of_arrow(values.__arrow_array__()))
    if kind == "SparseDtype":
        return column_of_series(series.sparse.to_dense())
    missing = series.isna().to_numpy()
    # Int64, boolean, Float64 and similar types
    if hasattr(dtype, "numpy_dtype") and hasattr(values, "_mask"):
        plain = series.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return columns.null_nans(_with_nulls(plain, missing))
    if hasattr(dtype, "itemsize") and getattr(dtype, "kind", "O") in "biuf" and not hasattr(values, "_mask"):
        return _with_nulls(series.to_numpy(), missing)
    if getattr(dtype, "kind", "O") in "mM":
        return columns.from_numpy_times(series.to_numpy())
    if getattr(dtype, "kind", "O") == "c":
        return arrays.column_of_array(series.to_numpy())
    return cells.column_of([None if flag else value for value, flag in zip(list(series), missing.tolist())])


def _with_nulls(array: Any, missing: Any) -> neutral.Column:
    """The column of a NumPy array that is null where the other array is true."""
    if not missing.any():
        return arrays.column_of_array(array)
    array = array.copy()
    array[missing] = 0
    column = arrays.column_of_array(array)
    column.mask = (~missing).tobytes()
    return column
