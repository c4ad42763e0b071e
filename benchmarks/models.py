"""Twelve packages, each called by a function of at most ten lines: the same as a plain loop?

    models/NAME/study.yaml -> mops-helm study run -> a table, read by DuckDB
                           -> a loop in the study's environment that calls the function with the same
                              parameters and seeds -> rows
    both compared, value by value

    python benchmarks/models.py [NAME ...]    all by default; environments are built, which takes minutes

emodlib, of the list that this follows, is in no index; Ciw is in its place.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from modelops_dask.bundle import fetch
from modelops_dask.environments import venv
from modelops_dask.plan import spec as specs
from modelops_dask.plan.plan import Plan, Request
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.study.packages import read_pinned

FOLDER = Path(__file__).parent / "models"
SHAPE = ("--set", "workers.replicas=1,workers.processes=1")
SEED = "seed=seed"


class Case(NamedTuple):
    """A model: its package, the rows of its value, what it is passed besides parameters, its table."""

    package: str
    rows: str  # of `value`
    passes: str = SEED
    table: str = "result"


RECORDS = "value.reset_index().to_dict('records')"
CASES = {
    "ciw": Case("ciw", "value"),
    "cobra": Case("cobra", "[{'index': name, 'fluxes': flux} for name, flux in value.items()]", ""),
    "covasim": Case("covasim", "value.to_dict('records')"),
    "gillespy2": Case("gillespy2", "[dict(zip(value, row)) for row in zip(*map(list, value.values()))]"),
    "jax": Case("jax", "[{'price': price} for price in value['price'].tolist()]"),
    "libroadrunner": Case("roadrunner", "[dict(zip(value.colnames, row)) for row in value.tolist()]"),
    "mesa": Case("mesa", RECORDS),
    "msprime": Case(
        "msprime", "[{'position': x} for x in value['sites']['position'].tolist()]", SEED, "sites"
    ),
    "numba": Case("numba", "[{'path': step} for step in value['path'].tolist()]"),
    "polars": Case("polars", "value.to_dicts()", "rng=numpy.random.default_rng(seed)"),
    "simpy": Case("simpy", "value"),
    "starsim": Case("starsim", "value.to_dict('records')"),
}
# What a person would write without the engine.
LOOP = """
import json, os, sys
import numpy
sys.path.insert(0, os.getcwd())
import model

tasks = json.load(sys.stdin)
found = []
for params, seed in tasks:
    value = model.simulate(**params, {passes})
    found.append({rows})
with open({path!r}, "w") as file:
    json.dump(found, file, default=lambda value: value.item() if hasattr(value, "item") else str(value))
"""


def measure(names: list[str]) -> bool:
    """Print a line for each model; whether all are equal."""
    print("models of twelve packages, called by name: as a plain loop has them, and read by DuckDB")
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(name, Path(folder, name)) for name in names or CASES]
    return all(results)


def compare(name: str, folder: Path, *flags: str) -> bool:
    """Run a model's study and its loop, and print a line; whether they are equal. flags are of study run."""
    began, bundle_folder, store = time.monotonic(), FOLDER / name, folder / "store"
    study = bundle_folder / "study.yaml"
    command = [sys.executable, "-c", "from mops_helm.main import main; main()", "study", "run"]
    run = subprocess.run(
        [*command, str(study), "--store", str(store), *SHAPE, *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(f"  {name:<14} FAILED\n{run.stdout}{run.stderr}")
        return False
    seconds = time.monotonic() - began
    spec = specs.load(study)
    plan = Plan(spec.entrypoint, spec.table, Request(spec.replicates, ((0, spec.n_sets),)))
    tasks = [(task.params, task.seed) for task in plan.tasks([(0, plan.n_sets * plan.replicates)])]
    expected = _run_loop(name, folder, store, tasks, own="environment=image" in " ".join(flags))
    rows = _read_rows(store / "results" / "model_outputs" / f"{CASES[name].table}.parquet", plan)
    is_equal = _are_equal(rows, expected)
    n_rows = sum(map(len, rows))
    text = f"{len(rows)} tasks, {n_rows} rows: {'equal' if is_equal else 'DIFFERENT'}"
    print(f"  {name:<14} {text}, {seconds:.1f} s with its environment")
    return is_equal and n_rows > 0


def _run_loop(name: str, folder: Path, store: Path, tasks: list, own: bool) -> list[list[dict[str, Any]]]:
    """The rows of each task by a plain loop, in the environment that the study had."""
    settings, case, path = Settings.from_env(), CASES[name], folder / "loop.json"
    bundle = read_pinned(Store(str(store)), fetch(str(FOLDER / name), settings.bundles_cache_dir), settings)
    python = sys.executable if own else venv.environment(bundle, settings).python
    text = LOOP.format(passes=case.passes, rows=case.rows, path=str(path))
    text = text if "numpy" in case.passes else text.replace("import numpy\n", "")
    subprocess.run(
        [python, "-s", "-c", text], input=json.dumps(tasks), text=True, check=True, cwd=FOLDER / name
    )
    rows: list[list[dict[str, Any]]] = json.loads(path.read_text())
    return rows


def _read_rows(path: Path, plan: Plan) -> list[list[dict[str, Any]]]:
    """The rows of each task by DuckDB, in their order, without the columns that the engine adds."""
    query = f"SELECT * FROM read_parquet('{path}', file_row_number=true) ORDER BY file_row_number"
    result = duckdb.execute(query)
    names = [column[0] for column in result.description or ()]
    own = {"set", "replicate", "seed", "param_id", "file_row_number"}
    tasks: list[list[dict[str, Any]]] = [[] for _ in range(plan.n_tasks)]
    for values in result.fetchall():
        row = dict(zip(names, values, strict=True))
        number = row["set"] * plan.replicates + row["replicate"]
        returned = [column for column in names if column not in own and not column.startswith("param_")]
        tasks[number].append({column.removesuffix("_model"): row[column] for column in returned})
    return tasks


def _are_equal(rows: list, expected: list) -> bool:
    if len(rows) != len(expected) or any(len(a) != len(b) for a, b in zip(rows, expected, strict=True)):
        return False
    pairs = [pair for a, b in zip(rows, expected, strict=True) for pair in zip(a, b, strict=True)]
    return all(a.keys() == b.keys() and all(_is_same(a[name], b[name]) for name in a) for a, b in pairs)


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(other, float) and math.isnan(other):
        return value is None or (isinstance(value, float) and math.isnan(value))
    return bool(value == other) or str(value) == str(other)


if __name__ == "__main__":
    sys.exit(not measure(sys.argv[1:]))
