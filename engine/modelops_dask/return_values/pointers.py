"""Arrow tables in memory, read by Arrow's C interface, which pyarrow, polars, DuckDB and others share.

    an object with __arrow_c_stream__ or __arrow_c_array__ -> ArrowData: its schema, and spans of its arrays

The interface is the same for all of them and for all their versions:
https://arrow.apache.org/docs/format/CDataInterface.html. Older versions of pyarrow have other methods.
Standard library only: see neutral.py.
"""

from __future__ import annotations

import sys
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    addressof,
    c_char_p,
    c_int,
    c_int64,
    c_void_p,
    py_object,
    pythonapi,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

    Span = tuple[Any, int, int]  # an array, the first of its rows, and their number

if __package__:
    from modelops_dask.return_values import neutral
else:  # by path in values.py, which loads that module first
    neutral = sys.modules["_modelops_neutral"]


class _Schema(Structure):
    pass


class _Array(Structure):
    pass


class _Stream(Structure):
    pass


_Schema._fields_ = [
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_void_p),
    ("flags", c_int64),
    ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))),
    ("dictionary", POINTER(_Schema)),
    ("release", c_void_p),
    ("private_data", c_void_p),
]
_Array._fields_ = [
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(_Array))),
    ("dictionary", POINTER(_Array)),
    ("release", c_void_p),
    ("private_data", c_void_p),
]
_Stream._fields_ = [
    ("get_schema", c_void_p),
    ("get_next", c_void_p),
    ("get_last_error", c_void_p),
    ("release", c_void_p),
    ("private_data", c_void_p),
]
_Release = CFUNCTYPE(None, c_void_p)
_Get = CFUNCTYPE(c_int, c_void_p, c_void_p)
_LastError = CFUNCTYPE(c_char_p, c_void_p)


class ArrowData:
    """The contents of an object, through the C interface: a schema, and spans of arrays. Used in a `with`."""

    def __init__(self, value: object) -> None:
        self.schema = _Schema()
        self.spans: list[Span] = []
        self._value = value
        self._capsules: list[object] = []
        self._arrays: list[_Array] = []

    def __enter__(self) -> ArrowData:
        value: Any = self._value
        kind = type(value)
        if sys.byteorder != "little":
            raise neutral.Refused("is an Arrow table on a big-endian processor: return a pandas table")
        if hasattr(kind, "__arrow_c_array__"):
            self._capsules += value.__arrow_c_array__()
            schema, array = self._capsules
            self.schema = _Schema.from_address(_pointer(schema, b"arrow_schema"))
            self._add(_Array.from_address(_pointer(array, b"arrow_array")))
        elif hasattr(kind, "__arrow_c_stream__"):
            self._capsules.append(value.__arrow_c_stream__())
            self._read(_Stream.from_address(_pointer(self._capsules[0], b"arrow_array_stream")))
        else:
            stream = _Stream()
            _as_old_table(value).to_reader()._export_to_c(addressof(stream))
            try:
                self._read(stream)
            finally:
                _release(stream)
        return self

    def __exit__(self, *_: object) -> None:
        for array in self._arrays:
            _release(array)
        if not hasattr(type(self._value), "__arrow_c_array__"):  # whose capsule does
            _release(self.schema)

    def _read(self, stream: Any) -> None:
        self._check(stream, _Get(stream.get_schema)(addressof(stream), addressof(self.schema)))
        while True:
            array = _Array()
            self._check(stream, _Get(stream.get_next)(addressof(stream), addressof(array)))
            if not array.release:
                return
            self._arrays.append(array)
            self._add(array)

    def _add(self, array: Any) -> None:
        self.spans.append((array, array.offset, array.length))

    def _check(self, stream: Any, code: int) -> None:
        if code:
            error = _LastError(stream.get_last_error)(addressof(stream)) or b"no reason"
            raise neutral.Refused(f"cannot be read as Arrow: {error.decode('utf-8', 'replace')}")


def _as_old_table(value: Any) -> Any:
    """A Table of pyarrow before 14, which lacks __arrow_c_stream__, from its other interface."""
    pyarrow = sys.modules["pyarrow"]
    if hasattr(type(value), "to_reader"):
        return value
    if isinstance(value, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([value])
    return pyarrow.Table.from_arrays([value], ["value"])


def _pointer(capsule: object, name: bytes) -> int:
    get_pointer = pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = c_void_p, [py_object, c_char_p]
    address: int = get_pointer(capsule, name)
    return address


def _release(structure: Any) -> None:
    if structure.release:
        _Release(structure.release)(addressof(structure))
