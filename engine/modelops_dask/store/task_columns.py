"""The columns of results that identify the task of a row and its parameters.

plan -> Identity -> columns(task indices) -> set, replicate, seed, param_id, and one for each parameter
"""

import json
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from modelops_dask.plan import contract
from modelops_dask.plan.plan import Plan

COLUMNS = ("set", "replicate", "seed", "param_id")


class Identity:
    """The columns that identify a row's task: COLUMNS, and one for every parameter (name_columns)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._params = _parameter_table(plan)
        self.names = (*COLUMNS, *self._params.column_names)

    def columns(self, index: np.ndarray) -> pa.Table:
        """int64 task indices, one for each row -> the row's columns."""
        tasks, task_positions = np.unique(index, return_inverse=True)  # a task may have a thousand rows
        sets, replicates = np.divmod(tasks, self._plan.replicates)
        rows = self._plan.table.take(pa.array(sets))
        ids = [digest.hex() for digest in rows["param_id"].to_pylist()]
        seeds = [
            contract.derived_seed(param_id, replicate) if seed is None else seed
            for param_id, replicate, seed in zip(
                ids, replicates.tolist(), rows["seed"].to_pylist(), strict=True
            )
        ]
        table = pa.table(
            {
                "set": pa.array(sets),
                "replicate": pa.array(replicates),
                "seed": pa.array(seeds, pa.uint64()),
                "param_id": pa.array(ids, pa.string()),
            }
        )
        for name in self._params.column_names:
            table = table.append_column(name, self._params[name].take(pa.array(sets)))
        return table.take(pa.array(task_positions))


def name_columns(parameters: Iterable[str]) -> dict[str, str]:
    """The column of each parameter: its name after "param_", with underscores added if COLUMNS has that."""
    columns = {name: f"param_{name}" for name in parameters}
    for name in [name for name, column in columns.items() if column in COLUMNS]:
        while columns[name] in (*COLUMNS, *(f"param_{other}" for other in columns if other != name)):
            columns[name] += "_"
    return columns


class _LongInteger(int):
    """The type of integers that no float can hold."""


def _parameter_table(plan: Plan) -> pa.Table:
    """A column for each parameter, a row for each set; null if a set has no such parameter.

    Numbers, text and booleans keep their type, integers among floats become floats if that changes none
    of them; all else is JSON text.
    """
    kinds: dict[str, set[type]] = {}
    for text in _texts(plan):
        for name, value in json.loads(text).items():
            kinds.setdefault(name, set()).add(_kind(value))
    types = {name: _arrow_type(value_types - {type(None)}) for name, value_types in sorted(kinds.items())}
    chunks: dict[str, list[pa.Array]] = {name: [] for name in types}
    for batch in plan.table["params"].chunks:
        sets = [json.loads(text) for text in batch.to_pylist()]
        for name, kind in types.items():
            values = [_fit_value(params.get(name), kind) for params in sets]
            chunks[name].append(pa.array(values, kind or pa.string()))
    columns = [
        pa.chunked_array(column_chunks, types[name] or pa.string()) for name, column_chunks in chunks.items()
    ]
    return pa.table(columns, names=list(name_columns(types).values()))


def _texts(plan: Plan) -> Iterator[str]:
    return (text for chunk in plan.table["params"].chunks for text in chunk.to_pylist())


def _kind(value: object) -> type:
    if type(value) is not int or -(2**53) <= value <= 2**53:
        return type(value)
    if not -(2**63) <= value < 2**63:
        return object
    return int if float(value) == value else _LongInteger


def _arrow_type(kinds: set[type]) -> pa.DataType | None:
    """None: as JSON text."""
    if kinds == {int, float}:
        return pa.float64()
    if _LongInteger in kinds and kinds <= {int, _LongInteger}:
        return pa.int64()
    arrow_types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return arrow_types.get(next(iter(kinds))) if len(kinds) == 1 else None


def _fit_value(value: object, kind: pa.DataType | None) -> object:
    if kind is None:
        return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return float(value) if kind == pa.float64() and isinstance(value, int | float) else value
