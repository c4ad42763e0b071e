"""Presets: what they may state, what binds them, and what changes when one lies over another."""

import copy
from itertools import product

import pytest
import yaml

from chart.rendering import (
    HELMS,
    ISOLATION,
    PRESET_VALUES,
    PRESETS,
    ROOT,
    WORKLOAD,
    container,
    env,
    flag,
    layers,
    memory_limit,
    one,
    refusal,
    render,
    stated,
    text,
    title,
    workers,
)

by_name = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
both_helms = pytest.mark.parametrize("helm", HELMS)
ISOLATION_KEYS = {"type", "environment", "forceFreshVenv"}
SHAPE_KEYS = {"replicas", "processes", "threads", "memoryPerProcess", "resources", "daskResources", "env"}
SERIAL = {"debug-isolated", "single-process"}

# pods, processes, threads, memory and CPUs of a pod
SHAPES = {
    "simulation": (2, 4, 1, 4 * 2**30, "4"),
    "data-science": (4, 1, 4, 8 * 2**30, "4"),
    "mixed": (3, 2, 2, 6 * 2**30, "4"),
    "runner": (4, 2, 1, 8 * 2**30, "4"),
    "memory-heavy": (4, 2, 2, 8 * 2**30, "4"),
    "etl": (3, 1, 3, 14 * 10**9, "3"),
    "ml": (5, 1, 3, 14 * 10**9, "3"),
    "analytics": (8, 1, 3, 14 * 10**9, "3"),
}


def test_the_presets_are_those_of_the_guides():
    assert {path.stem for path in ISOLATION} == SERIAL | {
        "baseline",
        "direct",
        "fresh-venv",
        "cold",
        "isolated-fork",
    }
    shaped = set(SHAPES) | {"local", "external-threads"}
    assert {path.stem for path in WORKLOAD} == shaped, "add the preset to SHAPES, with its shape"


@by_name
def test_a_presets_comment_says_what_it_is_for(preset):
    lines = preset.read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    own = ["Bug gone:", "Bug here:"] if preset in ISOLATION else ["Shape:", "Leave:"]
    assert comment[0].startswith(f"# {preset.stem}: ")
    for word in ["For:", "Price:", *own]:
        assert any(line.startswith(f"# {word}") for line in comment), f"{preset.name} does not say {word}"


@pytest.mark.parametrize("preset", ISOLATION, ids=lambda path: path.stem)
def test_an_isolation_preset_states_isolation_alone(preset):
    values = PRESET_VALUES[preset.stem]
    assert values["preset"] == preset.stem
    assert set(values["executor"]) == ISOLATION_KEYS
    if preset.stem in SERIAL:
        assert values["workers"] == {"processes": 1, "threads": 1}
    assert set(values) == {"preset", "executor"} | ({"workers"} if preset.stem in SERIAL else set())


