"""Parameter sets from a description: explicit, grid, latin hypercube, Sobol.

sampling -> (params, seed or None), one a set, always the same ones

Values that are computed are rounded to 12 significant digits: the same description gives the same numbers,
and so the same parameter ids and seeds, on every machine, whatever the last bit of its log() is.

Does not check: spec.py has done so.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

SetRow = tuple[dict[str, Any], int | None]
_CHUNK = 65_536  # rows that are Python objects at once


@dataclass(frozen=True)
class Range:
    """low to high, both included. With `integer`, whole numbers only; with `log`, even in the logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def spread(self, num: int) -> list[float]:
        """`num` values from low to high, evenly."""
        space = np.geomspace if self.log else np.linspace
        return self._tidy(space(self.low, self.high, num))

    def scale(self, unit: np.ndarray) -> list[float] | list[int]:
        """Values for numbers of [0, 1); every whole number is equally likely unless `log`."""
        low, high = (self.low, self.high + 1) if self.integer else (self.low, self.high)
        if self.log:
            low, high = math.log(low), math.log(high)
        values = low + unit * (high - low)
        if self.log:
            values = np.exp(values)
        if self.integer:
            rounded = np.round(values, 9)  # so that the last bit does not decide a whole number
            return np.clip(np.floor(rounded), self.low, self.high).astype(np.int64).tolist()
        return self._tidy(values)

    def _tidy(self, values: np.ndarray) -> list[float]:
        return [
            min(max(float(f"{value:.12g}"), float(self.low)), float(self.high)) for value in values.tolist()
        ]


@dataclass(frozen=True)
class Explicit:
    """Sets as written, each with its own seed or None."""

    rows: list[SetRow]

    @property
    def count(self) -> int:
        return len(self.rows)

    def sets(self) -> Iterator[SetRow]:
        return iter(self.rows)


@dataclass(frozen=True)
class Grid:
    """Every combination of the values; the last parameter varies fastest."""

    values: dict[str, list[Any]]

    @property
    def count(self) -> int:
        return math.prod(len(values) for values in self.values.values())

    def sets(self) -> Iterator[SetRow]:
        names = list(self.values)
        for combination in product(*self.values.values()):
            yield dict(zip(names, combination, strict=True)), None


@dataclass(frozen=True)
class Sample:
    """`n` points of a space-filling design (method: latin-hypercube or sobol), from scipy.stats.qmc.

    The first points of a Sobol sample stay when n grows; a latin hypercube of another n is another sample.
    """

    method: str
    n: int
    seed: int
    ranges: dict[str, Range]

    @property
    def count(self) -> int:
        return self.n

    @cached_property
    def _unit(self) -> np.ndarray:
        """float64 (n, parameters) in [0, 1)."""
        import warnings

        from scipy.stats import qmc

        engine = {"latin-hypercube": qmc.LatinHypercube, "sobol": qmc.Sobol}[self.method]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*power of 2")  # docs/studies.md tells when it matters
            return engine(len(self.ranges), seed=np.random.default_rng(self.seed)).random(self.n)

    def sets(self) -> Iterator[SetRow]:
        names = list(self.ranges)
        for at in range(0, self.n, _CHUNK):
            unit = self._unit[at : at + _CHUNK]
            columns = [item.scale(unit[:, number]) for number, item in enumerate(self.ranges.values())]
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True)), None


Sampling = Explicit | Grid | Sample
