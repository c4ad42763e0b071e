"""The check behind `helm test`: green for what the values say, and in words what is not so."""

from contextlib import contextmanager

import pytest

from modelops_dask.pod import check
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster

GIB = 1024**3
SHAPE = Shape(1, 2, 1, 2 * GIB)


def expected(executor="isolated_warm", **changes):
    limit = SHAPE.process_memory_bytes
    pool = {"processes": 2, "threads": 1, "memory_limit_bytes": limit} | changes
    return {"executor": executor, "preset": "", "pools": {"default": pool}}


@contextmanager
def cluster(tmp_path, executor="isolated_warm", **chosen):
    settings = Settings(
        executor_type=executor,
        bundles_cache_dir=tmp_path / "bundles",
        venvs_dir=tmp_path / "venvs",
        **{"executor_environment": "image"} | chosen,
    )
    with local_cluster(SHAPE, settings) as client:
        yield client


@pytest.mark.parametrize("executor", ["isolated_warm", "isolated_fork", "cold", "direct"])
def test_every_executor_computes(tmp_path, executor, capfd):
    with cluster(tmp_path, executor) as client:
        assert check.check(client, expected(executor)) == []
        assert check.main(client.scheduler.address, expected(executor)) == 0
    assert capfd.readouterr().out.startswith(f"OK: 2 worker processes computed with executor {executor}")


def test_the_environment_of_a_bundle_is_built_without_a_package_index(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    with cluster(tmp_path, executor_environment="bundle") as client:
        assert check.check(client, expected()) == []


def test_what_differs_is_named(tmp_path, capfd):
    limit = SHAPE.process_memory_bytes
    with cluster(tmp_path) as client:
        one, two = sorted(client.nthreads())
        said = check.check(client, expected("cold"))
        assert sorted(said) == [
            f"{worker}: executor is 'isolated_warm', expected 'cold'" for worker in (one, two)
        ]
        assert check.check(client, expected(threads=2)) == [
            f"0 of 2 processes have 2 threads and a limit of {limit:,} bytes",
            f"2 processes have 1 threads and a limit of {limit:,} bytes, which does not match any pool",
        ]
        assert check.main(client.scheduler.address, expected(memory_limit_bytes=5)) == 5
    assert "FAILED:\n  0 of 2 processes have 1 threads and a limit of 5 bytes" in capfd.readouterr().out


def test_missing_workers_and_a_missing_scheduler_are_said(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(check, "WORKERS_SECONDS", 1)
    monkeypatch.setattr(check, "CONNECT_SECONDS", 1)
    with cluster(tmp_path) as client:
        address = client.scheduler.address
        assert check.main(address, expected(processes=3)) == 5
    assert "2 of 3 worker processes connected within 1 s" in capfd.readouterr().out
    assert check.main("tcp://127.0.0.1:9", expected()) == 5
    assert "no scheduler answers at tcp://127.0.0.1:9" in capfd.readouterr().out


def test_a_worker_without_an_executor_is_named(tmp_path):
    with cluster(tmp_path, "none") as client:
        (first, *_) = check.check(client, expected())
    assert "executor is 'none', expected 'isolated_warm'" in first
