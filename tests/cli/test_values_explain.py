"""`values explain` says what values mean in pods, processes, threads and bytes."""

import json
import shlex

import pytest
import yaml
from click.testing import CliRunner

from helm_programs import BOTH_HELMS, CHART, template
from mops_helm.main import main
from mops_helm.values import explain, layers

GIB = 2**30
GUIDE = """
workers:
  replicas: 2
  processes: 4
  threads: 1
  memoryPerProcess: 2Gi
  resources: {requests: {cpu: "4"}}
dask:
  config:
    distributed: {worker: {memory: {target: 0.90, spill: 0.95, pause: 0.98, terminate: false}}}
"""


@pytest.fixture
def mine(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def run(*arguments):
    done = CliRunner().invoke(main, ["values", "explain", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_guides_thresholds_at_2gi(mine):
    (pool,) = json.loads(run(mine(GUIDE), "-o", "json"))["pools"]
    assert pool["processBytes"] == 2 * GIB
    assert pool["spillPoints"]["target"] == int(1.8 * GIB)
    assert pool["spillPoints"]["pause"] == int(1.96 * GIB)
    assert pool["spillPoints"]["terminate"] is None
    text = run(mine(GUIDE))
    assert "target 0.9 = 1.8Gi; spill 0.95 = 1.9Gi; pause 0.98 = 1.96Gi; terminate off" in text
    assert "at most 1024 processes kept: 4 processes x 128 x 2 pods" in text


def test_a_childs_budget_and_the_runners(mine):
    values = (
        "workers: {processes: 2, threads: 2, memoryPerProcess: 2208Mi}\nexecutor: {subprocessPoolSize: 4}\n"
    )
    (pool,) = json.loads(run(mine(values), "-o", "json"))["pools"]
    assert pool["runnersPerProcess"] == 4
    assert pool["childBytes"] == (2208 - 160) * 2**20 // 4
    assert "512Mi each, 4 side by side in a process" in run(mine(values))


def test_autoscaled_pods_are_a_range(mine):
    text = run(mine("workers: {autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 10}}\n"))
    assert "Pods        2 to 10\n" in text
    assert "at most 5120 processes kept: 4 processes x 128 x 10 pods" in text


def test_each_pool_is_explained(mine):
    explained = json.loads(
        run(mine("pools: {large: {replicas: 1, processes: 1, threads: 4}}\n"), "-o", "json")
    )
    assert [(pool["name"], pool["tasksAtOnce"]) for pool in explained["pools"]] == [
        ("default", 16),
        ("large", 4),
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            "workers: {processes: 4, resources: {requests: {cpu: 2}}}",
            "4 tasks at once on 2 CPUs: each gets a part",
        ),
        (
            "workers: {processes: 2, resources: {requests: {cpu: 8}}}",
            "2 tasks at once on 8 CPUs: tasks queue",
        ),
        ("workers: {threads: 4}\nexecutor: {type: direct}", "4 threads share one interpreter (direct)"),
        (
            "workers: {processes: 1, resources: {requests: {memory: 4Gi}}}",
            "One process has the whole pod's 4Gi",
        ),
        ("executor: {type: direct}", "direct keeps all state between tasks"),
        ("workers: {memoryPerProcess: 400Mi}", "A runner has 240Mi; a model with starsim loaded takes 330Mi"),
        (
            "workers: {memoryPerProcess: 800Mi}",
            "Memory holds about 10 warm processes per worker process, not 128",
        ),
    ],
)
def test_advice_from_values_alone(values, said, mine):
    assert said in run(mine(values))


def test_well_shaped_values_get_no_advice(mine):
    values = "workers: {resources: {requests: {cpu: 4}}}\nexecutor: {maxWarmProcesses: 4}"
    assert "Note" not in run(mine(values))


@BOTH_HELMS
def test_the_command_is_the_one_that_the_chart_renders(helm, mine):
    path = mine(
        "workers: {processes: 3, threads: 2, memoryPerProcess: 1.5Gi, daskResources: {a: 1, b: 0.5}}\n"
    )
    objects = yaml.safe_load_all(template(helm, CHART, "-f", path).stdout)
    (deployment,) = [
        obj for obj in objects if obj and obj["kind"] == "Deployment" and "worker" in obj["metadata"]["name"]
    ]
    rendered = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    (pool,) = explain.explain(layers.resolve((), [path], ()).values).pools
    ours = shlex.split(pool.command)
    begin = rendered.index("--nworkers")
    assert rendered[begin - 3 : begin - 1] == ours[:2] == ["dask", "worker"]
    assert rendered[begin : begin + len(ours) - 3] == ours[3:]


def test_bad_values_are_refused_with_their_findings(mine):
    done = CliRunner().invoke(main, ["values", "explain", str(mine("workers: {threads: 0}\n"))])
    assert done.exit_code == 2
    assert "OUT_OF_RANGE" in done.stderr
    assert done.stdout == ""
