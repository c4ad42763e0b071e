"""The experiment on real workers: what it says of small models, and that it ends when it must."""

import random

import pytest

from executor_helpers import settings, write_bundle
from helpers import wait_for
from modelops_dask import bundle as bundles
from modelops_dask.diagnose import diagnose, workers
from modelops_dask.diagnose.causes.growth import Growth
from modelops_dask.diagnose.trials.arms import find_arm
from modelops_dask.diagnose.trials.experiment import Experiment
from modelops_dask.diagnose.trials.runs import Runs
from modelops_dask.diagnose.trials.trial import Trial
from modelops_dask.diagnose.trials.workers import TrialResult
from modelops_dask.diagnose.verdict.comparison import TaskRun
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import judge, list_open_causes
from modelops_dask.limits.pod import find_marked
from modelops_dask.plan.plan import Plan, Request
from modelops_dask.plan.spec import from_content
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, SUPERVISOR_BYTES, Shape

COUNTER = """
count = 0
def wire(entrypoint, params, seed):
    global count
    count += params["x"] == 2
    return {"n": str((count > 1, params["x"], seed))}
"""
HEALTHY = "def wire(entrypoint, params, seed):\n    return {'n': str((params['x'], seed))}\n"
HANGS = "import time\ndef wire(entrypoint, params, seed):\n    time.sleep(3600)\n"
FAILS = "def wire(entrypoint, params, seed):\n    return {'n': params['beta']}\n"
ENDS = """
import os, threading
def wire(entrypoint, params, seed):
    if params["x"] == 2 and threading.current_thread() is not threading.main_thread():
        os._exit(3)
    return {"n": str(seed)}
"""
KEEPS_A_FILE = """
from pathlib import Path
def wire(entrypoint, params, seed):
    kept = Path(f"start-{params['x']}.txt")
    if not kept.exists():
        kept.write_text(str(seed))
    return {"n": kept.read_text()}
"""
GRID = {"grid": {"x": [1, 2, 3]}, "replicates": 2}
RARE = {  # one of 40 sets has a parameter of its own, and leaves it for one of the others
    "sets": [{"x": number} for number in range(39)] + [{"x": 39, "decay": 2}],
    "replicates": 2,
}
KEEPS_DECAY = """
decay = 1
def wire(entrypoint, params, seed):
    global decay
    decay = params.get("decay", decay)
    return {"n": str((decay, params["x"], seed))}
"""
TIME_STAMPED = """
import time
def wire(entrypoint, params, seed):
    return {"n": str((params["x"], seed)), "metadata": str(time.time_ns())}
"""
HANGS_IN_A_THREAD = ENDS.replace("os._exit(3)", "threading.Event().wait()")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("diagnose")


@pytest.fixture(scope="module")
def client(folder):
    with workers(Shape(1, 1, 1, 1024 * MIB + SUPERVISOR_BYTES), settings(folder)) as client:
        yield client


@pytest.fixture
def diagnosed(client, folder, tmp_path):
    """diagnosed(code, ...): the Diagnosis of a study with that model, by default of 2 x 3 tasks."""

    def run(code, private_files=True, content=GRID, **asked):
        chosen = settings(folder, private_files=private_files)
        held = bundles.fetch(str(write_bundle(tmp_path, {"wire.py": code})), chosen.bundles_cache_dir)
        study = from_content({"entrypoint": "models.x/y", **content}, tmp_path)
        return diagnose(client, study, held, chosen, **asked)

    return run


def states(found):
    return {report.arm: report.state for report in found.arms}


def test_arms_that_were_not_asked_for_are_not_run_and_what_that_leaves_open_is_said(diagnosed):
    found = diagnosed(COUNTER, arms=["single-process", "isolated-fork"])
    assert (found.verdict, found.preset) == ("process-reuse", "isolated-fork")
    assert found.evidence.arms == ("single-process", "cold")
    assert found.evidence.differing > 0 and found.confidence >= 0.9
    assert [task.params for task in found.polluter.tasks] == [{"x": 2}]
    run = {arm for arm, state in states(found).items() if state != "not run"}
    assert run == {"cold", "single-process", "isolated-fork"}
    assert any(line.startswith("concurrency:") for line in found.not_excluded)


def test_a_model_that_carries_nothing_is_healthy(diagnosed):
    said = []
    found = diagnosed(HEALTHY, say=said.append)
    assert (found.verdict, found.preset, found.polluter) == ("healthy", "baseline", None), found
    assert found.confidence > 0.9 and found.evidence.differing == 0
    assert "differs" not in states(found).values()
    assert any(line.startswith("baseline: ") for line in said)


def test_with_arms_that_decide_nothing_a_model_is_not_called_healthy(diagnosed):
    found = diagnosed(HEALTHY, arms=["cold"])
    assert (found.verdict, found.confidence) == ("inconclusive", 0)
    assert any(line.startswith("process-reuse:") for line in found.not_excluded)


