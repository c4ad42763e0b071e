"""The time limit of a study file goes before that of the settings, in every executor that can end a task."""

import pytest

from executor_helpers import FAULTS, settings, task
from modelops_dask import executors
from modelops_dask.plan import spec
from modelops_dask.store import study
from modelops_dask.store.files import Store
from modelops_dask.store.study import read_plan
from store_helpers import DIGEST, begin


@pytest.mark.parametrize(
    "kind, of_settings", [("isolated_warm", 0), ("isolated_warm", 300), ("isolated_fork", 300), ("cold", 0)]
)
def test_a_task_is_ended_after_the_limit_of_its_study(tmp_path, kind, of_settings):
    chosen = settings(tmp_path, executor_type=kind, task_timeout_seconds=of_settings)
    with executors.create(chosen) as executor:
        hung = task(FAULTS, chosen, "hang")._replace(timeout_seconds=0.5)
        outcome = executor.run(hung)
        assert (outcome.status, outcome.reason) == ("died", "TaskTimeout") and "0.5 s" in outcome.error
        assert executor.run_alone(hung).reason == "TaskTimeout"
        assert executor.run(task(FAULTS, chosen)).status == "ok"


def test_a_new_process_of_direct_has_the_limit_too(tmp_path):
    chosen = settings(tmp_path, executor_type="direct", executor_environment="image")
    with executors.create(chosen) as executor:
        hung = task(FAULTS, chosen, "hang")._replace(timeout_seconds=0.5)
        assert executor.run_alone(hung).reason == "TaskTimeout"


def test_the_store_keeps_the_limit_for_those_who_run_its_tasks_later(tmp_path):
    files = Store(str(tmp_path / "store"))
    assert begin(files, tmp_path).request.timeout_seconds == 0
    path = tmp_path / "limited.yaml"
    path.write_text("model: m.s\nscenario: b\nsets: [{a: 1}]\ntimeout: 1.5m\n")
    plan = study.begin(files, spec.load(path), DIGEST)
    assert plan.request.timeout_seconds == 90 == read_plan(files).request.timeout_seconds
