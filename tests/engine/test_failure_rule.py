"""When a task that fails is failed for good: one rule, in the fold of a store, in its verification, and in
the ledger of a run; each against a plain loop, and against the others at every moment of a task's life.
"""

import random

import pyarrow as pa
import pytest

from modelops_dask.plan.plan import FAILED, STATES
from modelops_dask.store import parts
from modelops_dask.store.failures import (
    error_digest,
    failing_line,
    telling_lines,
    without_numbers,
)
from modelops_dask.store.fold import MAX_ATTEMPTS, fold
from modelops_dask.store.verify import check_study, verify
from modelops_dask.store.verify_parts import read_parts
from modelops_dask.store.verify_redo import read_redos
from modelops_dask.store.verify_tasks import Report, StoreReader, read_tasks
from modelops_dask.study.batch import Failed
from modelops_dask.study.ledger import Ledger
from store_helpers import attempt, begin, with_seeds

ENDS = [
    ("failed", "model", "ValueError", "Traceback\nValueError: unlucky"),
    ("failed", "model", "ValueError", "Traceback\nValueError: lucky"),
    ("failed", "model", "KeyError", "Traceback\nValueError: unlucky"),
    ("failed", "transient", "ConnectionError", "Traceback\nConnectionError: away"),
    ("failed", "start", "ImportError", "Traceback\nImportError: nowhere"),
    ("failed", "", "ValueError", "Traceback\nValueError: of an earlier version"),
    ("died", "", "killed by signal 9", "Killed"),
    ("poisoned", "", "killed by signal 11", ""),
    ("ok", "", "", ""),
]
WEIGHTS = [8, 4, 4, 4, 4, 4, 2, 1, 1]


def plain_state(rows: list[parts.Attempt]) -> str:
    """The rule, of the rows of one task, in words: ok, else poisoned, else failed once there are four
    attempts or two failures of the model that are alike word for word, else pending.
    """
    if any(row.status == "ok" for row in rows):
        return "ok"
    if any(row.status == "poisoned" for row in rows):
        return "poisoned"
    errors = [(row.reason, row.error) for row in rows if row.status == "failed" and row.failure == "model"]
    return "failed" if len(rows) >= MAX_ATTEMPTS or len(set(errors)) < len(errors) else "pending"


def random_row(rng: random.Random, plan, index: int) -> parts.Attempt:
    ((status, failure, reason, error),) = rng.choices(ENDS, WEIGHTS)
    return attempt(plan, *divmod(index, plan.replicates), status, failure=failure, reason=reason, error=error)


def as_failed(row: parts.Attempt, index: int) -> Failed:
    digest = error_digest(row.failure, row.reason, row.error)
    return Failed(index, row.status, row.reason, failure=row.failure, error_digest=digest)


@with_seeds(40)
def test_fold_verify_and_ledger_agree_on_random_rows(files, tmp_path, seed):
    """Parts in any order, half of them before the run whose ledger counts the others."""
    print("seed", seed)
    rng = random.Random(seed)
    plan = begin(files, tmp_path, replicates=rng.randint(1, 4))
    history: list[list[parts.Attempt]] = [[] for _ in range(plan.n_tasks)]
    ledger = None
    n_parts = rng.randint(1, 8)
    for number in range(n_parts):
        if ledger is None and rng.random() < 0.4:
            ledger = Ledger(plan, fold(files, plan), MAX_ATTEMPTS)
        rows = []
        for index in rng.sample(range(plan.n_tasks), rng.randint(1, plan.n_tasks)):
            if plain_state(history[index]) != "pending":
                continue  # nobody runs it any more
            row = random_row(rng, plan, index)
            history[index].append(row)
            rows.append(row)
            if ledger is not None and row.status != "ok":
                again = ledger.record_failure(as_failed(row, index))
                assert again == (plain_state(history[index]) == "pending"), (number, index, history[index])
                is_waited_for = ledger.find_failed_before(((index, index + 1),)) == {index}
                has_failed = any(row.failure == "model" for row in history[index])
                assert is_waited_for == (again and has_failed)
        if rows:
            parts.write(files, rows)
    expected = {divmod(index, plan.replicates): plain_state(rows) for index, rows in enumerate(history)}
    state = fold(files, plan)
    assert {task: STATES[state.codes[task]] for task in expected} == expected
    location = str(files.folder) if files.folder else files.url
    reader, report = StoreReader(location), Report(location)
    membership = check_study(reader, report)
    tasks = read_tasks(reader, report, None)
    redos = read_redos(reader, tasks, membership.format, report)
    stored = read_parts(reader, tasks, membership, redos, report)
    assert {task: stored.state(*task) for task in expected} == expected
    assert not [defect for defect in report.findings if defect.code != "CONFLICT"]


def test_the_order_of_rows_and_their_parts_change_nothing(files, tmp_path):
    plan = begin(files, tmp_path)
    twice = [random_row(random.Random(3), plan, 5) for _ in range(1)]
    alike = attempt(plan, 0, 1, "failed", failure="model", reason="E", error="E: 1")
    other = alike._replace(error="E: 2")
    for rows in ([alike], [other, *twice], [alike]):
        parts.write(files, rows)
    assert STATES[fold(files, plan).codes[0, 1]] == "failed"


