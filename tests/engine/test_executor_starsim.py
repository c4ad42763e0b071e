"""Executors with the incident's model and with numba, in Starsim's environment: 1 GB, from a package index.

It is kept in the user's cache of environments, like that of `make demo-starsim`: the first run builds it.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from executor_helpers import write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import venv
from modelops_dask.errors import MopsError
from modelops_dask.settings import Settings

STARSIM = Path(__file__).parents[2] / "examples" / "starsim-sir"
KINDS = ("cold", "isolated_fork", "isolated_warm")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """Settings with that environment and no compiled code."""
    own = Settings(bundles_cache_dir=tmp_path_factory.mktemp("bundles"))
    try:
        venv.environment(bundle.fetch(str(STARSIM), own.bundles_cache_dir), own)
    except MopsError as error:
        if "Failed to fetch" not in str(error):
            raise
        pytest.skip(f"no package index: {error}")
    return own


def test_results_of_starsim_are_those_of_a_new_interpreter_in_any_order(chosen):
    order = random.Random(order_seed := random.randrange(1 << 32))
    print("order seed", order_seed)
    source = bundle.fetch(str(STARSIM), chosen.bundles_cache_dir)
    params = {"beta": 0.05, "n_contacts": 10, "days": 30}
    runs = {}
    for kind in KINDS:
        seeds = [1, 2] if kind == "cold" else order.sample([1, 2] * 3, 6)
        with executors.create(replace(chosen, executor_type=kind)) as executor:
            for seed in seeds:
                one = executors.Task(source, "models.starsim_sir.StarsimSIR/baseline", params, seed)
                outcome = executor.run(one)
                assert outcome.status == "ok", outcome
                assert runs.setdefault(seed, outcome.outputs) == outcome.outputs, (kind, seed)
            assert kind != "isolated_fork" or len(executor.idle()) == 1, "it fell back to new interpreters"
    assert runs[1] != runs[2]


COMPILES = """
import numba

TOLD = []

@numba.njit(cache=True)
def total(values):
    return values.sum()

def wire(entrypoint, params, seed):
    import numpy
    had, before = len(total.signatures), len(TOLD)
    TOLD.append(seed)
    value = total(numpy.arange(seed))
    compiled = sum(total.stats.cache_misses.values())
    return {"had": str(had), "compiled": str(compiled), "before": str(before), "value": str(value)}
"""


def test_what_numba_compiled_is_kept_and_replayed(chosen, tmp_path):
    """A zygote has what its first task compiled, not what it computed; a later process reads the disk."""
    pyproject = (STARSIM / "pyproject.toml").read_text().partition("[project.entry-points")[0]
    source = write_bundle(tmp_path / "compiles", {"wire.py": COMPILES, "pyproject.toml": pyproject})
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    seen = {}
    for kind in ("isolated_fork", "cold", "isolated_warm"):
        with executors.create(replace(chosen, executor_type=kind)) as executor:
            outcomes = [executor.run(executors.Task(one, "any/any", {}, seed)) for seed in (3, 4)]
            assert kind != "isolated_fork" or len(executor.idle()) == 1, "it fell back to new interpreters"
        assert [outcome.status for outcome in outcomes] == ["ok", "ok"], outcomes
        assert [outcome.outputs["value"] for outcome in outcomes] == [b"3", b"6"]
        names = ("had", "compiled", "before")
        seen[kind] = [tuple(int(outcome.outputs[name]) for name in names) for outcome in outcomes]
    assert seen == {  # (signatures it began with, compiled now, tasks before it in its memory)
        "isolated_fork": [(0, 1, 0), (1, 0, 0)],
        "cold": [(0, 0, 0), (0, 0, 0)],
        "isolated_warm": [(0, 0, 0), (1, 0, 1)],
    }
    assert list(Path(f"{one.path}.numba").rglob("*.nbc")), "compiled code lies beside the bundle's copy"
