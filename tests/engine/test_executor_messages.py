"""Many tasks in one call of an executor: each has its own outcome, limits and log, as if it were alone."""

import os
import random

import pytest

from executor_helpers import FAULTS, settings, task, write_bundle
from modelops_dask import executors

MIB = 1024 * 1024

TALKER = """
import os, sys

def wire(entrypoint, params, seed):
    if params["c"]:
        os.write(1, params["text"].encode())  # as a program in C does: past Python
    else:
        print(params["text"], end="", file=sys.stderr if seed % 2 else sys.stdout)
    if params["end"] == "raise":
        raise ValueError("unlucky")
    if params["end"] == "die":
        sys.stdout.flush()
        os._exit(3)
    return {"out": str(seed)}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("talker"), {"wire.py": TALKER})


def faults(chosen, *names):
    return [task(FAULTS, chosen, name, seed=number) for number, name in enumerate(names)]


@pytest.mark.parametrize("kind", executors.TYPES)
def test_outcomes_are_in_order_and_each_task_has_one(folder, kind):
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(faults(chosen, "ok", "raises", "ok", "ok"))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok", "ok"]
    seeds = [eval(outcome.outputs["out"])[1] for outcome in outcomes if outcome.status == "ok"]
    assert seeds == [0, 2, 3]


def test_a_task_that_ends_its_process_takes_no_other_along(folder):
    chosen = settings(folder, task_timeout_seconds=2)
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(faults(chosen, "state", "os_exit", "state", "hang", "state", "state"))
    ends = [(outcome.status, outcome.reason) for outcome in outcomes]
    assert ends[1] == ("died", "exited with status 3") and ends[3] == ("died", "TaskTimeout")
    assert outcomes[1].log == "leaving\n"
    before = [int(outcomes[number].outputs["before"]) for number in (0, 2, 4, 5)]
    assert before == [0, 0, 0, 1], "a new process after each death, and only then"


def test_each_task_has_the_limit_of_memory(folder):
    chosen = settings(folder)
    with executors.create(chosen, 1024 * MIB, runner_limit_bytes=300 * MIB) as executor:
        sizes = (20, 200, 20, 600, 20)
        one_by_one = [task(FAULTS, chosen, "allocates", mib=mib) for mib in sizes]
        outcomes = executor.run_all(one_by_one)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "died", "ok"]
    assert outcomes[3].reason == "TaskOOM"
    assert outcomes[2].peak_bytes < 100 * MIB < 200 * MIB < outcomes[1].peak_bytes, "a peak of its own"


def test_a_runner_retires_amid_a_call(folder):
    chosen = settings(folder, max_process_reuse=3)
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(faults(chosen, *["state"] * 7))
    assert [int(outcome.outputs["before"]) for outcome in outcomes] == [0, 1, 2, 0, 1, 2, 0]


def test_no_word_of_one_task_is_in_the_log_of_another(folder, talker):
    seed = int(os.environ.get("TEST_SEED", random.randrange(2**32)))
    print(f"TEST_SEED={seed}")
    chance = random.Random(seed)
    chosen = settings(folder)
    said = []
    for number in range(300):
        length = chance.choice([0, 0, 0, 1, 5, 50, 5_000, 100_000])
        said.append((f"<{number}>" + "x" * length + "\n") * (length > 0))
    ends = [chance.choice(["ok"] * 8 + ["raise", "die"]) for _ in said]
    tasks = [
        task(talker, chosen, "any", number, text=text, c=chance.random() < 0.5, end=end)
        for number, (text, end) in enumerate(zip(said, ends, strict=True))
    ]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    statuses = {"ok": "ok", "raise": "failed", "die": "died"}
    for text, end, outcome in zip(said, ends, outcomes, strict=True):
        assert outcome.status == statuses[end]
        assert outcome.log == ("" if end == "ok" else text[-64 * 1024 :])