@pytest.mark.parametrize("preset", WORKLOAD, ids=lambda path: path.stem)
def test_a_workload_preset_states_shape_alone(preset):
    values = PRESET_VALUES[preset.stem]
    assert set(values["workers"]) <= SHAPE_KEYS
    assert {"replicas", "processes", "threads", "memoryPerProcess", "resources"} <= set(values["workers"])
    assert set(values.get("executor", {})) <= {"subprocessPoolSize"}
    assert set(values) <= {"workers", "executor", "dask"}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_of_a_workload_preset(name):
    pods, processes, threads, pod_bytes, cpus = SHAPES[name]
    deployment = workers(render("helm", "-f", ROOT / "values" / f"{name}.yaml"))
    assert deployment["spec"]["replicas"] == pods
    assert (flag(deployment, "--nworkers"), flag(deployment, "--nthreads")) == (str(processes), str(threads))
    resources = container(deployment)["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert in_bytes(resources["limits"]["memory"]) == pod_bytes
    assert resources["requests"]["cpu"] == cpus


def in_bytes(quantity: str) -> int:
    for unit, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * size
    return int(quantity)


def test_runner_and_external_threads():
    assert (
        env(workers(render("helm", "-f", ROOT / "values" / "runner.yaml")))["MODELOPS_SUBPROCESS_POOL_SIZE"]
        == "2"
    )
    external = workers(render("helm", "-f", ROOT / "values" / "external-threads.yaml"))
    assert flag(external, "--resources") == "process=1"
    threads = flag(external, "--nthreads")
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert {name: env(external)[name] for name in pools} == dict.fromkeys(pools, threads)


@by_name
def test_both_helms_render_the_same_bytes(preset):
    assert text("helm", "-f", preset) == text("helm3", "-f", preset)


# Bindings


def bindings() -> list[tuple[str, str]]:
    """Every isolation preset with each key it states, and another value for it."""
    others = {
        "executor.type": {"isolated_warm": "cold"},
        "executor.environment": {"bundle": "image", "image": "bundle"},
        "executor.forceFreshVenv": {True: "false", False: "true"},
        "workers.processes": {1: "4"},
        "workers.threads": {1: "2"},
    }
    cases = []
    for path, (place, other) in product(ISOLATION, others.items()):
        section, _, key = place.partition(".")
        stated_values = PRESET_VALUES[path.stem].get(section, {})
        if key in stated_values:
            change = other.get(stated_values[key], "isolated_warm")
            cases.append((path.stem, f"{place}={change}"))
            if section == "workers":
                cases.append((path.stem, f"pools.large.{key}={change}"))
    return cases


@both_helms
@pytest.mark.parametrize(("name", "change"), bindings(), ids=lambda value: value.replace("=", "-"))
def test_a_preset_binds_its_keys(helm, name, change):
    said = refusal(helm, "-f", ROOT / "values" / f"{name}.yaml", "--set", change)
    pointer = "/" + change.partition("=")[0].replace(".", "/")
    assert f"at '{pointer}': value must be" in said


@both_helms
def test_the_default_shape_is_refused_for_a_name_that_binds_another(helm):
    said = refusal(helm, "--set", "preset=single-process")
    assert "at '/workers/processes': value must be 1" in said


def test_an_unknown_name_binds_nothing():
    deployment = workers(render("helm", "--set", "preset=our-own", "--set", "executor.type=cold"))
    assert deployment["metadata"]["labels"]["modelops.io/preset"] == "our-own"


# An isolation preset over a workload preset

ISOLATION_ENV = {
    "MODELOPS_PRESET",
    "MODELOPS_EXECUTOR_TYPE",
    "MODELOPS_EXECUTOR_ENVIRONMENT",
    "MODELOPS_FORCE_FRESH_VENV",
}


def without_isolation(objects: list[dict], processes_too: bool) -> list[dict]:
    """The objects less what an isolation preset may change: for two of them, processes and memory too."""
    repeating = ("study-studies", "study-test")  # the values as they are, for readers of theirs
    objects = [copy.deepcopy(item) for item in objects if item["metadata"]["name"] not in repeating]
    for item in objects:
        item["metadata"]["labels"].pop("modelops.io/preset", None)
        if item["kind"] != "Deployment":
            continue
        item["spec"]["template"]["metadata"]["labels"].pop("modelops.io/preset", None)
        if not item["metadata"]["name"].startswith("study-worker"):
            continue
        worker = container(item)
        worker["env"] = [row for row in worker["env"] if row["name"] not in ISOLATION_ENV]
        if processes_too:
            for name in ("--nworkers", "--nthreads", "--memory-limit"):
                worker["command"][worker["command"].index(name) + 1] = "-"
            for side in ("requests", "limits"):
                worker["resources"][side]["memory"] = "-"
    return objects


@pytest.mark.parametrize(
    ("isolation", "workload"),
    list(product(ISOLATION, WORKLOAD)),
    ids=lambda path: path.stem,
)
def test_isolation_over_workload_changes_isolation_alone(isolation, workload):
    before, after = render("helm", "-f", workload), render("helm", *layers(workload, isolation))
    serial = isolation.stem in SERIAL
    assert without_isolation(before, serial) == without_isolation(after, serial)
    deployment = workers(after)
    states = PRESET_VALUES[isolation.stem]
    assert deployment["metadata"]["labels"]["modelops.io/preset"] == isolation.stem
    assert env(deployment)["MODELOPS_EXECUTOR_TYPE"] == states["executor"]["type"]
    assert env(deployment)["MODELOPS_EXECUTOR_ENVIRONMENT"] == states["executor"]["environment"]
    assert env(deployment)["MODELOPS_FORCE_FRESH_VENV"] == str(states["executor"]["forceFreshVenv"]).lower()
    if serial:
        assert (flag(deployment, "--nworkers"), flag(deployment, "--nthreads")) == ("1", "1")
    assert memory_limit(after) >= memory_limit(before)


@pytest.mark.parametrize("name", sorted(SERIAL))
@pytest.mark.parametrize(
    "mine",
    [
        {"workers": {"processes": 16, "memoryPerProcess": "300Mi"}},
        {"workers": {"processes": 3, "resources": {"requests": {"memory": "5Gi"}}}},
        {"workers": {"resources": {"limits": {"memory": "1.5Gi", "cpu": "2"}}}},
        {"pools": {"large": {"processes": 2, "memoryPerProcess": "7G"}}},
    ],
    ids=["per-process", "request", "limit", "pool"],
)
def test_fewer_processes_never_leave_one_with_less_memory(name, mine, tmp_path):
    mine = stated(mine, tmp_path / "mine.yaml")
    before = render("helm", *mine)
    # A pool states its own processes, so the preset's binding asks for them there too.
    pools = {"pools": {"large": {"processes": 1}}} if "large" in str(before) else {}
    after = render(
        "helm", *mine, "-f", ROOT / "values" / f"{name}.yaml", *stated(pools, tmp_path / "pools.yaml")
    )
    for pool in ["default", *pools.get("pools", {})]:
        assert memory_limit(after, pool) >= memory_limit(before, pool)


@pytest.mark.parametrize("first", ISOLATION, ids=lambda path: path.stem)
def test_one_isolation_preset_replaces_another_without_a_trace(first):
    second = next(path for path in ISOLATION if path != first and path.stem not in SERIAL)
    left = {"processes", "threads"} if first.stem in SERIAL else set()
    over = render("helm", *layers(first, second))
    alone = render("helm", "-f", second)
    assert without_isolation(over, bool(left)) == without_isolation(alone, bool(left))
    assert env(workers(over)) == env(workers(alone))


@by_name
def test_no_preset_touches_autoscaling(preset):
    values = yaml.safe_load(preset.read_text())
    assert "autoscaling" not in values.get("workers", {})
    objects = render("helm", "-f", preset, "--set", "workers.autoscaling.enabled=true")
    scaler = one(objects, "HorizontalPodAutoscaler", "study-worker")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
    assert "replicas" not in workers(objects)["spec"], title(scaler)
