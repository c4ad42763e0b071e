"""The layers lie in the documented order, merge as in helm, and amount to what the chart renders."""

import json
import random

import pytest
import yaml
from click.testing import CliRunner

from helm_programs import BOTH_HELMS, CHART, template
from mops_helm import paths
from mops_helm.main import main
from mops_helm.values import effective, layers, presets, schema
from mops_helm.values.findings import BadValues
from mops_helm.values.load import loads
from mops_helm.values.merge import overlay

ISOLATION = [preset.name for preset in presets.all_presets() if preset.kind == "isolation"]
WORKLOADS = [preset.name for preset in presets.all_presets() if preset.kind == "workload"]


def test_the_order_of_the_layers(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {replicas: 7, threads: 3}\nexecutor: {type: direct, maxWarmProcesses: 5}\n")
    over_workload = layers.resolve(["simulation"], [path], ()).values
    assert over_workload["workers"]["replicas"] == 7  # the file, over the preset
    assert over_workload["workers"]["memoryPerProcess"] == "1000Mi"  # the preset, over the chart
    under_isolation = layers.resolve(["single-process"], [path], ["workers.replicas=9"]).values
    assert under_isolation["executor"]["type"] == "isolated_warm"  # the preset, over the file
    assert under_isolation["executor"]["maxWarmProcesses"] == 5  # the file: the preset says nothing
    assert under_isolation["workers"]["replicas"] == 9  # --set, over all
    for both in (["simulation", "single-process"], ["single-process", "simulation"]):
        values = layers.resolve(both, [path], ()).values
        assert values["workers"]["memoryPerProcess"] == "1000Mi" and values["preset"] == "single-process"
        assert values["workers"]["replicas"] == 7 and values["executor"]["type"] == "isolated_warm"


SPEC, MINE = str(paths.ROOT / "examples/sir/study.yaml"), str(paths.PRESETS / "runner.yaml")
TWO = ["--preset", "simulation", "--preset", "local"]


@pytest.mark.parametrize(
    "typed",
    [
        ["study", "run", SPEC],
        ["study", "plan", SPEC],
        ["study", "try", SPEC],
        ["study", "verify", "out/any"],
        ["preset", "diagnose", "--study", SPEC],
        ["values", "check", MINE],
        ["values", "explain", MINE],
    ],
    ids=lambda typed: " ".join(typed[:2]),
)
def test_two_presets_of_a_kind_are_refused_by_every_command(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*typed, *TWO])
    assert done.exit_code == 2, done.output
    assert done.stderr == "simulation and local are both workload presets: use one of each kind\n"
    assert list(tmp_path.iterdir()) == []


def test_bad_values_raise_every_finding(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {replcias: 7, threads: 0}\n")
    with pytest.raises(BadValues) as caught:
        layers.resolve((), [path], ())
    assert [finding.code for finding in caught.value.findings] == ["UNKNOWN_NAME", "OUT_OF_RANGE"]
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("isolation", ISOLATION)
def test_an_isolation_preset_over_a_workload_changes_isolation_alone(isolation, workload):
    before = layers.resolve([workload], (), ())
    after = layers.resolve([isolation], [presets.find(workload).path], ())
    stated = presets.find(isolation).values
    for path, _, now in layers.compare(before, after):
        section, _, key = path.partition(".")
        assert section == "preset" or key in stated[section], f"{path} is now {now}"
    process = effective.shape(after.values).process_memory_bytes
    assert process >= effective.shape(before.values).process_memory_bytes


def tree(rng, depth):
    """Random values: maps, lists, scalars."""
    kinds = ["map", "map", "list", "text", "number", "boolean"] if depth else ["text", "number", "boolean"]
    kind = rng.choice(kinds)
    if kind == "map":
        return {rng.choice("abcd"): tree(rng, depth - 1) for _ in range(rng.randrange(4))}
    if kind == "list":
        return [tree(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {"text": "t" + rng.choice("xyz"), "number": rng.randrange(9), "boolean": rng.random() < 0.5}[kind]


@BOTH_HELMS
def test_files_merge_as_in_helm(helm, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: probe\nversion: 0.1.0\n")
    (tmp_path / "templates" / "values.yaml").write_text("# {{ toJson .Values }}\n")
    for _ in range(12):
        texts = [json.dumps({key: tree(rng, 3) for key in "abc"}) for _ in range(3)]
        arguments = []
        root = loads("{}", "none").root
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.yaml"
            path.write_text(text)
            arguments += ["-f", path]
            root = overlay(root, loads(text, str(path)).root)
        done = template(helm, tmp_path, *arguments)
        assert root.plain() == json.loads(done.stdout.splitlines()[-1][2:]), texts


POOLS = """
preset: ""
workers:
  env: {A: 1, B: true, C: 0.5, D: "NO"}
  daskResources: {process: 1, memory: 1000000, part: 0.5}
pools:
  default: {replicas: 3}
  large: {replicas: 0, processes: 1, memoryPerProcess: 1.5Gi, env: {A: 2}, daskResources: {gpu: 1}}
  limited: {resources: {limits: {memory: 14G, cpu: 1500m}, requests: {memory: 1Gi, cpu: 1}}, threads: 2}
executor: {workerMemory: 128M, maxWarmProcesses: 1000000, validateDeps: false, subprocessPoolSize: 3}
"""


@BOTH_HELMS
@pytest.mark.parametrize("name", [*presets.list_names(), "pools"])
def test_the_chart_renders_what_the_values_amount_to(helm, name, tmp_path):
    path = tmp_path / "pools.yaml"
    path.write_text(POOLS)
    path = path if name == "pools" else presets.find(name).path
    values = layers.resolve((), [path], ()).values
    done = template(helm, CHART, "-f", path)
    assert done.returncode == 0, done.stderr
    objects = [obj for obj in yaml.safe_load_all(done.stdout) if obj]
    workers = {
        obj["metadata"]["name"].removeprefix("probe-worker").lstrip("-") or "default": obj["spec"]
        for obj in objects
        if obj["kind"] == "Deployment" and "-worker" in obj["metadata"]["name"]
    }
    assert workers.keys() == effective.pools(values).keys()
    by_values = {name for name, owner in schema.variables().items() if owner}
    settings = {n: v for n, v in effective.settings(values).to_env().items() if n in by_values}
    assert settings.keys() == by_values
    for pool, spec in workers.items():
        shape = effective.shape(values, pool)
        (container,) = spec["template"]["spec"]["containers"]
        command = container["command"]
        flags = {flag: command[place + 1] for place, flag in enumerate(command) if flag.startswith("--")}
        assert spec["replicas"] == shape.replicas
        assert int(flags["--nworkers"]) == shape.processes
        assert int(flags["--nthreads"]) == shape.threads
        assert int(flags["--memory-limit"]) == shape.process_memory_bytes
        stated = dict(item.split("=") for item in flags.get("--resources", "").split())
        assert {resource: float(amount) for resource, amount in stated.items()} == shape.resources
        env = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        own = {n: v for n, v in env.items() if n in settings}
        assert own == settings
        user = effective.worker_env(values, pool)
        assert {n: env[n] for n in user} == user
    (text,) = [obj["data"]["modelops.json"] for obj in objects if "modelops.json" in obj.get("data", {})]
    assert json.loads(text) == effective.dask_config(values)
