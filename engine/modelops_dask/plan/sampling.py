"""Parameter sets from a description: explicit, grid, latin hypercube, Sobol.

sampling -> chunks of (canonical JSON, seed or None), one row per set, always in the same order

Computed values are rounded to 12 significant digits: the same description gives the same numbers, and so the
same parameter ids and seeds, on every machine, whatever the last bit of its log() is. Ten million sets are
counted and searched for repeats without creating them.

Values are not checked here: spec.py checks them.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product

import numpy as np

from modelops_dask.plan import contract

SetRow = tuple[dict[str, object], int | None]
Chunk = list[tuple[str, int | None]]  # canonical JSON of the parameters, and the set's own seed
_CHUNK = 65_536  # rows that are Python objects at the same time

# 10^-22 to 10^22, as exact as a double can be; multiplying or dividing by 10^0 to 10^22 rounds once.
_POWERS = np.array([float(f"1e{power}") for power in range(-22, 23)])


@dataclass(frozen=True)
class Range:
    """low to high, both included. `integer` allows only whole numbers; `log` spreads evenly in the
    logarithm.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def spread(self, num: int) -> list[float]:
        """`num` evenly spaced values from low to high."""
        spacing = np.geomspace if self.log else np.linspace
        values: list[float] = self._tidy(spacing(self.low, self.high, num)).tolist()
        return values

    def scale(self, unit: np.ndarray) -> np.ndarray:
        """Map numbers of [0, 1) to float64 or int64 values; whole numbers are equally likely unless `log`."""
        low, high = (self.low, self.high + 1) if self.integer else (self.low, self.high)
        if self.log:
            low, high = math.log(low), math.log(high)
        values = low + unit * (high - low)
        if self.log:
            values = np.exp(values)
        if self.integer:
            rounded = np.round(values, 9)  # so that the last bit does not affect a whole number
            whole: np.ndarray = np.clip(np.floor(rounded), self.low, self.high).astype(np.int64)
            return whole
        return self._tidy(values)

    def _tidy(self, values: np.ndarray) -> np.ndarray:
        clipped: np.ndarray = np.clip(_rounded(values), float(self.low), float(self.high))
        return clipped


@dataclass(frozen=True)
class Explicit:
    """Sets as written, each with its own seed or None."""

    rows: list[SetRow]

    @property
    def names(self) -> set[str]:
        return {name for params, _ in self.rows for name in params}

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def seeded(self) -> int:
        """Sets with their own seed."""
        return sum(seed is not None for _, seed in self.rows)

    def chunks(self, fixed: dict[str, object]) -> Iterator[Chunk]:
        """All sets, with the fixed parameters."""
        rows = ((contract.canonical(fixed | params), seed) for params, seed in self.rows)
        while chunk := list(islice(rows, _CHUNK)):
            yield chunk


@dataclass(frozen=True)
class Grid:
    """Every combination of the values; the last parameter varies fastest."""

    values: dict[str, list[object]]
    seeded = 0

    @property
    def names(self) -> set[str]:
        return set(self.values)

    @property
    def count(self) -> int:
        return math.prod(len(values) for values in self.values.values())

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        return {name: [contract.canonical(value) for value in values] for name, values in self.values.items()}

    def repeats(self) -> int:
        """The number of sets that repeat an earlier one."""
        return self.count - math.prod(len(set(texts)) for texts in self._texts.values())

    def chunks(self, fixed: dict[str, object]) -> Iterator[Chunk]:
        """All sets, with the fixed parameters."""
        template = _Template(list(self.values), fixed)
        rows = product(*self._texts.values())
        while chunk := list(islice(rows, _CHUNK)):
            yield template.fill(zip(*chunk, strict=True))