def test_a_setting_that_one_set_of_forty_leaves_behind_is_found_with_few_tasks(diagnosed):
    found = diagnosed(KEEPS_DECAY, content=RARE, tasks=4, arms=["single-process", "isolated-fork"])
    assert (found.verdict, found.preset) == ("process-reuse", "isolated-fork"), found
    assert [task.params for task in found.polluter.tasks] == [{"x": 39, "decay": 2}]


def test_outputs_that_the_study_calls_volatile_are_not_compared(diagnosed):
    arms = ["single-process", "baseline"]
    found = diagnosed(TIME_STAMPED, content=GRID | {"volatile": ["metadata"]}, arms=arms)
    assert found.verdict == "healthy", found
    assert diagnosed(TIME_STAMPED, arms=arms).verdict == "model-nondeterministic"


def test_a_relative_path_leads_to_the_bundle_in_every_arm(diagnosed):
    reads = HEALTHY.replace("return", "open('wire.py').close(); return")
    found = diagnosed(reads, arms=["single-process", "baseline", "direct", "threads"])
    assert found.verdict == "healthy" and states(found)["direct"] == states(found)["threads"] == "same"


def test_a_model_that_hangs_ends_with_the_budget_and_leaves_no_process(diagnosed):
    found = diagnosed(HANGS, budget_seconds=8.0)
    assert found.verdict == "inconclusive"
    assert found.evidence.lines[0].startswith("The first task did not end within")
    assert found.seconds < 60  # far less than the hour that the model sleeps
    wait_for(lambda: not find_marked(), "end of all runners")


def test_a_study_that_limits_the_time_of_tasks_is_not_said_to_have_had_more(diagnosed):
    hangs = HEALTHY.replace("return", "import time; time.sleep(3600 * (params['x'] == 2)); return")
    found = diagnosed(hangs, content=GRID | {"timeout": 2}, arms=["single-process"])
    assert found.evidence.lines[0].startswith("2 of 6 tasks do not end within 2 seconds")


def test_tasks_that_hang_alone_are_left_out_and_the_others_judged(diagnosed, monkeypatch):
    from modelops_dask.diagnose.trials import experiment

    monkeypatch.setattr(experiment, "FIRST_HANG_SECONDS", 3.0)
    hangs = HEALTHY.replace("return", "import time; time.sleep(3600 * (params['x'] == 2)); return")
    found = diagnosed(hangs, arms=["single-process"])
    assert found.evidence.lines[0].startswith("2 of 6 tasks do not end within")
    assert found.tasks == 4
    assert states(found)["cold"] == states(found)["single-process"] == "same"


def test_a_budget_that_ends_amid_the_arms_gives_what_is_known(diagnosed):
    slow = HEALTHY.replace("return", "import time; time.sleep(0.2); return")
    found = diagnosed(slow, budget_seconds=9.0)
    assert states(found)["cold"] in ("same", "cannot be judged")
    if found.verdict != "healthy":  # on a quick machine it may just be done
        assert found.verdict == "inconclusive" and "not run" in states(found).values()


def test_a_model_of_which_every_task_fails_is_to_be_mended_first(diagnosed):
    found = diagnosed(FAILS)
    assert found.verdict == "inconclusive" and "fix that first" in found.because
    (line,) = found.evidence.lines
    assert "KeyError" in line and line.endswith("--task 0/0")
    assert states(found)["single-process"] == "not run"


def test_files_that_tasks_leave_for_others_are_found_and_stay_out_of_the_bundle(diagnosed, folder):
    found = diagnosed(KEEPS_A_FILE, private_files=False, arms=["cold"])
    assert (found.verdict, found.facts["files"]) == ("model-nondeterministic", True)
    assert "files left by other tasks" in found.because
    assert not list(folder.rglob("start-*.txt"))


def test_files_beside_the_model_are_no_cause_where_each_task_has_its_own(diagnosed):
    found = diagnosed(KEEPS_A_FILE, arms=["cold", "single-process", "baseline", "isolated-fork"])
    assert {state for state in states(found).values() if state != "not run"} == {"same"}, found
    assert found.verdict == "healthy"


@pytest.mark.parametrize("code", [ENDS, HANGS_IN_A_THREAD], ids=["ends", "hangs"])
def test_a_worker_that_the_model_ends_or_holds_is_a_difference_of_direct(diagnosed, monkeypatch, code):
    from modelops_dask.diagnose.trials import runs

    monkeypatch.setattr(runs, "HANG_SECONDS", 3.0)
    found = diagnosed(code, arms=["single-process", "baseline", "direct"])
    assert (found.verdict, found.evidence.arms) == ("shared-process", ("direct", "cold"))
    assert found.evidence.example.kind == "status"
    assert found.evidence.example.task.startswith("1/")


def ran(*seen, ended="done"):
    return TrialResult(tuple(seen), ended, 1.0)


def trial(lane, executor="isolated_warm"):
    return Trial(Settings(executor_type=executor), None, "m/s", (), (lane,), 10, 10)


def one(task, status="ok", reason="", value=b""):
    return TaskRun(0, task, status, reason, digests={"y": value})


