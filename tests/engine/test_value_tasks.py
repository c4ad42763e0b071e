"""Values of functions, from the model's process to the tables: they are those of a plain call."""

import importlib.util
import json

import duckdb
import pandas as pd
import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.return_values.values import to_outputs
from study_helpers import SMALL, mops_helm

MODEL = """
import dataclasses
import random

import numpy as np
import pandas as pd
import polars as pl

@dataclasses.dataclass
class Person:
    age: int
    name: str = "é"

def simulate(n, seed):
    rng = random.Random(seed)
    days = pd.RangeIndex(n, name="day")
    return {
        "curve": pd.DataFrame({"x": [rng.random() for _ in range(n)]}, index=days),
        "people": [Person(rng.randrange(90)) for _ in range(n)],
        "towns": pl.DataFrame({"town": ["a", None][:n], "size": [1, 2][:n]}),
        "matrix": np.arange(2 * n).reshape(n, 2),
        "attack_rate": np.float64(rng.random()),
        "peak": None,
        "raw": bytes(n),
    }

def fail(n):
    return {"a": 1, "where": open(__file__)}
"""
KINDS = ["isolated_warm", "isolated_fork", "cold", "direct"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    write_bundle(folder / "bundle", {"model.py": MODEL})
    return folder


def simulate(bundle, n, seed):
    """What a plain call of the model returns."""
    spec = importlib.util.spec_from_file_location("values_model", bundle / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulate(n, seed)


def run(folder, kind, entrypoint, seed=5):
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    with executors.create(chosen) as executor:
        model = fetch(str(folder / "bundle"), chosen.bundles_cache_dir)
        return executor.run(executors.Task(model, entrypoint, {"n": 2}, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_executor_makes_the_outputs_of_a_plain_call(folder, kind):
    outcome = run(folder, kind, "model.simulate/baseline")
    assert outcome.status == "ok", outcome.error
    assert outcome.outputs == to_outputs(simulate(folder / "bundle", 2, 5))


def test_a_refusal_fails_the_task_with_words_and_no_frames_of_ours(folder):
    outcome = run(folder, "isolated_warm", "model.fail/baseline")
    assert (outcome.status, outcome.reason) == ("failed", "TypeError")
    assert outcome.error.strip().endswith(
        "TypeError: output 'where' is a TextIOWrapper (_io), which is not stored: return value.read()"
    )
    assert "values.py" not in outcome.error


def test_a_study_gives_the_tables_of_a_plain_loop(tmp_path):
    study = "model: model.simulate\ngrid: {n: [0, 1, 2]}\nreplicates: 2\n"
    write_bundle(tmp_path, {"model.py": MODEL, "study.yaml": study, ".modelopsignore": "cache\nstore\n"})
    store = tmp_path / "store"
    ran = mops_helm("study", "run", "study.yaml", "--store", store, *SMALL, cwd=tmp_path)
    assert ran.returncode == 0, ran
    in_image = ["--set", "executor.environment=image"]
    verified = mops_helm("study", "verify", store, "--sample", "2", *in_image, cwd=tmp_path)
    assert verified.returncode == 0 and "2 tasks run again" in verified.stdout, verified
    files = mops_helm("study", "results", store, "-o", "json", cwd=tmp_path)
    paths = {table["name"]: table["file"] for table in json.loads(files.stdout)}
    tasks = pd.read_parquet(paths["replicates"])[["param_n", "seed"]].itertuples(index=False)
    values = [(n, seed, simulate(tmp_path, n, seed)) for n, seed in tasks]
    curve = pd.concat([value["curve"].reset_index().assign(seed=seed) for _, seed, value in values])
    with duckdb.connect() as connection:
        found = connection.sql(f"select day, x, seed from '{paths['curve']}'").fetchall()
        rows = connection.sql(f"select attack_rate, peak from '{paths['result']}'").fetchall()
        people = connection.sql(f"select age, name from '{paths['people']}'").fetchall()
    assert found == [tuple(row) for row in curve.itertuples(index=False)]
    assert rows == [(value["attack_rate"], None) for _, _, value in values]
    assert people == [(person.age, person.name) for _, _, value in values for person in value["people"]]