@dataclass(frozen=True)
class Sample:
    """`n` points of a space-filling design (method: latin-hypercube or sobol), from scipy.stats.qmc.

    The first points of a Sobol sample stay the same when n grows; a latin hypercube changes completely with
    n.
    """

    method: str
    n: int
    seed: int
    ranges: dict[str, Range]
    seeded = 0

    @property
    def names(self) -> set[str]:
        return set(self.ranges)

    @property
    def count(self) -> int:
        return self.n

    def repeats(self) -> int:
        """The number of sets that repeat an earlier one."""
        hashes = np.concatenate([_hashes(columns) for columns in self._columns()])
        hashes.sort()
        repeated_hashes = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(repeated_hashes):
            return 0
        repeated_columns = (
            np.stack(columns)[:, np.isin(_hashes(columns), repeated_hashes)] for columns in self._columns()
        )
        rows = np.concatenate(list(repeated_columns), axis=1)
        return int(rows.shape[1] - np.unique(rows, axis=1).shape[1])

    def chunks(self, fixed: dict[str, object]) -> Iterator[Chunk]:
        """All sets, with the fixed parameters."""
        template = _Template(list(self.ranges), fixed)
        for columns in self._columns():
            yield template.fill(map(repr, column.tolist()) for column in columns)

    def _columns(self) -> Iterator[list[np.ndarray]]:
        """An array per parameter, for some sets at a time."""
        for unit in self._unit():
            yield [item.scale(unit[:, number]) for number, item in enumerate(self.ranges.values())]

    def _unit(self) -> Iterator[np.ndarray]:
        """float64 (sets, parameters) in [0, 1)."""
        import warnings

        from scipy.stats import qmc

        rng = np.random.default_rng(self.seed)
        if self.method == "latin-hypercube":  # each point depends on all others
            points = qmc.LatinHypercube(len(self.ranges), seed=rng).random(self.n)
            yield from (points[start : start + _CHUNK] for start in range(0, self.n, _CHUNK))
            return
        engine = qmc.Sobol(len(self.ranges), seed=rng)
        with warnings.catch_warnings():
            # docs/study-file.md explains when it matters
            warnings.filterwarnings("ignore", message=".*power of 2")
            for start in range(0, self.n, _CHUNK):
                yield engine.random(min(_CHUNK, self.n - start))


Sampling = Explicit | Grid | Sample


class _Template:
    """Canonical JSON of sets with the same names."""

    def __init__(self, names: list[str], fixed: dict[str, object]) -> None:
        parts = {name: contract.canonical(value).replace("%", "%%") for name, value in fixed.items()}
        parts |= dict.fromkeys(names, "%s")
        keys = {name: contract.canonical(name).replace("%", "%%") for name in parts}
        self._text = "{" + ",".join(f"{keys[name]}:{parts[name]}" for name in sorted(parts)) + "}"
        self._order = sorted(range(len(names)), key=names.__getitem__)

    def fill(self, columns: Iterable[Iterable[str]]) -> Chunk:
        """A row of JSON for each row of the columns, which hold the JSON of values, one column per name."""
        columns = list(columns)
        rows = zip(*(columns[number] for number in self._order), strict=True)
        return [(self._text % row, None) for row in rows]


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round to 12 significant digits with operations that IEEE 754 defines to the last bit."""
    size = np.abs(values)
    is_usual = (size >= 1e-11) & (size < 1e22)
    usual_values = np.where(is_usual, values, 0.0)
    places = 34 - np.searchsorted(_POWERS, size, side="right")  # digits after the point; negative: before it
    power = _POWERS[22 + np.clip(np.abs(places), 0, 22)]
    rounded: np.ndarray = np.where(
        places > 0, np.rint(usual_values * power) / power, np.rint(usual_values / power) * power
    )
    for position in np.flatnonzero(~is_usual):
        rounded[position] = float(f"{values[position]:.12g}")
    rounded += 0.0  # avoids -0.0
    return rounded


def _hashes(columns: list[np.ndarray]) -> np.ndarray:
    """Hashes, uint64, that are equal for equal sets."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
