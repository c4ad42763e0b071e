"""The arithmetic of ranges."""

import json
from itertools import product

import numpy as np
import pytest

from modelops_dask.plan import contract
from modelops_dask.plan.sampling import _POWERS, Grid, Range, Sample, _rounded


def test_spread_keeps_its_ends_and_reads_as_written():
    assert Range(0.1, 0.7).spread(7) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    third = 1 / 3
    assert Range(third, 1).spread(2) == [third, 1.0], "rounding must not leave the range"


def test_integers_are_equally_likely_and_include_both_ends():
    unit = (np.arange(6000) + 0.5) / 6000
    values = Range(1, 6, integer=True).scale(unit).tolist()
    assert [values.count(i) for i in range(1, 7)] == [1000] * 6
    assert Range(1, 6, integer=True).scale(np.array([0.0, np.nextafter(1, 0)])).tolist() == [1, 6]
    log = Range(1, 999, log=True, integer=True).scale(unit).tolist()
    assert [sum(len(str(value)) == digits for value in log) for digits in (1, 2, 3)] == [2000] * 3


@pytest.mark.parametrize("log", [False, True])
def test_values_stay_inside(log):
    values = Range(1e-9, 1 / 3, log).scale(np.array([0.0, np.nextafter(1, 0)]))
    assert values[0] == pytest.approx(1e-9) and min(values) >= 1e-9 and max(values) <= 1 / 3


def test_a_sample_is_the_same_in_chunks(monkeypatch):
    sample = Sample("sobol", 100, 3, {"a": Range(0, 1), "b": Range(1, 5, integer=True)})
    whole = [row for chunk in sample.chunks({}) for row in chunk]
    monkeypatch.setattr("modelops_dask.plan.sampling._CHUNK", 7)
    assert [row for chunk in sample.chunks({}) for row in chunk] == whole


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_to_twelve_digits(seed):
    print("seed", seed)
    rng = np.random.default_rng(seed)
    values = rng.choice([-1, 1], 20_000) * 10 ** rng.uniform(-40, 40, 20_000)
    values = np.concatenate([values, _POWERS, -_POWERS, np.nextafter(_POWERS, 0), [0.0, 1e-300, 1e299]])
    found, written = _rounded(values), [float(f"{value:.12g}") for value in values]
    assert [float(f"{value:.12g}") for value in found] == found.tolist(), "more than 12 digits"
    # The product is rounded before the digits are, so what lies next to a half may go either way.
    assert np.count_nonzero(found != written) < 20
    assert found == pytest.approx(written, rel=2e-12)


def test_canonical_json_of_any_names_and_values():
    values = {"b%s": [1, 0.1, True, None], 'a"é': ["%r", [1, {"z": 1, "y": 2}]], "": [-0.5]}
    fixed = {"50%": "100 %", "c": {"%d": 1}}
    grid = Grid(values)
    rows = [text for chunk in grid.chunks(fixed) for text, _ in chunk]
    wanted = [fixed | dict(zip(values, row, strict=True)) for row in product(*values.values())]
    assert rows == [contract.canonical(params) for params in wanted]
    sample = Sample("sobol", 8, 1, {"k": Range(1, 9, integer=True), "%": Range(-1, 1)})
    for text, _ in next(sample.chunks(fixed)):
        assert contract.canonical(json.loads(text)) == text


def test_repeats_are_counted_without_the_sets():
    assert Grid({"a": [1, 2, 1], "b": [1, 1.0]}).repeats() == 2
    assert Grid({"a": [1, 2], "b": [0.5]}).repeats() == 0
    ranges = {"k": Range(1, 3, integer=True), "m": Range(1, 2, integer=True)}
    sample = Sample("sobol", 64, 0, ranges)
    assert sample.repeats() == 64 - len({text for chunk in sample.chunks({}) for text, _ in chunk}) == 58
    assert Sample("latin-hypercube", 64, 0, ranges | {"x": Range(0, 1)}).repeats() == 0