def test_want_of_memory_is_not_counted_as_another_result():
    tally = Tally(find_arm("single-process"))
    reference = {0: one(0), 1: one(1)}
    tally.add(trial((0, 1)), ran(one(0), one(1, "died", "TaskOOM")), reference, deadline_came=False)
    assert (tally.n_compared, tally.n_differing, tally.n_out_of_memory) == (1, 0, 1)


def test_what_ran_before_a_difference_is_what_its_own_process_ran():
    tally = Tally(find_arm("single-process"))
    reference = {number: one(number) for number in range(4)}
    seen = [one(0), one(1, "died", "killed by signal 6"), one(2), one(3, value=b"other")]
    tally.add(trial((0, 1, 2, 3)), ran(*seen), reference, deadline_came=False)
    assert tally.differing_by_task == {1: 1, 3: 1}
    before, found = tally.first
    assert (list(before), found.task) in (([0], 1), ([2], 3))


def test_a_worker_that_was_lost_tells_of_the_task_only_where_the_model_ran_in_it():
    reference = {0: one(0), 1: one(1)}
    for executor, differing in (("direct", 1), ("isolated_warm", 0)):
        tally = Tally(find_arm("direct"))
        lost = ran(one(0), ended="lost")
        tally.add(trial((0, 1), executor), lost, reference, deadline_came=False)
        assert tally.n_differing == differing, executor
    ended = Tally(find_arm("direct"))
    ended.add(trial((0, 1), "direct"), ran(one(0), ended="late"), reference, deadline_came=True)
    assert ended.n_differing == 0


def test_a_worker_that_ends_while_memory_grows_is_want_of_memory(tmp_path):
    study = from_content({"entrypoint": "models.x/y", "grid": {"x": [1, 2]}}, tmp_path)
    plan = Plan(study.entrypoint, study.table, Request(1, ((0, 2),)))
    runs = Runs(None, plan, None, Settings(), list(plan.tasks([(0, 2)])))
    runs.reference.update({0: one(0), 1: one(1)})
    same = ran(*[one(number) for number in (0, 1)] * 20)
    for name in ("cold", "single-process", "baseline", "direct"):
        runs.tallies[name].add(trial((0, 1) * 20), same, runs.reference, deadline_came=False)
    lost = ran(one(0), ended="lost")
    for _ in range(9):
        runs.tallies["threads"].add(trial((0, 1), "direct"), lost, runs.reference, deadline_came=False)
    experiment = Experiment(runs, (), 3)
    assert judge(experiment.collect_facts()).verdict == "threads"
    experiment.growth = Growth(1e8, 9e7, 2e8, True, 10**7)
    assert judge(experiment.collect_facts()).verdict == "memory"


def judged(n_sets, lanes):
    """Facts of a study of n_sets where nothing differs: arms have run these lanes, cold each task once."""
    study = from_content(
        {"entrypoint": "models.x/y", "grid": {"x": list(range(n_sets))}}, Settings().bundles_cache_dir
    )
    plan = Plan(study.entrypoint, study.table, Request(1, ((0, n_sets),)))
    runs = Runs(None, plan, None, Settings(), list(plan.tasks([(0, n_sets)])))
    for name in ("cold", "cold", "single-process", "baseline", "isolated-fork", "direct"):
        for lane in [tuple(range(n_sets))] if name == "cold" else lanes:
            same = ran(*map(one, lane))
            learns = name == "cold"
            runs.tallies[name].add(trial(lane), same, runs.reference, deadline_came=False, learns=learns)
    return Experiment(runs, (), 3).collect_facts()


def test_processes_that_ran_one_task_each_have_not_compared_reuse():
    facts = judged(20, [(number,) for number in range(20)])
    assert facts["reuse"] is None and judge(facts).verdict == "inconclusive"
    assert any("process-reuse: no process that had run" in line for line in list_open_causes(facts))
    together = judged(20, [tuple(range(20)), tuple(range(20))[::-1]])
    assert together["reuse"] is False and judge(together).verdict == "healthy"


def test_few_tasks_that_run_again_and_again_are_not_enough_for_healthy():
    facts = judged(100, [(0, 1, 2, 3) * 50])
    assert facts["few"] and judge(facts).verdict == "inconclusive"
    assert not judged(100, [tuple(range(40)), tuple(range(40))[::-1]])["few"]


def test_random_results_are_counted_once_each():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    reference = {number: one(number) for number in range(10)}
    tally, differing = Tally(find_arm("single-process")), 0
    for _ in range(20):
        lane = tuple(generator.randrange(10) for _ in range(30))
        seen = [one(task, value=generator.choice((b"", b"", b"x"))) for task in lane]
        differing += sum(each.digests["y"] == b"x" for each in seen)
        tally.add(trial(lane), ran(*seen), reference, deadline_came=False)
    assert (tally.n_compared, tally.n_differing, tally.n_lanes) == (600, differing, 20)
    assert tally.n_lanes_differing <= tally.n_lanes_compared == 20
