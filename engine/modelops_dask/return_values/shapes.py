"""The shape of a value of any library: a scalar, a list, a mapping of names, or a table.

It is decided by types alone, and only fields of objects are read. Standard library only: see neutral.py.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

if __package__:
    from modelops_dask.return_values import cells, neutral, refusals
else:  # by path in values.py, which loads those modules first
    neutral, cells = sys.modules["_modelops_neutral"], sys.modules["_modelops_cells"]
    refusals = sys.modules["_modelops_refusals"]

BYTES = (bytes, bytearray, memoryview)
_NO_FIELDS = frozenset((int, float, str, bool, bytes, list, tuple, type(None)))
_FIXED = frozenset((int, float, str, bool, bytes, complex, type(None)))  # types whose values never change
_MOST_COPIED = 12  # levels, more than are stored
_OWN_TABLES = ("pandas", "polars", "xarray")  # libraries whose tables are mappings too, or have fields
_SERIES = (
    ("pandas", "Series"),
    ("pandas", "Index"),
    ("polars", "Series"),
    ("pyarrow", "Array"),
    ("pyarrow", "ChunkedArray"),
)


def is_row(entries: Mapping[str, object]) -> bool:
    return all(map(cells.is_scalar, entries.values()))


def is_columns(entries: Mapping[str, object]) -> bool:
    return all(map(is_column, entries.values()))


def is_column(value: object) -> bool:
    """Whether a value has one dimension and no inner names: lists except of records, Series, arrays."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return _NO_FIELDS.issuperset(map(type, value)) or not any(map(is_mapping, samples(value)))
    if cells.is_instance(value, "xarray", "DataArray"):
        return False
    if any(cells.is_instance(value, *names) for names in _SERIES):
        return getattr(value, "nlevels", 1) == 1 or not cells.is_instance(value, "pandas", "Index")
    return cells.dimensions_of(value) == 1 and getattr(getattr(value, "dtype", None), "names", None) is None


def is_uneven(entries: Mapping[str, Any]) -> bool:
    """Whether entries that pass is_columns() are an empty list, perhaps of records, and longer ones."""
    values = entries.values()
    return any(isinstance(value, (list, tuple)) and not value for value in values) and any(map(len, values))


def is_array(value: object) -> bool:
    """Whether a value is an array with one dimension and only values, without an index for example."""
    is_pandas = type(value).__module__.partition(".")[0] in _OWN_TABLES
    return not is_pandas and is_column(value) and cells.dimensions_of(value) == 1


def samples(values: Sequence[object]) -> list[object]:
    """An item of each type in a list."""
    return list({type(value): value for value in values}.values())


def is_mapping(value: object) -> bool:
    return _read_fields(value) is not None


def as_mapping(value: object) -> dict[str, object] | None:
    """The entries of a dict, dataclass, named tuple, attrs or pydantic object; None for others. Raises
    Refused.
    """
    fields = _read_fields(value)
    if fields is None:
        return None
    mapping = {cells.name_of(name): item for name, item in fields.items()}
    if len(mapping) < len(fields):
        raise neutral.Refused(
            "has two names that are the same as text, such as 1 and '1': rename one of them"
        )
    return mapping


def _read_fields(value: Any) -> Mapping[Any, object] | None:
    kind = type(value)
    if kind is dict:
        fields: Mapping[Any, object] = value
        return fields
    if kind in _NO_FIELDS:
        return None
    if isinstance(value, tuple) and hasattr(kind, "_fields"):  # itertuples() of pandas returns these, too
        return dict(zip(kind._fields, value))
    package = kind.__module__.partition(".")[0]
    if package in _OWN_TABLES:
        return None
    if isinstance(value, Mapping):
        return value
    if package == "builtins":
        return None
    for attribute in ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__"):
        if hasattr(kind, attribute) and not isinstance(value, type):
            field_names = [*_field_names(kind, attribute), *_computed_fields(kind)]
            return {name: getattr(value, name) for name in field_names}
    if hasattr(kind, "model_fields") or (hasattr(kind, "parse_obj") and hasattr(kind, "__fields__")):
        return {**dict(value), **{name: getattr(value, name) for name in _computed_fields(kind)}}  # pydantic
    if kind.__module__ == "types" and kind.__name__ == "SimpleNamespace":
        return dict(vars(value))
    names = getattr(getattr(value, "dtype", None), "names", None)
    if names and cells.dimensions_of(value) == 0:  # a row of a structured array
        return {name: value[name] for name in names}
    return None


def _field_names(kind: Any, attribute: str) -> list[str]:
    if attribute == "__dataclass_fields__":
        return [field.name for field in sys.modules["dataclasses"].fields(kind)]
    return [name if isinstance(name, str) else name.name for name in getattr(kind, attribute)]


def _computed_fields(kind: Any) -> list[str]:
    """The names of pydantic's computed fields, which iterating over its objects leaves out."""
    return list(getattr(getattr(kind, "__pydantic_decorators__", None), "computed_fields", ()))


def settle(value: Any) -> object:
    """Replace a one-time iterator, or a list-like object, by a list. Raises Refused."""
    kind = type(value)
    if kind in (list, dict, float, int, str, bytes):
        return value
    is_iterator = hasattr(kind, "__next__") and not hasattr(kind, "readline")  # but not a file
    is_view = isinstance(value, (KeysView, ValuesView, ItemsView)) and not isinstance(value, Mapping)
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, *BYTES, tuple))
    if is_iterator:
        return [item if type(item) in _FIXED else _copy(item) for item in _collect(value)]
    return list(value) if is_view or is_list or kind.__module__ == "array" else value


def _collect(iterator: Any) -> Iterator[object]:
    """The items of an iterator. Raises Refused for a generator that also returns a value."""
    returned = yield from iterator
    if returned is not None:
        raise neutral.Refused(
            f"is a generator that also returns {refusals.describe_type(returned)}, which would be lost: "
            "return a dict with both, such as {'rows': list(rows), 'total': total}"
        )


def _copy(value: Any, depth: int = 0) -> object:
    """Copy a value: its generator may change it before it yields the next one. Raises Refused."""
    kind = type(value)
    if kind in _FIXED or depth > _MOST_COPIED:
        return value
    if kind in (list, tuple):
        return [item if type(item) in _FIXED else _copy(item, depth + 1) for item in value]
    fields = _read_fields(value)
    if fields is not None:
        return {
            name: item if type(item) in _FIXED else _copy(item, depth + 1) for name, item in fields.items()
        }
    if isinstance(value, BYTES):
        return bytes(value)
    if cells.dimensions_of(value) >= 0 or kind.__module__.partition(".")[0] in _OWN_TABLES:
        for method in ("copy", "clone"):
            if hasattr(kind, method):
                return getattr(value, method)()
    return value
