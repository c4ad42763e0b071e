"""State that is neither an attribute nor an item: of generators, caches, files in memory, frames, C values.

    state_of(object) -> (read, write), or None: it has no known state

Only Python's, NumPy's and pandas' own types, by their own methods. snapshot.py walks the objects.
"""

from __future__ import annotations

import array
import copy
import functools
import io
import pickle
import random
import sys
import types
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from modelops_dask.diagnose.trials.inside import model_values

COPIED_BYTES = 4 << 20  # for larger state only a checksum is stored, and it cannot be restored

State = tuple[Callable[[], Any], "Callable[[Any], object] | None"]  # (read, write); see locations.Location


def state_of(holder: Any) -> State | None:
    """Functions that read and restore an object's state."""
    for kind, state in _STATES.items():
        if model_values.is_a(holder, kind):
            return state(holder)
    if model_values.is_array(holder):
        return _array_state(holder)
    package = str(type(holder).__module__).partition(".")[0]
    if package == "numpy":
        return _numpy_state(holder)
    if package == "pandas" and hasattr(holder, "_mgr"):
        return _frame_state(holder)
    ctypes = sys.modules.get("ctypes")
    if not ctypes:
        return None
    if model_values.is_a(holder, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        address, size = ctypes.addressof(holder), ctypes.sizeof(holder)
        return lambda: ctypes.string_at(address, size), lambda saved: ctypes.memmove(address, saved, size)
    return None


def _buffer_state(buffer: Any) -> State:
    return lambda: buffer[:], lambda saved: buffer.__setitem__(slice(None), saved)


def _cell_state(cell: types.CellType) -> State:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # empty
            return model_values.MISSING

    def write(value: Any) -> None:
        if value is model_values.MISSING:
            del cell.cell_contents
        else:
            cell.cell_contents = value

    return read, write


def _cache_state(cached_function: Any) -> State:
    def read() -> model_values.Words:
        info = cached_function.cache_info()
        missed = f", {info.misses} missed" if info.currsize == info.maxsize else ""
        return model_values.Words(f"{info.currsize} cached{missed}")

    return read, lambda _: cached_function.cache_clear()


def _random_state(generator: random.Random) -> State:
    return (
        lambda: model_values.Opaque(random.Random.getstate(generator)),
        lambda saved: random.Random.setstate(generator, saved.value),
    )


def _variable_state(variable: ContextVar) -> State:
    def write(saved: Any) -> None:
        if saved is not model_values.MISSING:
            variable.set(saved)

    return lambda: variable.get(model_values.MISSING), write


def _file_state(file: Any) -> State:
    def write(saved: tuple) -> None:
        file.seek(0)
        file.truncate()
        file.write(saved[0])
        file.seek(saved[1])

    return lambda: (file.getvalue(), file.tell()), write


def _generator_state(generator: types.GeneratorType) -> State:
    def read() -> model_values.Words:
        frame = generator.gi_frame
        if frame is None:
            return model_values.Words("ended")
        texts = [f"{name} = {model_values.describe(value, 20)}" for name, value in frame.f_locals.items()]
        return model_values.Words(f"at line {frame.f_lineno}{' with ' if texts else ''}{', '.join(texts)}")

    return read, None


def _array_state(ndarray: Any) -> State:
    if ndarray.dtype.hasobject:
        return lambda: ndarray.ravel().tolist(), None
    if ndarray.nbytes > COPIED_BYTES:
        return lambda: model_values.Opaque((ndarray.shape, zlib.crc32(ndarray.tobytes()))), None
    return ndarray.copy, lambda saved: ndarray.__setitem__(..., saved)


def _numpy_state(generator: Any) -> State | None:
    numpy = sys.modules.get("numpy.random")
    if numpy and model_values.is_a(generator, numpy.Generator):
        generator = generator.bit_generator
    if numpy and model_values.is_a(generator, numpy.BitGenerator):
        read = lambda: model_values.Opaque(copy.deepcopy(generator.state))  # noqa: E731
        return read, lambda saved: setattr(generator, "state", saved.value)
    if numpy and model_values.is_a(generator, numpy.RandomState):
        read = lambda: model_values.Opaque(generator.get_state(legacy=False))  # noqa: E731
        return read, lambda saved: generator.set_state(saved.value)
    return None


def _frame_state(frame: Any) -> State | None:
    """A DataFrame or Series of pandas: its data are in _mgr."""
    manager = frame._mgr

    def read() -> model_values.Opaque:
        checksum = zlib.crc32(pickle.dumps(frame._mgr))
        return model_values.Opaque((type(frame).__name__, frame._mgr.shape, checksum))

    if not manager.nblocks or sum(getattr(part, "nbytes", 0) for part in manager.arrays) > COPIED_BYTES:
        return read, None
    manager_copy = manager.copy(deep=True)
    return read, lambda _: object.__setattr__(frame, "_mgr", manager_copy)


_STATES: dict[Any, Callable[[Any], State]] = {
    bytearray: _buffer_state,
    array.array: _buffer_state,
    types.CellType: _cell_state,
    functools._lru_cache_wrapper: _cache_state,
    random.Random: _random_state,
    ContextVar: _variable_state,
    io.StringIO: _file_state,
    io.BytesIO: _file_state,
    types.GeneratorType: _generator_state,
}
