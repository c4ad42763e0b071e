"""A bundle as ModelOps' own tools leave it runs unchanged, with each way to name its wire function."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from executor_helpers import settings, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.executors import Task
from modelops_dask.plan import spec

PYPROJECT = """
[project]
name = "seir-model"
version = "0.3.0"
requires-python = ">=3.11"
dependencies = []

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["src/seir"]
"""
POINT = '\n[project.entry-points."modelops.wire"]\nexecute = "seir.wire:execute"\n'
REGISTRY = """
version: "1.0"
models:
  seir_v1:
    entrypoint: seir.model:Seir
    path: src/seir/model.py
    class_name: Seir
    outputs: [prevalence]
    data: [data/population.csv]
targets: {}
"""
STATE = {"last_synced_digest": "sha256:" + "1" * 64, "last_push_digests": {}}
WIRE = '''
import random
from pathlib import Path

from . import model

ROOT = Path(__file__).parents[2]


def execute(entrypoint: str, params: dict, seed: int) -> dict:
    """The contract's function: named tables as bytes."""
    people = int((ROOT / "data" / "population.csv").read_text())
    name, _, scenario = entrypoint.rpartition("/")
    table = model.run(people, params, random.Random(seed))
    return {"prevalence": table, "metadata": f"{name} {scenario} {seed}".encode()}
'''
MODEL = """
def run(people, params, chance):
    infected, rows = 1, ["day,infected"]
    for day in range(5):
        infected += sum(chance.random() < params["beta"] for _ in range(infected))
        rows.append(f"{day},{min(infected, people)}")
    return "\\n".join(rows).encode()
"""
BUNDLE = {
    "uv.lock": "",  # made by uv below
    ".modelops-bundle/registry.yaml": REGISTRY,
    ".modelops-bundle/config.yaml": "environment: local\nregistry_ref: localhost:5555/seir\n",
    ".modelops-bundle/state.json": json.dumps(STATE),
    ".modelops-bundle/tracked": "src/seir/model.py\nsrc/seir/wire.py\ndata/population.csv\n",
    ".gitignore": ".venv/\n",
    "src/seir/__init__.py": "",
    "src/seir/wire.py": WIRE,
    "src/seir/model.py": MODEL,
    "data/population.csv": "1000\n",
}
FORMS = {
    "entry point": {"pyproject.toml": PYPROJECT + POINT},
    "manifest": {
        "pyproject.toml": PYPROJECT,
        ".modelops/manifest.json": '{"wire": "src/seir/wire.py:execute"}',
    },
    "modelops.toml": {
        "pyproject.toml": PYPROJECT,
        ".modelops/modelops.toml": '[modelops]\nwire = "seir.wire:execute"\n',
    },
    "wire.py": {"pyproject.toml": PYPROJECT, "wire.py": "from seir.wire import execute as wire\n"},
}
STUDY = {
    "model": "seir.model.Seir",
    "scenario": "baseline",
    "parameter_sets": [{"params": {"beta": 0.4}, "seed": 52}],
    "sampling_method": "sobol",
    "n_replicates": 30,
    "outputs": None,
    "metadata": {},
    "targets": [],
}


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    """uv.lock of the bundle, which is the same for all forms."""
    folder = write_bundle(tmp_path_factory.mktemp("lock"), {"pyproject.toml": PYPROJECT + POINT})
    subprocess.run([find_uv_bin(), "lock", "-q", "--python", sys.executable], cwd=folder, check=True)
    return folder / "uv.lock"


@pytest.mark.parametrize("form", FORMS)
def test_it_runs_unchanged(tmp_path, lock, form):
    source = write_bundle(tmp_path / "seir", {**BUNDLE, **FORMS[form]})
    shutil.copy(lock, source / "uv.lock")
    before = bundle.digest(source)
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    study = spec.load(tmp_path / "study.json")
    ((params, seed),) = study.sets()
    outputs = {}
    for kind in ("isolated_warm", "cold", "direct"):
        chosen = settings(tmp_path, executor_type=kind)
        one = bundle.fetch(str(source), chosen.bundles_cache_dir)
        with executors.create(chosen) as executor:
            outcome = executor.run(Task(one, study.entrypoint, params, seed))
        assert outcome.status == "ok", outcome.error
        outputs[kind] = outcome.outputs
        if kind != "direct":
            (environment,) = (path.name for path in chosen.venvs_dir.iterdir() if (path / "bin").exists())
            assert Path(chosen.venvs_dir / environment / "bin" / "python").exists()
    assert outputs["isolated_warm"] == outputs["cold"] == outputs["direct"]
    assert outputs["direct"]["metadata"] == b"seir.model.Seir baseline 52"
    assert outputs["direct"]["prevalence"].startswith(b"day,infected\n0,")
    assert bundle.digest(source) == before, "nothing is written into it"
