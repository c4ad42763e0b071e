"""Models of other packages, called by name, against plain loops: those whose package the tests have, while
`make bench-models` has all. The comparison says when something differs.
"""

import ast
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def models():
    spec = importlib.util.spec_from_file_location("bench_models", FOLDER / "models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_of_polars_is_as_in_a_plain_loop(models, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))
    flags = ["--set", "executor.environment=image"]
    assert models.compare("polars", tmp_path / "equal", *flags)
    case = models.CASES["polars"]._replace(passes="rng=numpy.random.default_rng(seed + 1)")
    monkeypatch.setitem(models.CASES, "polars", case)
    assert not models.compare("polars", tmp_path / "different", *flags)
    out = capfd.readouterr().out
    assert "36 rows: equal" in out and "36 rows: DIFFERENT" in out


@pytest.mark.parametrize("name", ["msprime", "simpy"])
def test_a_model_of_another_package_is_as_in_a_plain_loop(models, name, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))
    assert models.compare(name, tmp_path / "equal", "--set", "executor.environment=image")
    assert "rows: equal" in capfd.readouterr().out


def test_twelve_packages_each_in_at_most_ten_lines(models):
    assert len(models.CASES) == 12 and set(models.CASES) == {
        path.name for path in (FOLDER / "models").iterdir()
    }
    for name in models.CASES:
        (function,) = [
            node
            for node in ast.parse((FOLDER / "models" / name / "model.py").read_text()).body
            if isinstance(node, ast.FunctionDef) and node.name == "simulate"
        ]
        n_lines = function.end_lineno - function.lineno + 1
        assert n_lines <= 10, name
        assert not (FOLDER / "models" / name / "wire.py").exists()
