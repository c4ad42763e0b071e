"""The example models do what their descriptions say; their studies have the sizes that the documents name."""

import importlib
import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelops_dask.plan import spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCAFFOLD = EXAMPLES.parent / "cli" / "mops_helm" / "scaffold" / "files"
PARAMS = {"r0": 2.5, "infectious_days": 5.0}


@pytest.fixture
def sir(monkeypatch):
    """models.sir and models.wire of examples/sir, imported as a runner would."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "sir"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("models.wire")
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        del sys.modules[name]


def table(data: bytes) -> pa.Table:
    return pa.ipc.open_file(io.BytesIO(data)).read_all()


@pytest.mark.parametrize("scenario", ["baseline", "lockdown"])
def test_population_is_conserved(sir, scenario):
    for seed in range(5):
        run = sir.sir.simulate(scenario, seed, **PARAMS)
        for people in (run.susceptible, run.infectious, run.recovered):
            assert (people >= 0).all()
        assert (run.susceptible + run.infectious + run.recovered == 10_000).all()
        assert (np.diff(run.susceptible) <= 0).all() and (np.diff(run.recovered) >= 0).all()


def test_same_seed_same_bytes_and_another_seed_others(sir):
    first = sir.wire("models.sir.simulate/baseline", PARAMS, 7)
    sir.wire("models.sir.simulate/baseline", PARAMS, 8)
    assert sir.wire("models.sir.simulate/baseline", PARAMS, 7) == first
    assert sir.wire("models.sir.simulate/baseline", PARAMS, 8) != first


def test_below_one_the_epidemic_dies_out_and_above_it_does_not(sir):
    def attack_rate(r0: float) -> float:
        """Median over seeds: a single epidemic may die out by chance at any R0."""
        runs = [sir.sir.simulate("baseline", seed, r0=r0, infectious_days=5) for seed in range(20)]
        return float(np.median([run.recovered[-1] for run in runs])) / 10_000

    assert attack_rate(0.5) < 0.01
    assert attack_rate(0.0) == pytest.approx(10 / 10_000)
    # The final size of an SIR epidemic solves z = 1 - exp(-R0 z): 0.797 for R0 = 2.
    assert attack_rate(2.0) == pytest.approx(0.797, abs=0.03)


def test_lockdown_lowers_the_peak(sir):
    def peak(scenario: str) -> float:
        return np.median(
            [
                sir.sir.simulate(scenario, seed, r0=1.8, infectious_days=8).infectious.max()
                for seed in range(20)
            ]
        )

    assert peak("lockdown") < 0.8 * peak("baseline")


def test_tables(sir):
    outputs = sir.wire("models.sir.simulate/baseline", PARAMS, 1)
    assert sorted(outputs) == ["incidence", "summary"]
    incidence, summary = table(outputs["incidence"]), table(outputs["summary"])
    assert incidence.column_names == ["week", "infections"] and incidence.num_rows == 52
    assert summary.num_rows == 1
    infected = sum(incidence["infections"].to_pylist())
    assert summary["attack_rate"].to_pylist() == [pytest.approx(infected / 9_990)]


@pytest.mark.parametrize(
    ("entrypoint", "params", "error"),
    [
        ("models.sir.simulate/nowhere", PARAMS, KeyError),
        ("models.seir.simulate/baseline", PARAMS, ValueError),
        ("models.sir.simulate/baseline", PARAMS | {"bta": 1}, TypeError),
        ("models.sir.simulate/baseline", PARAMS | {"r0": float("nan")}, ValueError),
        ("models.sir.simulate/baseline", PARAMS | {"infected_at_start": 10_000}, ValueError),
    ],
)
def test_wrong_calls_fail(sir, entrypoint, params, error):
    with pytest.raises(error):
        sir.wire(entrypoint, params, 1)


def test_the_study_in_modelops_form_is_json():
    study = json.loads((EXAMPLES / "sir" / "study.json").read_text())
    assert study["n_replicates"] == 10 and len(study["parameter_sets"]) == 5


@pytest.mark.parametrize(
    "folder", [EXAMPLES / "sir", EXAMPLES / "starsim-sir", SCAFFOLD], ids=lambda path: path.name
)
def test_versions_are_exact_and_those_of_the_lock_file(folder):
    """So that the first run downloads nothing that `make install` has not (docs/decisions/0002)."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    locked = (EXAMPLES.parent / "requirements.lock").read_text()
    for dependency in project["dependencies"]:
        assert "==" in dependency
        name = dependency.partition("==")[0]
        assert f"\n{dependency} " in locked or f"\n{name}==" not in locked, dependency


def test_the_program_of_the_example_keeps_its_population_and_its_seed(tmp_path):
    def run(seed: int) -> tuple[list[list[str]], dict]:
        (tmp_path / "out").mkdir(exist_ok=True)
        command = [EXAMPLES / "command" / "model", "2.5", "5", "500", str(seed)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        rows = [line.split(",") for line in (tmp_path / "out" / "curve.csv").read_text().splitlines()]
        return rows, json.loads(done.stdout)

    (names, *rows), summary = run(7)
    assert names == ["day", "susceptible", "infected", "recovered", "attack_rate"]
    assert all(sum(map(int, row[1:4])) == 500 for row in rows)
    assert summary["peak"] == max(int(row[2]) for row in rows) and summary["days"] == int(rows[-1][0])
    assert run(7) == ([names, *rows], summary)
    assert any(run(seed)[1] != summary for seed in range(8, 12))
    study = spec.load(EXAMPLES / "command" / "study.yaml")
    assert study.n_tasks == 100
