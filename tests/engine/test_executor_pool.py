"""How many runners there are, when they end, and what one task sees of another."""

import logging
import os
import random
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor_helpers import FAULTS, is_gone, settings, task, write_bundle
from helpers import wait_for
from modelops_dask import executors
from modelops_dask.environments import venv
from modelops_dask.errors import BadInput
from modelops_dask.executors import runner

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def models(tmp_path):
    """Three bundles, each with a model that counts its calls."""
    text = (FAULTS / "wire.py").read_text()
    return [write_bundle(tmp_path / name, {"wire.py": f"{text}\nNAME = {name!r}\n"}) for name in "abc"]


def seen(executor, chosen, source=FAULTS) -> tuple[int, int]:
    """(process, tasks that ran in it before), as one more task sees them."""
    outputs = executor.run(task(source, chosen, "state")).outputs
    return int(outputs["pid"]), int(outputs["before"])


def test_warm_keeps_its_process(folder):
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        first, second = seen(executor, chosen), seen(executor, chosen)
    assert first[0] == second[0]
    assert (first[1], second[1]) == (0, 1)


def test_cold_has_a_process_for_each_task(folder):
    chosen = settings(folder, executor_type="cold")
    with executors.create(chosen) as executor:
        first, second = seen(executor, chosen), seen(executor, chosen)
        assert executor.idle() == []
    assert first[0] != second[0]
    assert (first[1], second[1]) == (0, 0)


def test_a_runner_retires_after_max_process_reuse_tasks(folder):
    chosen = settings(folder, max_process_reuse=3)
    with executors.create(chosen) as executor:
        before = [seen(executor, chosen)[1] for _ in range(7)]
    assert before == [0, 1, 2, 0, 1, 2, 0]


def test_a_runner_retires_after_its_time(folder, monkeypatch):
    chosen = settings(folder, process_ttl_seconds=60)
    with executors.create(chosen) as executor:
        first = seen(executor, chosen)
        (runner,) = executor.idle()
        assert seen(executor, chosen) == (first[0], 1)
        monkeypatch.setattr(runner, "started_at", runner.started_at - 60)
        assert seen(executor, chosen)[1] == 0
        assert is_gone(first[0])


def test_the_runner_used_longest_ago_makes_room(folder, models):
    chosen = settings(folder, max_warm_processes=2)
    a, b, c = models
    with executors.create(chosen) as executor:
        process_a, process_b = seen(executor, chosen, a)[0], seen(executor, chosen, b)[0]
        seen(executor, chosen, a)
        seen(executor, chosen, c)  # b's place
        assert is_gone(process_b)
        assert seen(executor, chosen, a) == (process_a, 2)
        assert len(executor.idle()) == 2


def test_two_callers_have_two_runners_side_by_side(folder):
    chosen = settings(folder)
    with executors.create(chosen) as executor, ThreadPoolExecutor(2) as threads:
        hung = [threads.submit(executor.run, task(FAULTS, chosen, "hang")) for _ in range(2)]
        busy = wait_for(lambda: len(executor.busy()) == 2 and executor.busy(), "second runner")
        assert busy[0].pid != busy[1].pid
        for runner in busy:
            runner.interrupt()
        assert {outcome.result(timeout=20).status for outcome in hung} == {"died"}


def test_a_caller_waits_when_all_places_are_taken(folder, models):
    chosen = settings(folder, max_warm_processes=1)
    with executors.create(chosen) as executor, ThreadPoolExecutor(2) as threads:
        hung = threads.submit(executor.run, task(FAULTS, chosen, "hang"))
        runner = wait_for(executor.busy, "busy runner")[0]
        waiting = threads.submit(executor.run, task(models[0], chosen))
        wait_for(lambda: "hanging" in runner.log, "word from the model")
        assert not waiting.done()
        assert executor.busy() == [runner]
        runner.interrupt()
        assert waiting.result(timeout=20).status == "ok"
        assert hung.result(timeout=20).status == "died"


def test_many_threads_lose_no_task(folder):
    chosen = settings(folder, max_warm_processes=3, max_process_reuse=7)
    with executors.create(chosen) as executor, ThreadPoolExecutor(6) as threads:
        outcomes = list(
            threads.map(executor.run, [task(FAULTS, chosen, seed=number) for number in range(120)])
        )
        assert [outcome.outputs["out"] for outcome in outcomes] == [
            repr(({}, n)).encode() for n in range(120)
        ]
        assert len(executor.idle()) <= 3


def test_memory_lowers_the_number_of_warm_processes_and_says_so(folder, caplog):
    chosen = settings(folder, max_warm_processes=128, worker_memory_bytes=160 * MIB)
    with (
        caplog.at_level(logging.INFO, "distributed.modelops"),
        executors.create(chosen, memory_limit_bytes=352 * MIB) as executor,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(executor.run, [task(FAULTS, chosen)] * 40))
        assert 1 <= len(executor.idle()) <= 3
    assert "warm processes: 3 instead of maxWarmProcesses=128, because 192 MiB are left" in caplog.text


def test_a_model_that_cannot_be_imported_fails_its_tasks(folder, tmp_path):
    source = write_bundle(tmp_path / "broken", {"wire.py": "print('importing')\nimport no_such_package\n"})
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert (outcome.status, outcome.reason) == ("failed", "ModuleNotFoundError")
    assert outcome.environment, "packages are known where the model could not be imported"
    assert "no_such_package" in outcome.error
    assert outcome.log == "importing\n"


