"""What workers say of themselves: the facts as data, and /metrics of each process, over HTTP."""

import socket
import subprocess
import sys
import urllib.request
from dataclasses import fields

import pytest
from distributed import Client, LocalCluster
from prometheus_client.parser import text_string_to_metric_families

from executor_helpers import FAULTS, run_here, settings, task
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.study import begin
from modelops_dask.study.batch import Batch, RunContext, run_batch
from modelops_dask.workers.runtime import runtime
from study_helpers import KNOBS, write_spec


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function (settings) -> Client of two worker processes that were given one port, as in a pod."""
    opened = []

    def start(**chosen):
        for name, value in settings(tmp_path, **chosen).to_env().items():
            monkeypatch.setenv(name, value)
        local = LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1GiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=f"127.0.0.1:{free_port()}",
            preload=["modelops_dask.worker"],
        )
        opened.append(local)
        opened.append(Client(local))
        return opened[-1]

    yield start
    for one in reversed(opened):
        one.close()


def scrape(port: int) -> dict[tuple, float]:
    """{(sample, label values in the order of their names): value} of ours, at a process's /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name.removeprefix("modelops_"), *(value for _, value in sorted(sample.labels.items()))): (
                sample.value
            )
            for family in families
            for sample in family.samples
            if sample.name.startswith("modelops_")
        }


def test_every_process_of_a_pod_has_metrics_of_its_own(cluster, tmp_path):
    client = cluster(executor_environment="image", max_process_reuse=4)
    found = [(facts["http_ports"], worker) for worker, facts in client.run(runtime).items()]
    (((wanted,), address), (other, _)) = sorted(found, key=lambda item: len(item[0]))
    assert any(wanted < port < wanted + 64 for port in other), "the next free port"

    loaded = spec.load(write_spec(tmp_path, n=10, raises=[3], kills=[5]))
    bundle = fetch(str(KNOBS), tmp_path / "bundles")
    files = Store(str(tmp_path / "store"))
    source = RunContext(files, begin(files, loaded, bundle.digest).request, bundle)
    for part, ranges in (("a", ((0, 6),)), ("b", ((6, 10),))):
        client.submit(run_batch, Batch(source, part, ranges, 60), workers=[address]).result(timeout=60)

    seen = scrape(wanted)
    assert seen["tasks_total", "isolated_warm", "ok"] == 8
    assert seen["tasks_total", "isolated_warm", "failed"] == 1
    assert seen["tasks_total", "isolated_warm", "died"] == 1
    assert seen["task_seconds_count", "isolated_warm"] == 10
    assert seen["task_seconds_bucket", "isolated_warm", "+Inf"] == 10
    assert 0 < seen["task_seconds_sum", "isolated_warm"] < 60
    assert seen["task_peak_bytes_bucket", "isolated_warm", "+Inf"] == 10
    assert seen["task_peak_bytes_sum", "isolated_warm"] > 8 * 5 * 2**20, "Python takes more than 5 MiB"
    assert seen["runner_retirements_total", "lost"] == 1
    assert seen["runner_retirements_total", "reuse"] == 2
    assert seen["runner_starts_total",] - seen["runner_retirements_total", "lost"] - 2 == sum(
        seen["runners", state] for state in ("idle", "busy")
    )
    assert seen["cache_lookups_total", "bundle", "hit"] == 1
    assert ("tasks_total", "isolated_warm", "ok") not in scrape(max(other)), "it ran none"


def test_environments_built_and_found_are_counted(cluster, tmp_path):
    client = cluster()
    (worker, facts), _ = client.run(runtime).items()
    for seed in range(2):
        one = task(FAULTS, settings(tmp_path), seed=seed)
        client.submit(run_here, one, workers=[worker]).result(timeout=60)
    seen = scrape(facts["http_ports"][0])
    assert seen["cache_lookups_total", "environment", "miss"] == 1
    assert seen["environment_build_seconds_count",] == 1
    assert seen["runner_reuses_total",] == 1


def test_the_facts_are_those_in_effect(cluster):
    client = cluster(preset="cold", executor_type="cold", max_warm_processes=7, subprocess_pool_size=2)
    for facts in client.run(runtime).values():
        assert (facts["preset"], facts["executor"]) == ("cold", "cold")
        assert (facts["threads"], facts["runners"], facts["max_warm_processes"]) == (1, 2, 7)
        assert facts["memory_limit_bytes"] == 1 << 30
        assert facts["pool"] == {"idle": 0, "busy": 0}
        renamed = {"executor_type", "executor_environment", "subprocess_pool_size"}
        assert {item.name for item in fields(Settings)} - renamed <= set(facts), "every setting shows"
        info = scrape(facts["http_ports"][0])
        (labels,) = [key for key in info if key[0] == "runtime_info"]
        assert "cold" in labels


def test_a_worker_without_prometheus_client_works():
    script = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from modelops_dask import metrics\n"
        "metrics.count('tasks', 'direct', 'ok', by=3)\n"
        "metrics.observe('task_seconds', [0.1], 'direct')\n"
        "print(metrics.serve({'preset': ''}, dict))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
