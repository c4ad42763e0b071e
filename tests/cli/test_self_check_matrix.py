"""A seeded sample of the matrix of tests/self_check_matrix.py; `make check-matrix` runs all of it."""

import os

import pytest

import self_check_matrix
from self_check_matrix import MODELS, Cell, all_cells, measure, sample_cells

SEED = int(os.environ.get("MATRIX_SEED", "20261130"))  # another one is another sample
# One cell in which each side must speak, and a few of all.
CELLS = [("module state, by one set", "single-process", 20), *sample_cells(2, SEED, sizes=[20])]


@pytest.mark.parametrize(("name", "preset", "size"), CELLS)
def test_what_differs_from_a_fresh_process_is_reported_and_nothing_else(tmp_path, name, preset, size):
    print(f"seed {SEED}")
    with self_check_matrix.caches(tmp_path):
        cell = measure(name, preset, size, tmp_path / "cell")
    assert cell.problem == "", cell


def test_the_matrix_notices_every_kind_of_problem():
    leak, healthy, late = "module state, by one set", "pure", "class attribute"
    cases = {
        "silent": Cell(leak, "baseline", 20, 5, "", ""),
        "the run is silent": Cell(late, "baseline", 20, 5, "", "ORDER"),
        "warned of what is right": Cell(healthy, "baseline", 20, 0, "", "SEED"),
        "a healthy model has wrong results": Cell(healthy, "baseline", 20, 1, "said", "ORDER"),
    }
    assert {cell.problem for cell in cases.values()} == set(cases)
    assert [cell.problem for cell in cases.values()] == list(cases)
    assert Cell(leak, "baseline", 20, 5, "", "ORDER").problem == ""
    assert Cell(healthy, "cold", 20, 0, "", "").problem == ""


def test_every_model_is_in_the_matrix_under_every_preset_that_isolates():
    from mops_helm.values.presets import isolation_names

    assert set(self_check_matrix.PRESETS) == set(isolation_names())
    assert {name for name, _, _ in all_cells()} == set(MODELS)
