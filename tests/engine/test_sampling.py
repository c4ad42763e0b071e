"""The arithmetic of ranges."""

import numpy as np
import pytest

from modelops_dask.study.sampling import Range, Sample


def test_spread_keeps_its_ends_and_reads_as_written():
    assert Range(0.1, 0.7).spread(7) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    third = 1 / 3
    assert Range(third, 1).spread(2) == [third, 1.0], "rounding must not leave the range"


def test_integers_are_equally_likely_and_include_both_ends():
    unit = (np.arange(6000) + 0.5) / 6000
    values = Range(1, 6, integer=True).scale(unit)
    assert [values.count(i) for i in range(1, 7)] == [1000] * 6
    assert Range(1, 6, integer=True).scale(np.array([0.0, np.nextafter(1, 0)])) == [1, 6]
    log = Range(1, 999, log=True, integer=True).scale(unit)
    assert [sum(len(str(value)) == digits for value in log) for digits in (1, 2, 3)] == [2000] * 3


@pytest.mark.parametrize("log", [False, True])
def test_values_stay_inside(log):
    values = Range(1e-9, 1 / 3, log).scale(np.array([0.0, np.nextafter(1, 0)]))
    assert values[0] == pytest.approx(1e-9) and min(values) >= 1e-9 and max(values) <= 1 / 3


def test_a_sample_is_the_same_in_chunks(monkeypatch):
    sample = Sample("sobol", 100, 3, {"a": Range(0, 1), "b": Range(1, 5, integer=True)})
    whole = list(sample.sets())
    monkeypatch.setattr("modelops_dask.study.sampling._CHUNK", 7)
    assert list(Sample("sobol", 100, 3, sample.ranges).sets()) == whole
