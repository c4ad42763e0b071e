"""Every worker process says what is in effect in it; one that cannot answer is named."""

import json
import time

from modelops_dask.pod import ask
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster

SHAPE = Shape(1, 2, 1, 1024**3)


def test_each_process_answers_beside_its_tasks(tmp_path, capfd):
    settings = Settings(
        preset="cold",
        executor_type="cold",
        bundles_cache_dir=tmp_path / "bundles",
        venvs_dir=tmp_path / "venvs",
        executor_environment="image",
        max_process_reuse=7,
    )
    with local_cluster(SHAPE, settings) as client:
        running = [client.submit(time.sleep, 0.2, pure=False) for _ in range(4)]
        assert ask.main(client.scheduler.address, ["distributed.worker.memory.target", "no.such"]) == 0
        client.gather(running)
        answers = json.loads(capfd.readouterr().out)
        assert sorted(each["address"] for each in answers) == sorted(client.nthreads())
    for each in answers:
        assert Settings.from_env(each["settings"]) == settings
        assert (each["threads"], each["memory_limit_bytes"]) == (1, SHAPE.process_memory_bytes)
        assert set(each["dask"]) == {"distributed.worker.memory.target", "no.such"}
        assert each["dask"]["no.such"] is None


def test_a_scheduler_that_is_not_there_is_said(monkeypatch, capfd):
    monkeypatch.setattr(ask, "CONNECT_SECONDS", 1)
    assert ask.main("tcp://127.0.0.1:1", []) == 5
    assert "No scheduler answers at tcp://127.0.0.1:1" in capfd.readouterr().err