def test_a_model_that_hangs_in_its_import_is_given_up(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("modelops_dask.executors.process.START_SECONDS", 1)
    source = write_bundle(tmp_path / "slow", {"wire.py": "import threading\nthreading.Event().wait()\n"})
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert (outcome.status, outcome.reason) == ("died", "StartTimeout")


def test_echo_receives_what_the_model_prints(folder):
    heard = []
    chosen = settings(folder)
    with executors.create(chosen, echo=heard.append) as executor:
        assert executor.run(task(FAULTS, chosen, "echo")).status == "ok"
    assert b"".join(heard) == b"to stdout\nto stderr\n"


def test_parameters_travel_exactly(folder):
    params = {"x": 0.1 + 0.2, "tiny": 5e-324, "n": 2**70, "none": None, "list": [1, [2.5]], "text": "β\0"}
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(FAULTS, chosen, "ok", seed=2**64 - 1, **params))
    assert outcome.outputs["out"] == repr((params, 2**64 - 1)).encode()


@pytest.mark.parametrize("kind", executors.TYPES)
def test_the_seed_of_a_task_seeds_random(folder, kind):
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor:
        drawn = [executor.run(task(FAULTS, chosen, "draw", seed=seed)).outputs["out"] for seed in (7, 8, 7)]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_random_is_seeded_as_by_its_own_function(seed):
    before = random.getstate()
    try:
        random.gauss(0, 1)  # leaves half of a pair behind, which the next task must not get
        runner.seeding.seed_globals(seed)
        assert random.getstate() == random.Random(seed).getstate()
    finally:
        random.setstate(before)


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
def test_numpy_is_seeded_also_by_the_task_that_imports_it(folder, tmp_path, kind):
    wire = """
        def wire(entrypoint, params, seed):
            import sys
            first = "numpy" not in sys.modules
            import numpy
            return {"drawn": repr((first, numpy.random.random(4).tolist())).encode()}
    """
    source = write_bundle(tmp_path / "late", {"wire.py": textwrap.dedent(wire)})
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    with executors.create(chosen) as executor:
        outcomes = [executor.run(task(source, chosen, seed=seed)) for seed in (7, 7, 2**40)]
    (first, one), (_, again), (_, other) = (eval(outcome.outputs["drawn"].decode()) for outcome in outcomes)
    assert first, "the task was not the first to import NumPy"
    assert one == again != other


def test_seeding_can_be_turned_off(folder):
    chosen = settings(folder, seed_globals=False)
    with executors.create(chosen) as executor:
        drawn = [executor.run(task(FAULTS, chosen, "draw", seed=7)).outputs["out"] for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_a_runner_has_pinned_variables_and_not_the_workers_path(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        one = task(FAULTS, chosen, "environment")
        env = eval(executor.run(one).outputs["out"])  # a repr that the model made
    assert (env["PYTHONHASHSEED"], env["OMP_NUM_THREADS"], env["OPENBLAS_NUM_THREADS"]) == ("6640", "4", "1")
    assert env["PYTHONPATH"] is None
    assert env["cwd"] == env["path"][0] != str(one.bundle.path)
    assert len(env["cwd"]) < 40, "the path of a Unix socket ends at 107 bytes"
    assert env["python"].startswith(str(chosen.venvs_dir))


def test_the_peak_of_a_task_is_its_own(folder):
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        small, large, after = (
            executor.run(task(FAULTS, chosen, "allocates", mib=mib)).peak_bytes for mib in (1, 200, 1)
        )
    assert 200 * MIB < large < 300 * MIB
    assert small < 60 * MIB
    assert after < 60 * MIB


@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
def test_an_outcome_names_its_environment_and_threads(folder, monkeypatch, kind):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(FAULTS, chosen))
    assert outcome.threads == 3
    assert len(outcome.environment) == 16
    assert (outcome.environment == venv.digest_of_process()) == (kind == "direct"), (
        "the bundle's own has no packages"
    )


def test_a_type_that_runs_no_tasks_is_refused(folder):
    with pytest.raises(
        BadInput, match=r"'none' runs no tasks; .* isolated_warm, isolated_fork, cold, direct"
    ):
        executors.create(settings(folder, executor_type="none"))


PROGRAMS = """
import os, shutil, subprocess, sys

def wire(entrypoint, params, seed):
    started = [[name, "-c", "import sys; print(sys.prefix)"] for name in ("python", "python3")]
    prefixes = {subprocess.run(each, capture_output=True, text=True).stdout.strip() for each in started}
    return {"out": repr((sys.prefix, sorted(prefixes), os.environ.get("VIRTUAL_ENV"), shutil.which("ours")))}
"""


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
@pytest.mark.parametrize("environment", ["bundle", "image"])
def test_programs_that_a_model_starts_are_of_its_environment(
    folder, tmp_path, monkeypatch, kind, environment
):
    """Whatever the worker's PATH has first, and whichever environment is activated where it was started."""
    programs = tmp_path / "activated" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "python3", "ours"):
        (programs / name).write_text("#!/bin/sh\necho another\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VIRTUAL_ENV", str(programs.parent))
    chosen = settings(folder, executor_type=kind, executor_environment=environment)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(write_bundle(tmp_path / "starts", {"wire.py": PROGRAMS}), chosen))
    prefix, prefixes, activated, ours = eval(outcome.outputs["out"])
    assert prefixes == [prefix], "the model's own interpreter"
    assert activated == (prefix if (Path(prefix) / "pyvenv.cfg").exists() else None)
    assert ours == str(programs / "ours"), "the rest of the worker's PATH comes after it"


def test_a_fresh_environment_cannot_be_the_images(folder):
    with pytest.raises(BadInput, match=r"needs executor\.environment: bundle"):
        executors.create(settings(folder, force_fresh_venv=True, executor_environment="image"))


def test_a_closed_executor_takes_no_task(folder):
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        executor.run(task(FAULTS, chosen))
