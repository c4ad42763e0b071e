"""What `verify --sample` makes of tasks that run again: three causes told apart, and nothing said of healthy
ones.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from modelops_dask.store import checks, parts
from modelops_dask.store.checks import Comparison, RunCheck
from modelops_dask.store.files import Store
from modelops_dask.store.verify import verify
from modelops_dask.store.verify_sample import Rerun, Sampled
from store_helpers import attempt, begin

SETS = "[{a: 1}, {a: 2}, {a: 3}]"
HERE = "x86_64 here"


class Model:
    """Tasks that run again, by functions of the task: `lone` is given how often it ran alone before, `late`
    how many tasks ran before it in its process.
    """

    processor = HERE

    def __init__(
        self, lone=lambda *_: b"", late=None, environment="e1", threads=1, problem="", **more
    ) -> None:
        self.lone, self.late = lone, late or (lambda task, _: lone(task, 0))
        self.environment, self.threads, self.problem = environment, threads, problem
        self.more = more  # of a Rerun that did not end ok
        self.alone_tasks: Counter[tuple[int, int]] = Counter()
        self.together_tasks: list[tuple[int, int]] = []

    def alone(self, task: Sampled) -> Rerun:
        count = self.alone_tasks[task.set, task.replicate]
        self.alone_tasks[task.set, task.replicate] += 1
        if self.problem:
            return Rerun({}, self.environment, self.threads, self.problem, **self.more)
        return Rerun(outputs(task, self.lone(task, count)), self.environment, self.threads)

    def together(self, tasks: Sequence[Sampled]) -> list[Rerun]:
        self.together_tasks += [(task.set, task.replicate) for task in tasks]
        return [
            Rerun(outputs(task, self.late(task, number)), self.environment, self.threads)
            for number, task in enumerate(tasks)
        ]


def outputs(task, extra: bytes) -> dict[str, bytes]:
    return {"y": b"%d:%d:%d" % (task.set, task.replicate, task.seed) + extra, "time": extra or b"now"}


@pytest.fixture
def files(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def study(files, tmp_path):
    """Make a store of six ok tasks in one process, in order; `extra` of a task changes its outputs."""

    def make(extra=lambda _: b"", executor="isolated_warm", number=lambda place: place + 1, more="", **row):
        plan = begin(files, tmp_path, sets=f"{SETS}\n{more}", replicates=2)
        rows = [
            attempt(plan, task.set, task.replicate, outputs=outputs(task, extra(task)))._replace(
                environment="e1", threads=1, executor=executor, runner="r1", runner_task=number(place), **row
            )
            for place, task in enumerate(plan.tasks([(0, plan.absent.size)]))
        ]
        parts.write(files, rows)
        return plan

    return make


def found(files, model, n_tasks=6):
    report = verify(files.location(), n_tasks, model)
    findings = [(each.code, each.location) for each in report.findings if each.code != "RESULTS"]
    return report, findings


def test_a_healthy_model_is_not_warned_of_and_each_task_runs_alone_and_in_one_process(files, study):
    study()
    model = Model()
    report, findings = found(files, model)
    assert findings == [] and report.not_comparable == [] and report.notes == [] and report.rerun == 6
    assert set(model.alone_tasks.values()) == {1} and len(model.together_tasks) == 6
    assert model.together_tasks != sorted(model.together_tasks), "the order is another than the study's"


def test_the_same_store_gives_the_same_sample_with_the_last_task_of_a_process_in_it(files, study):
    study()
    samples = []
    for _ in range(2):
        model = Model()
        found(files, model, 2)
        samples.append((sorted(model.alone_tasks), model.together_tasks))
    assert samples[0] == samples[1] and (2, 1) in samples[0][0] and len(samples[0][0]) == 2
    model = Model()
    found(files, model, 1)
    assert list(model.alone_tasks) == [(2, 1)], "one task alone is the likeliest to be wrong"


def test_tasks_that_others_changed_are_told_apart_by_what_is_stored(files, study):
    study(extra=lambda task: b"polluted" if task.set == 2 else b"")
    report, findings = found(files, Model())
    assert findings == [("ORDER", "2/0"), ("ORDER", "2/1")] and report.changed == {"isolated_warm": 2}
    assert "changed by tasks before it" in report.findings[-1].message and not report.equal_alone


def test_what_is_stored_may_be_right_where_another_order_is_not(files, study):
    """A sample that happened to be right says nothing of other rows (verify-blind)."""
    study()
    _, findings = found(files, Model(late=lambda _, number: b"polluted" if number > 2 else b""))
    assert len(findings) == 3 and {code for code, _ in findings} == {"ORDER"}


def test_of_isolated_tasks_another_order_is_a_note_and_nothing_is_wrong(files, study):
    study(executor="cold", number=lambda _: 1)
    report, findings = found(files, Model(late=lambda _, number: b"polluted" if number else b""))
    assert findings == [] and "keep that isolation" in report.notes[0]


def test_a_task_whose_chance_does_not_come_from_the_seed(files, study):
    study(extra=lambda _: b"first")
    chance = random.Random(5)
    report, findings = found(files, Model(lambda *_: chance.randbytes(8), lambda *_: chance.randbytes(8)))
    assert len(findings) == 6 and {code for code, _ in findings} == {"SEED"}
    assert 'volatile: ["time", "y"]' in report.findings[-1].message and not report.changed


def test_volatile_outputs_are_not_compared(files, study):
    study(extra=lambda _: b"first", more='volatile: ["time", "y"]')
    _, findings = found(files, Model(lambda *_: b"other"))
    assert findings == []


def test_a_row_of_a_process_of_its_own_that_differs_is_neither_order_nor_chance(files, study):
    study(extra=lambda _: b"stored", executor="cold", number=lambda _: 1)
    report, findings = found(files, Model())
    assert {code for code, _ in findings} == {"RERUN"} and len(findings) == 6 and not report.changed


def test_a_task_that_fails_when_it_is_run_again(files, study):
    study()
    report, findings = found(files, Model(problem="died, killed by signal 9"), 1)
    assert findings == [("RERUN", "2/1")] and "signal 9" in report.findings[-1].message


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ({"environment": "e2"}, "environment e2 instead of e1"),
        ({"threads": 4}, "4 native threads instead of 1"),
        ({"environment": "e2", "problem": "failed, ImportError"}, "environment e2 instead of e1"),
        ({}, f"processor {HERE}, and the study ran on arm64 there"),
    ],
)
def test_other_conditions_are_never_called_wrong(files, study, conditions, why):
    study(extra=lambda _: b"stored")
    if not conditions:
        checks.write(files, RunCheck(processors=("arm64 there",)))
    report, findings = found(files, Model(**conditions))
    assert findings == [] and report.not_comparable == [
        (f"{number}/{replicate}", why) for number in range(3) for replicate in range(2)
    ]


TIMEOUT = {"problem": "died, TaskTimeout", "reason": "TaskTimeout"}
OUT_OF_MEMORY = {"problem": "died, TaskOOM", "reason": "TaskOOM", "limit_bytes": 200 << 20}


@pytest.mark.parametrize(
    ("ended", "row", "why"),
    [
        (
            TIMEOUT,
            {"seconds": 2.5},
            "it did not end within its time limit here, and took 2.5 s when it was stored",
        ),
        (
            OUT_OF_MEMORY,
            {"limit_bytes": 400 << 20},
            "it may hold 200 MiB here, and might hold 400 MiB when it was stored",
        ),
        (OUT_OF_MEMORY, {}, "it may hold 200 MiB here, and might hold any amount when it was stored"),
        (
            {
                "problem": "failed, ModuleNotFoundError",
                "environment": "e2",
                "hint": "Add it to its packages.",
            },
            {},
            "environment e2 instead of e1. Add it to its packages.",
        ),
    ],
    ids=["time", "memory", "memory_without_limit", "packages"],
)
def test_a_task_that_had_less_time_or_memory_or_other_packages_is_not_called_wrong(
    files, study, ended, row, why
):
    study(**row)
    report, findings = found(files, Model(**ended), 1)
    assert findings == [] and report.not_comparable == [("2/1", why)]


def test_out_of_memory_with_as_much_as_the_row_had_is_wrong(files, study):
    study(limit_bytes=100 << 20)
    _, findings = found(files, Model(**OUT_OF_MEMORY), 1)
    assert findings == [("RERUN", "2/1")]


def test_a_task_that_takes_too_long_after_others_is_not_said_to_depend_on_them(files, study):
    study()

    class Slow(Model):
        def together(self, tasks):
            return [Rerun({}, "e1", 1, **TIMEOUT) for _ in tasks]

    _, findings = found(files, Slow())
    assert findings == []


def test_other_conditions_that_give_the_same_bytes_are_compared(files, study):
    study()
    report, findings = found(files, Model(environment="e2", threads=4))
    assert findings == [] and report.not_comparable == []


def test_order_is_found_on_another_processor_too(files, study):
    """Both runs were made there: only the stored bytes cannot be compared."""
    study(extra=lambda _: b"stored")
    checks.write(files, RunCheck(processors=("arm64 there",)))
    report, findings = found(files, Model(late=lambda _, number: b"polluted" if number else b""))
    assert len(report.not_comparable) == 6 and {code for code, _ in findings} == {"ORDER"}


def test_isolation_that_would_make_replicates_equal_is_noticed(files, study):
    study(extra=lambda task: b"%d" % task.replicate)

    class Constant(Model):
        def alone(self, task):
            return super().alone(task)._replace(outputs={"y": b"constant", "time": b"now"})

        def together(self, tasks):
            return [self.alone(task) for task in tasks]

    report, findings = found(files, Constant())
    assert {code for code, _ in findings[1:]} == {"ORDER"} and report.equal_alone


def test_a_difference_that_the_run_found_counts_while_its_row_does(files, study):
    plan = study()
    row = attempt(plan, 1, 1, outputs=outputs(plan.task(plan.index(1, 1)), b""))
    digest = parts.outputs_digest(row.outputs).hex()
    same = {"set": 1, "replicate": 1, "digest": digest, "executor": "isolated_warm"}
    checks.write(files, RunCheck((Comparison(**same, outcome="different", outputs=("y",)),)))
    for harmless in ({**same, "outcome": "equal"}, {**same, "outcome": "different", "generation": 1}):
        checks.write(files, RunCheck((Comparison(**{**harmless, "set": 0}),)))
    files.put("checks/torn.json", b"{")
    files.put("checks/list.json", json.dumps([1]).encode())
    files.put("checks/odd.json", json.dumps({"comparisons": 3, "processors": None}).encode())
    _, findings = found(files, None, 0)
    assert findings == [("CHECK", "1/1")]
    found(files, Model())  # whatever lies there
