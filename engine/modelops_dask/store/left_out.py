"""Outputs that a task returned but its study does not store: the column left_out of a part, in Arrow.

It is a map for each row, from the output's name to the digest of that output; null if nothing was left out.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def find_lacking(column: pa.ChunkedArray, outputs: Collection[str]) -> np.ndarray:
    """Which rows left out one of these outputs, bool (n,); with no outputs: which left out any."""
    return np.concatenate([np.zeros(0, bool), *(_has_key(maps, outputs) for maps in column.chunks)])


def list_names(column: pa.ChunkedArray) -> set[str]:
    """The names of all outputs that a row left out."""
    names: set[str] = set()
    maps: Any
    for maps in column.chunks:
        first, last = maps.offsets[0].as_py(), maps.offsets[-1].as_py()  # keys are those of a whole buffer
        names.update(maps.keys.slice(first, last - first).unique().to_pylist())
    return names


def _has_key(maps: Any, names: Collection[str]) -> np.ndarray:
    """Which maps have one of the names as a key, bool (n,); with no names, which are not empty."""
    offsets = maps.offsets.to_numpy()
    if not names:
        return np.asarray(np.diff(offsets) > 0)
    is_name = pc.is_in(maps.keys, value_set=pa.array(list(names), pa.string()))
    counts = np.concatenate([[0], np.cumsum(is_name.to_numpy(zero_copy_only=False).astype(np.int64))])
    has_key: np.ndarray = counts[offsets[1:]] > counts[offsets[:-1]]
    return has_key
