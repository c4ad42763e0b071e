"""Processes and threads: how many a pod or a user may have, and which shapes take more."""

import os
import random
import resource
import subprocess
import sys

import pytest
from distributed import Client, LocalCluster

from limits_helpers import V1, V2, cgroup_of_processes, tree
from modelops_dask.limits import process_count
from modelops_dask.limits.process_count import ProcessLimit
from modelops_dask.pod import check
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB
from modelops_dask.workers import process_room
from modelops_dask.workers.remote import find_process_shortages
from study_helpers import COMMAND, environ

V1_PIDS = [*V1, ("/", "/sys/fs/cgroup/pids", "cgroup", "rw,pids")]


def pids(folder: str, most: object, used: int) -> dict[str, object]:
    return {
        f"sys/fs/cgroup{folder}/pids.max": f"{most}\n",
        f"sys/fs/cgroup{folder}/pids.current": f"{used}\n",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_with_the_least_room_on_the_way_up_counts(tmp_path, version):
    own, mounts, top = (
        ("8:pids:/pod/c\n4:memory:/x\n", V1_PIDS, "/pids") if version == 1 else ("0::/pod/c\n", V2, "")
    )
    files = pids(f"{top}/pod/c", "max", 7) | pids(f"{top}/pod", 100, 80) | pids(top or "/.", 1000, 950)
    root = tree(tmp_path, own, mounts, files)
    limits = [limit for limit in process_count.limits(root) if limit.source.startswith("pids.max")]
    assert [(limit.most, limit.used) for limit in limits] == [(100, 80), (1000, 950)]
    assert limits[0].source == f"pids.max of {root}/sys/fs/cgroup{top}/pod"
    least = process_count.tightest(root)
    assert (least.most, least.room) == (100, 20)


def test_without_any_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    root = tree(tmp_path, "0::/\n", V2, {})
    assert process_count.tightest(root) is None
    monkeypatch.setattr(process_count, "tightest", lambda: None)
    assert process_count.room() is None and process_count.explain("a thread could not be started") == ""


def test_the_limit_of_a_user_counts_for_all_but_root(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5000, 5000))
    of_others = os.getuid() or 12345
    monkeypatch.setattr(os, "getuid", lambda: of_others)
    (limit,) = [limit for limit in process_count.limits() if limit.source == "ulimit -u"]
    assert limit.most == 5000 and limit.room <= 5000
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert not [limit for limit in process_count.limits() if limit.source == "ulimit -u"]
    assert ProcessLimit(10, 12, "").room == 0


def test_a_shape_that_takes_more_than_is_allowed_is_a_finding_with_the_sum():
    settings = Settings(executor_type="isolated_warm", subprocess_pool_size=8)
    need = process_room.compute_need(4, 2, settings, 16)
    assert need.total == 10 + 4 * (24 + 2 + 8 * 16)
    finding = process_room.describe_shortage(need, 600, "pids.max of /x")
    assert finding.startswith("PROCESS_LIMIT: pids.max of /x allows 600 processes and threads")
    assert "up to 626 = 10 + 4 processes x (24 + 2 threads + 8 runners x 16 native threads)" in finding
    assert "OMP_NUM_THREADS" in finding and "podPidsLimit" in finding


def test_property_a_finding_is_there_if_and_only_if_the_sum_exceeds_the_limit():
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(500):
        processes, threads, pool, native = (draw.randrange(1, 20) for _ in range(4))
        kind = draw.choice(["isolated_warm", "isolated_fork", "cold", "direct"])
        settings = Settings(executor_type=kind, subprocess_pool_size=pool)
        need = process_room.compute_need(processes, threads, settings, native)
        n_runners = 1 if kind == "direct" else max(threads, pool)
        least = processes * n_runners * native
        allowed = draw.choice([need.total - 1, need.total, least, draw.randrange(1, 5000)])
        assert need.total > least, seed
        assert bool(process_room.describe_shortage(need, allowed, "x")) == (need.total > allowed), seed


def test_doctor_in_a_cgroup_with_few_processes(tmp_path):
    with cgroup_of_processes(30) as join:
        ran = subprocess.run(
            [*join, *COMMAND, "doctor"], env=environ(tmp_path), capture_output=True, text=True, timeout=100
        )
    (line,) = [line for line in ran.stdout.splitlines() if " processes " in line[:20]]
    assert line.startswith("wrong") and "pids.max of /" in line, ran.stdout
    assert "PROCESS_LIMIT: pids.max of /" in ran.stdout


def test_workers_of_a_pod_with_too_few_processes_say_so_and_helm_test_fails(tmp_path):
    settings = Settings(
        executor_environment="image", bundles_cache_dir=tmp_path / "b", venvs_dir=tmp_path / "v"
    )
    with (
        cgroup_of_processes(80) as join,
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as scheduler,
        Client(scheduler, set_as_default=False) as client,
    ):
        command = [*join, sys.executable, "-m", "dask", "worker", client.scheduler.address, "--no-dashboard"]
        options = ["--nworkers", "2", "--nthreads", "8", "--memory-limit", "400MiB"]
        preload = ["--preload", "modelops_dask.worker", "--local-directory", str(tmp_path)]
        with (
            (tmp_path / "worker.log").open("w") as log,
            subprocess.Popen(
                [*command, *options, *preload],
                env={**environ(tmp_path), **settings.to_env(), "OMP_NUM_THREADS": "1"},
                stderr=log,
                stdout=log,
            ) as process,
        ):
            try:
                client.wait_for_workers(2, timeout=60)
                findings = find_process_shortages(client)
                shape = {"processes": 2, "threads": 8, "memory_limit_bytes": 400 * MIB}
                problems = check.check(
                    client, {"executor": "isolated_warm", "preset": "", "pools": {"default": shape}}
                )
            finally:
                process.terminate()
    (finding,) = findings
    assert "allows 80 processes and threads" in finding and "up to 90 = 10 + 2 processes x (24 + 8" in finding
    assert problems == [finding]
    assert finding in (tmp_path / "worker.log").read_text()
