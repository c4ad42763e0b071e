"""Records that are built by position, for there are millions of them: a new field must not move the others.

Each test names the fields as the one function that builds such a record takes them. Who adds a field changes
that function, and then the list here.
"""

from pathlib import Path

from modelops_dask.bundle import Bundle
from modelops_dask.executors import Outcome, Task, mailbox, make_outcome
from modelops_dask.executors.messages import Answer, head_of
from modelops_dask.plan.plan import PlannedTask
from modelops_dask.study.batch import make_attempt, make_tasks

OF_ANSWER = {
    "status": "failed",
    "outputs": {"table": b"bytes"},
    "reason": "ValueError",
    "error": "a traceback",
    "seconds": 1.5,
    "peak_bytes": 11,
    "failure": "transient",
}
OF_PROCESS = {
    "log": "a log",
    "threads": 2,
    "environment": "a digest",
    "limit_bytes": 33,
    "runner": "an id",
    "runner_task": 4,
    "fallback": "a reason",
}
OF_TASK = {"set": 5, "replicate": 6, "seed": 77}
OF_WORKER = {"executor": "cold", "preset": "simulation"}


def test_an_answer_has_the_fields_of_its_head():
    answer = Answer(**OF_ANSWER)
    assert answer._asdict() == OF_ANSWER, "a field more"
    turn = bytes(16)
    frame = b"".join(mailbox.messages.pack(turn, head_of(answer), *answer.outputs.values()))
    assert mailbox.answer_of(frame) == answer


def test_make_outcome_fills_each_field_from_its_own_argument():
    outcome = make_outcome(Answer(**OF_ANSWER), **OF_PROCESS)
    assert outcome._asdict() == {**OF_ANSWER, **OF_PROCESS}


def test_make_attempt_fills_each_field_from_its_own_argument():
    task = PlannedTask(5, 6, "an id", {}, 77)
    attempt = make_attempt(task, Outcome(**OF_ANSWER, **OF_PROCESS), "cold", "simulation")
    assert attempt._asdict() == {
        **OF_TASK,
        **OF_ANSWER,
        **OF_PROCESS,
        **OF_WORKER,
        "ended": 0.0,
        "generation": 0,
        "left_out": {},
    }


def test_make_tasks_fills_each_field_from_its_own_argument():
    alike = Task(
        bundle=Bundle(Path("a folder"), "a digest"),
        entrypoint="m/b",
        params={},
        seed=0,
        limit_bytes=11,
        threads=2,
        alone=True,
        needed_bytes=33,
        fresh=True,
        timeout_seconds=4.0,
    )
    assert all(getattr(alike, name) != value for name, value in Task._field_defaults.items()), "a field more"
    planned = [PlannedTask(5, 6, "an id", {"x": 1}, 77), PlannedTask(5, 7, "an id", {"x": 2}, 78)]
    assert [task._asdict() for task in make_tasks(planned, alike)] == [
        {**alike._asdict(), "params": {"x": 1}, "seed": 77},
        {**alike._asdict(), "params": {"x": 2}, "seed": 78},
    ]
