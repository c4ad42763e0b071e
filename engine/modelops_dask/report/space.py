"""Outcome over the parameter space: for each pair of swept parameters, cells with their measurements.

Plan + BySet -> Axis of each swept parameter -> Maps

A parameter counts as swept if it is a number in every set and not the same in all. A parameter with few
values has a row or column for each; otherwise every cell holds about the same number of sets. Cells are
evenly spaced, whatever the values are, so that a logarithmic sweep is as readable as a linear one.
"""

import itertools
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelops_dask.plan.plan import Plan
from modelops_dask.report.measurement import BySet
from modelops_dask.shape import MIB

MAX_SETS = 100_000  # with more sets, every k-th is drawn
MAX_PARAMETERS = 10
MAX_VALUES = 40  # a cell for each
MOST_CELLS = 25  # otherwise, or fewer, so that a cell of a pair holds a few sets
LEAST_CELLS = 5
MEASURES = {"not ok (%)": "share", "mean time (s)": "seconds", "largest peak (MiB)": "peak"}


@dataclass(frozen=True)
class Axis:
    """A parameter: the cell of each set drawn, int (n,), and the cells' labels."""

    name: str
    cell: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Maps:
    """Cells by (column parameter, row parameter): x, y, sets, and a list for each of MEASURES."""

    axes: dict[str, Axis]
    cells: dict[tuple[str, str], dict[str, list[float | None]]]
    set_stride: int = 1  # every how many sets one is in the cells
    left_out: int = 0  # swept parameters beyond MAX_PARAMETERS


def map_outcomes(plan: Plan, by_set: BySet) -> Maps:
    """Maps of the sets that were run; without axes if no numeric parameter was swept."""
    run_sets = np.flatnonzero(by_set.ok + by_set.not_ok)
    every = -(-len(run_sets) // MAX_SETS) or 1
    drawn = run_sets[::every]
    swept = [_build_axis(name, values) for name, values in _collect_numeric(plan, drawn).items()]
    axes = {axis.name: axis for axis in swept[:MAX_PARAMETERS]}
    pairs = list(itertools.combinations(axes, 2)) or [(name, name) for name in axes]
    cells = {(x, y): _build_cells(axes[x], axes[y] if x != y else None, by_set, drawn) for x, y in pairs}
    return Maps(axes, cells, every, max(0, len(swept) - MAX_PARAMETERS))


def _collect_numeric(plan: Plan, sets: np.ndarray) -> dict[str, np.ndarray]:
    """Values of each parameter that is a number in all these sets, and not always the same."""
    if not len(sets):
        return {}
    texts = plan.table["params"].take(pa.array(sets)).to_pylist()
    values_by_name: dict[str, list[float]] = {}
    names: set[str] | None = None
    for text in texts:
        params = json.loads(text)
        numbers = {name for name, value in params.items() if type(value) in (int, float)}
        names = numbers if names is None else names & numbers
        for name in numbers:
            values_by_name.setdefault(name, []).append(float(params[name]))
    columns = {name: np.array(values_by_name[name]) for name in sorted(names or ())}
    return {name: values for name, values in columns.items() if values.min() < values.max()}


def _build_axis(name: str, values: np.ndarray) -> Axis:
    distinct, cell = np.unique(values, return_inverse=True)
    if len(distinct) <= MAX_VALUES:
        return Axis(name, cell, [f"{value:.4g}" for value in distinct])
    count = int(np.clip(np.sqrt(len(values) / 4), LEAST_CELLS, MOST_CELLS))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    cell = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return Axis(name, cell, [f"{(low + high) / 2:.3g}" for low, high in itertools.pairwise(edges)])


def _build_cells(
    column_axis: Axis, row_axis: Axis | None, by_set: BySet, sets: np.ndarray
) -> dict[str, list[float | None]]:
    rows = row_axis.cell if row_axis else np.zeros(len(sets), int)
    cell, inverse = np.unique(column_axis.cell * MAX_VALUES + rows, return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(inverse, values[sets], len(cell))

    ok, not_ok, attempts = total(by_set.ok), total(by_set.not_ok), total(by_set.ok_attempts)
    peak = np.zeros(len(cell))
    np.maximum.at(peak, inverse, by_set.peak_bytes[sets])
    with np.errstate(invalid="ignore"):
        seconds = total(by_set.seconds) / attempts
    return {
        "x": (cell // MAX_VALUES).tolist(),
        "y": (cell % MAX_VALUES).tolist(),
        "sets": np.bincount(inverse).tolist(),
        "share": _round_values(100 * not_ok / (ok + not_ok)),
        "seconds": _round_values(seconds),
        "peak": _round_values(np.where(peak > 0, peak / MIB, np.nan)),
    }


def _round_values(values: np.ndarray) -> list[float | None]:
    """For JSON, to four digits; None for unknown values."""
    return [None if np.isnan(value) else float(f"{value:.4g}") for value in values]
