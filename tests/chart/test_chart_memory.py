"""The templates' memory arithmetic against the engine's and the command line's: presets and random shapes."""

import random
from fractions import Fraction
from math import ceil

import pytest
import yaml

from chart.rendering import (
    CHART,
    PRESET_VALUES,
    PRESETS,
    container,
    env,
    memory_limit,
    render,
    run,
    stated,
    workers,
)
from modelops_dask.settings import Settings
from modelops_dask.shape import RUNNER_MIN_BYTES, SUPERVISOR_BYTES, process_limit, runner_limit, runners
from mops_helm.values import effective
from mops_helm.values.quantity import to_bytes

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}
SEED = random.randrange(2**32)


def merged(values: dict) -> dict:
    """Values over the chart's defaults, maps merged."""

    def over(under: dict, top: dict) -> dict:
        both = {
            key: over(under[key], top[key]) for key in under.keys() & top.keys() if isinstance(top[key], dict)
        }
        return {**under, **top, **both}

    return over(DEFAULTS, values)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_mean_the_same_in_the_chart_and_here(preset):
    values = merged(PRESET_VALUES[preset.stem])
    deployment = workers(render("helm", "-f", preset))
    shape = effective.shape(values)
    assert memory_limit(render("helm", "-f", preset)) == shape.process_memory_bytes
    assert to_bytes(container(deployment)["resources"]["limits"]["memory"]) == shape.pod_memory_bytes
    variables = {name: value for name, value in env(deployment).items() if isinstance(value, str)}
    in_the_pod = Settings.from_env(variables)
    here = effective.settings(values)
    paths = {"bundles_cache_dir", "venvs_dir"}
    for name in Settings.__dataclass_fields__.keys() - paths:
        assert getattr(in_the_pod, name) == getattr(here, name), name
    own = effective.worker_env(values)
    assert {name: variables[name] for name in own} == own


def random_quantity(chance: random.Random, around_bytes: int) -> str:
    """A quantity near a number of bytes, in a random unit, with up to three decimals."""
    unit, size = chance.choice([(unit, size) for unit, size in UNITS.items() if size <= around_bytes])
    decimals = chance.randrange(4) if unit else 0
    return f"{around_bytes / size:.{decimals}f}{unit}"


def exact_bytes(quantity: str) -> int:
    """Kubernetes' reading, by rational numbers: rounded up to whole bytes."""
    digits = quantity.rstrip("KMGTik")
    return ceil(Fraction(digits) * UNITS[quantity.removeprefix(digits)])


def test_random_shapes(tmp_path):
    """Many pools in one render: what the chart computes is what exact arithmetic says."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    pools = {}
    for number in range(60):
        processes = chance.randint(1, 9)
        pool = {"processes": processes, "threads": chance.randint(1, 4)}
        around_bytes = chance.randint(2**30, 2**33)
        of_the_pod = random_quantity(chance, around_bytes * processes)
        match chance.choice(["own", "request", "limit"]):
            case "own":
                pool["memoryPerProcess"] = random_quantity(chance, around_bytes)
            case "request":
                pool["resources"] = {"requests": {"memory": of_the_pod}}
            case "limit":
                pool["resources"] = {"requests": {"memory": "1Mi"}, "limits": {"memory": of_the_pod}}
        pools[f"p{number}"] = pool
    objects = render("helm", *stated({"pools": pools}, tmp_path / "pools.yaml"))
    for name, pool in pools.items():
        resources = pool.get("resources", {})
        quantity = resources.get("limits", resources.get("requests", {})).get("memory")
        if quantity:
            pod_bytes = exact_bytes(quantity)
        else:
            pod_bytes = pool["processes"] * exact_bytes(pool["memoryPerProcess"]) + SUPERVISOR_BYTES
        memory = container(workers(objects, name))["resources"]["limits"]["memory"]
        assert exact_bytes(memory) == pod_bytes, pool
        assert memory_limit(objects, name) == process_limit(pod_bytes, pool["processes"]), pool
        assert effective.shape(merged({"pools": pools}), name).pod_memory_bytes == pod_bytes, pool


@pytest.mark.parametrize(("threads", "pool_size"), [(1, 0), (3, 0), (1, 2), (4, 2)])
@pytest.mark.parametrize("executor", ["isolated_warm", "isolated_fork", "cold"])
def test_the_chart_refuses_exactly_what_leaves_a_runner_too_little(threads, pool_size, executor, tmp_path):
    settings = Settings(subprocess_pool_size=pool_size)
    count = runners(threads, pool_size)
    least = settings.worker_memory_bytes + count * RUNNER_MIN_BYTES

    def accepted(memory_bytes: int) -> bool:
        assert (runner_limit(memory_bytes, settings.worker_memory_bytes, count) >= RUNNER_MIN_BYTES) == (
            memory_bytes >= least
        )
        values = {
            "workers": {"threads": threads, "memoryPerProcess": str(memory_bytes)},
            "executor": {"type": executor, "subprocessPoolSize": pool_size},
        }
        done = run("helm", *stated(values, tmp_path / f"{memory_bytes}.yaml"))
        assert done.returncode == 0 or "the minimum is 64Mi" in done.stderr, done.stderr
        return done.returncode == 0

    assert accepted(least)
    assert not accepted(least - 1)


@pytest.mark.parametrize("executor", ["direct", "none"])
def test_without_runners_the_worker_is_all_there_is(executor, tmp_path):
    values = {"executor": {"type": executor}, "workers": {"memoryPerProcess": "64Mi"}}
    assert memory_limit(render("helm", *stated(values, tmp_path / "least.yaml"))) == RUNNER_MIN_BYTES
    values["workers"]["memoryPerProcess"] = "63Mi"
    assert run("helm", *stated(values, tmp_path / "less.yaml")).returncode != 0
