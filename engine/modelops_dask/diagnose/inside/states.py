"""State that is neither an attribute nor an item: of generators, caches, files in memory, frames, C values.

    state_of(object) -> (read, write), or None: it has none that is known

Only Python's, NumPy's and pandas' own types, by their own methods. Does not walk: snapshot.py does.
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

from modelops_dask.diagnose.inside import shown

COPIED_BYTES = 4 << 20  # of what is larger only a checksum is kept, and it cannot be put back

State = tuple  # (read() -> value, write(value) or None)


def state_of(one: Any) -> State | None:
    """How to read an object's state, and to put it back."""
    for kind, state in _STATES.items():
        if shown.is_a(one, kind):
            return state(one)
    if shown.is_array(one):
        return _array(one)
    package = str(type(one).__module__).partition(".")[0]
    if package == "numpy":
        return _numpy(one)
    if package == "pandas" and hasattr(one, "_mgr"):
        return _frame(one)
    ctypes = sys.modules.get("ctypes")
    if ctypes and shown.is_a(one, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        at, size = ctypes.addressof(one), ctypes.sizeof(one)
        return lambda: ctypes.string_at(at, size), lambda saved: ctypes.memmove(at, saved, size)
    return None


def _bytes(one: Any) -> State:
    return lambda: one[:], lambda saved: one.__setitem__(slice(None), saved)


def _cell(one: types.CellType) -> State:
    def read() -> Any:
        try:
            return one.cell_contents
        except ValueError:  # empty
            return shown.MISSING

    def write(value: Any) -> None:
        if value is shown.MISSING:
            del one.cell_contents
        else:
            one.cell_contents = value

    return read, write


def _cache(one: Any) -> State:
    def read() -> shown.Words:
        info = one.cache_info()
        missed = f", {info.misses} missed" if info.currsize == info.maxsize else ""
        return shown.Words(f"{info.currsize} cached{missed}")

    return read, lambda _: one.cache_clear()


def _random(one: random.Random) -> State:
    return (
        lambda: shown.Opaque(random.Random.getstate(one)),
        lambda saved: random.Random.setstate(one, saved.value),
    )


def _variable(one: ContextVar) -> State:
    return lambda: one.get(shown.MISSING), lambda saved: None if saved is shown.MISSING else one.set(saved)


def _file(one: Any) -> State:
    def write(saved: tuple) -> None:
        one.seek(0)
        one.truncate()
        one.write(saved[0])
        one.seek(saved[1])

    return lambda: (one.getvalue(), one.tell()), write


def _generator(one: types.GeneratorType) -> State:
    def read() -> shown.Words:
        frame = one.gi_frame
        if frame is None:
            return shown.Words("ended")
        known = ", ".join(f"{name} = {shown.short(value, 20)}" for name, value in frame.f_locals.items())
        return shown.Words(f"at line {frame.f_lineno}{' with ' if known else ''}{known}")

    return read, None


def _array(one: Any) -> State:
    if one.dtype.hasobject:
        return lambda: one.ravel().tolist(), None
    if one.nbytes > COPIED_BYTES:
        return lambda: shown.Opaque((one.shape, zlib.crc32(one.tobytes()))), None
    return one.copy, lambda saved: one.__setitem__(..., saved)


def _numpy(one: Any) -> State | None:
    numpy = sys.modules.get("numpy.random")
    if numpy and shown.is_a(one, numpy.Generator):
        one = one.bit_generator
    if numpy and shown.is_a(one, numpy.BitGenerator):
        read = lambda: shown.Opaque(copy.deepcopy(one.state))  # noqa: E731
        return read, lambda saved: setattr(one, "state", saved.value)
    if numpy and shown.is_a(one, numpy.RandomState):
        read = lambda: shown.Opaque(one.get_state(legacy=False))  # noqa: E731
        return read, lambda saved: one.set_state(saved.value)
    return None


def _frame(one: Any) -> State | None:
    """A DataFrame or Series of pandas: its data are in _mgr."""
    kept = (
        one._mgr.copy(deep=True)
        if one._mgr.nblocks and sum(getattr(part, "nbytes", 0) for part in one._mgr.arrays) <= COPIED_BYTES
        else None
    )

    def read() -> shown.Opaque:
        return shown.Opaque((type(one).__name__, one._mgr.shape, zlib.crc32(pickle.dumps(one._mgr))))

    return read, (lambda _: object.__setattr__(one, "_mgr", kept)) if kept is not None else None


_STATES: dict[Any, Callable[[Any], State]] = {
    bytearray: _bytes,
    array.array: _bytes,
    types.CellType: _cell,
    functools._lru_cache_wrapper: _cache,
    random.Random: _random,
    ContextVar: _variable,
    io.StringIO: _file,
    io.BytesIO: _file,
    types.GeneratorType: _generator,
}