def test_tasks_that_are_tried_again_by_request_begin_anew(files, tmp_path):
    """--retry: two failures that were alike are forgotten, one more is not the end."""
    plan = begin(files, tmp_path)
    alike = attempt(plan, 0, 1, "failed", failure="model", reason="E", error="E: 1")
    parts.write(files, [alike, alike])
    state = fold(files, plan).retry(FAILED)
    ledger = Ledger(plan, state, MAX_ATTEMPTS)
    assert ledger.record_failure(as_failed(alike, 1)) and not ledger.record_failure(as_failed(alike, 1))


def test_rows_of_a_version_without_the_column_keep_four_attempts(files, tmp_path, monkeypatch):
    plan = begin(files, tmp_path)
    row = attempt(plan, 0, 1, "failed", failure="model", reason="E", error="E: 1")
    new = ("failure", "message", "error_digest")
    old = pa.schema([field for field in parts.SCHEMA if field.name not in new], parts.SCHEMA.metadata)
    with monkeypatch.context() as patched:
        patched.setattr(parts, "SCHEMA", old)
        patched.setattr(parts, "_FLAT", list(old)[:-1])
        for _ in range(3):
            parts.write(files, [row])
    state = fold(files, plan)
    assert (STATES[state.codes[0, 1]], state.attempts[0, 1], state.failed_before) == ("pending", 3, [])
    parts.write(files, [row])
    assert STATES[fold(files, plan).codes[0, 1]] == "failed"


def test_an_error_that_was_changed_in_the_store_is_reported(files, tmp_path, monkeypatch):
    plan = begin(files, tmp_path)
    row = attempt(plan, 0, 1, "failed", failure="model", reason="E", error="E: 1")
    location = str(files.folder) if files.folder else files.url
    parts.write(files, [row])
    assert "DIGEST" not in {defect.code for defect in verify(location).findings}
    monkeypatch.setattr(parts, "error_digest", lambda *_: 5)
    parts.write(files, [row])
    assert "DIGEST" in {defect.code for defect in verify(location).findings}


GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/b/wire.py", line 24, in wire
  |     raise ExceptionGroup("2 compartments failed", errors)
  | ExceptionGroup: 2 compartments failed (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/b/wire.py", line 20, in wire
    |     raise ValueError("S is negative: -3.0")
    | ValueError: S is negative: -3.0
    +---------------- 2 ----------------
    | ZeroDivisionError: N is 0
    +------------------------------------
"""
FIRST = "first: ValueError: S is negative: -3.0"
CHAIN = """Traceback (most recent call last):
  File "/b/model.py", line 3, in step
    1 / 0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/b/wire.py", line 9, in wire
    raise ZeroDivisionError("of the second") from None
ZeroDivisionError: of the second
while building the network
"""


@pytest.mark.parametrize(
    "reason, error, lines",
    [
        ("ExceptionGroup", GROUP, ["ExceptionGroup: 2 compartments failed (2 sub-exceptions)", FIRST]),
        ("ZeroDivisionError", CHAIN, ["ZeroDivisionError: of the second", "while building the network"]),
        ("SystemExit", "SystemExit: cannot go on\n", ["SystemExit: cannot go on"]),
        ("RuntimeError", "Traceback\nRuntimeError\n", ["RuntimeError"]),
        ("Bad", "Traceback\nwire.f.<locals>.Bad: no\n\n   \n", ["wire.f.<locals>.Bad: no"]),
        ("ValueError", "x" * 1000, ["x" * 400]),
        ("killed by signal 9", "Killed", ["Killed"]),
        ("ValueError", "", []),
        ("ValueError", "  \n\n", []),
        ("", "Traceback\nKeyError: 1", ["KeyError: 1"]),
    ],
)  # fmt: skip
def test_what_an_error_says(reason, error, lines):
    assert telling_lines(reason, error).splitlines() == lines


@pytest.mark.parametrize(
    "error, line",
    [
        (CHAIN, "wire.py:9"),
        (GROUP, "wire.py:20"),
        (
            '  File "/b/m.py", line 2, in f\n  File "/usr/lib/python3.12/json/decoder.py", line 7, in g',
            "m.py:2",
        ),
        ('  File "/b/m.py", line 2\n    def f(:\nSyntaxError: invalid', "m.py:2"),
        ('  File "/other/m.py", line 2, in f\n  File "/v/site-packages/x.py", line 3, in g', "/other/m.py:2"),
        ('  File "/v/site-packages/x.py", line 3, in g', "/v/site-packages/x.py:3"),
        ("SystemExit: 0", ""),
    ],
)
def test_where_the_model_failed(error, line):
    assert failing_line(error, "/b") == line


def test_messages_that_differ_in_numbers_alone_are_one_kind():
    messages = [
        "S is -3.0 at day 7",
        "S is -4.25e-3 at day 12",
        "S is -3 at hour 7",
        "<f at 0x7f00ab>",
        "<f at 0x1>",
    ]
    kinds = without_numbers(pa.chunked_array([messages])).to_pylist()
    assert kinds[0] == kinds[1] != kinds[2] and kinds[3] == kinds[4]
