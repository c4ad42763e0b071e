"""An answer counts only if it is the awaited one, of the process that has the task."""

import base64
import io
import json
import os
import pickle
import random
import socket
import struct
import tracemalloc

import pytest

from executor_helpers import descriptors, settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.executors import mailbox, messages, replay
from modelops_dask.executors.mailbox import Mailbox, OutOfTurn, answer_of
from modelops_dask.executors.messages import OUT_OF_TURN, Answer, pack
from study_helpers import SMALL, mops_helm

KINDS = ["isolated_warm", "isolated_fork", "cold"]
NONCE = b"12345678"

# A task that forks, and whose child comes back from wire() as if it were the task.
FORKS = """
import ctypes, os, time

def wire(entrypoint, params, seed):
    if params["forks"]:
        fork = os.fork if params["how"] == "os.fork" else ctypes.CDLL(None).fork
        if fork() == 0:
            time.sleep(params["late"])
    return {"x": str(params["x"])}
"""

# Finds the connection and the turn of its task in the frames of its callers, and writes to its socket. A
# `forger` does so in a child that a system call made, which has all that its parent knows.
INSIDER = """
import ctypes, os, sys, time

def wire(entrypoint, params, seed):
    frame, turn, connection = sys._getframe(), None, None
    while frame is not None:
        names = frame.f_locals
        connection = connection or names.get("connection")
        turn = turn or names.get("its_turn")
        if "nonce" in names and "number" in names and turn is None:
            turn = names["number"].to_bytes(8, "big") + names["nonce"]
        frame = frame.f_back
    descriptor = connection._descriptor
    for what, data in params["writes"]:
        number = int.from_bytes(turn[:8], "big") + (what == "next")
        data = (number.to_bytes(8, "big") + turn[8:] if what else b"") + bytes.fromhex(data)
        if params["forger"]:
            if ctypes.CDLL(None).fork() == 0:
                os.write(descriptor, data)
                os._exit(0)
            time.sleep(params["wait"])
        else:
            os.write(descriptor, data)
    return {"x": str(params["x"])}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("forks"), {"wire.py": FORKS})


@pytest.fixture(scope="module")
def insider(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("insider"), {"wire.py": INSIDER})


def body_of(answer):
    """What stands behind the turn in the frame of an answer."""
    return b"".join(pack(bytes(16), messages.head_of(answer), *answer.outputs.values()))[16:]


FORGED = body_of(Answer("ok", {"x": b"forged"}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "late"), [("os.fork", 0), ("fork(2)", 0.02)])
def test_a_child_that_comes_back_from_a_task_answers_nothing(folder, forks, kind, how, late):
    chosen = settings(folder, executor_type=kind, task_timeout_seconds=20)
    tasks = [task(forks, chosen, seed=x, x=x, how=how, late=late, forks=x % 4 == 1) for x in range(8)]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    assert [(outcome.status, outcome.outputs.get("x")) for outcome in outcomes] == [
        ("ok", str(x).encode()) for x in range(8)
    ]


@pytest.mark.skipif(not mailbox.CREDENTIALS, reason="the kernel does not tell who wrote")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["this", "next"])
def test_a_perfect_answer_of_another_process_does_not_count(folder, insider, kind, what):
    """It has the right number and nonce: the kernel's word is all that is against it."""
    chosen = settings(folder, executor_type=kind, task_timeout_seconds=20)
    writes = [(what, FORGED.hex())]
    plain = {"writes": [], "forger": False, "wait": 0}
    forging = {"writes": writes, "forger": True, "wait": 0.05}
    tasks = [task(insider, chosen, seed=x, x=x, **(forging if x == 2 else plain)) for x in range(5)]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    assert (outcomes[2].status, outcomes[2].reason, outcomes[2].outputs) == ("died", OUT_OF_TURN, {})
    assert outcomes[2].error.endswith(mailbox.STRANGER)
    others = [outcome.outputs.get("x") for x, outcome in enumerate(outcomes) if x != 2]
    assert others == [b"0", b"1", b"3", b"4"]


def test_whom_a_late_stranger_disturbs_has_another_chance(folder, insider):
    """Its process is not the one to blame: alone in a new one it does well, and is not told to have died."""
    chosen = settings(folder, executor_type="isolated_warm", task_timeout_seconds=20)
    plain = {"writes": [], "forger": False, "wait": 0}
    forging = {"writes": [("this", FORGED.hex())], "forger": True, "wait": 0}
    tasks = [task(insider, chosen, seed=x, x=x, **(forging if x % 10 == 2 else plain)) for x in range(60)]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    for x, outcome in enumerate(outcomes):
        assert outcome.outputs.get("x") in ((str(x).encode(), None) if x % 10 == 2 else (str(x).encode(),))


HEADS = [
    *("{}", "[]", "null", "NaN", "\0", "1" * 5000, "[" * 100_000, '["ok"]', '["ok",{},"","",1e999,0,""]'),
    *(
        '["ok",{"y":-1},"","",0,0,""]',
        '["ok",{"y":9223372036854775808},"","",0,0,""]',
        '["ok",{},"","",0.0,0,""]',
    ),
    *(
        '["ok",{"y":true},"","",0,0,""]',
        '["ok",{},"\\ud800","",0,0,""]',
        '["fine",{},"","",0,0,""]',
        "\\ud800",
    ),
    *(
        '["ready",{},"","",0,0,""]',
        '["ok",{},"","",0,0,""] ',
        '["ok",{},"","",0,1.0,""]',
        '["ok",[],"","",0,0,""]',
    ),
]


def garbage(chance):
    """(kind, bytes): what may be written to a socket by mistake or on purpose. The kind says whether behind a
    true number and nonce ("this"), behind those of the next task ("next"), or as it is ("").
    """
    sizes = [0, 1, 27, 2**16, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
    size, head = chance.choice(sizes), chance.choice(HEADS).encode()
    kind = chance.choice(["", "this", "next"])
    if not kind and chance.random() < 0.7:
        plain = [chance.randbytes(chance.randint(1, 200)), b"hello world, this is a line of a log\n"]
        return kind, chance.choice([*plain, struct.pack(">Q", size) + chance.randbytes(5)]).hex()
    lengths = [(2**32 - 1, size), (0, size), (5, 2**63), (5, 0)]
    framed = [struct.pack(">IQ", *pair) + b"12345" for pair in lengths]
    return kind, chance.choice([*framed, *[struct.pack(">IQ", len(head), 0) + head] * 3]).hex()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_task_writes_costs_that_task(folder, insider, kind):
    seed = int(os.environ.get("TEST_SEED", random.randrange(2**32)))
    print(f"TEST_SEED={seed}")
    chance = random.Random(seed)
    chosen = settings(folder, executor_type=kind, task_timeout_seconds=20)
    n_tasks = 25 if kind == "isolated_warm" else 10
    written = [[garbage(chance)] if chance.random() < 0.4 else [] for _ in range(n_tasks)]
    tasks = [
        task(insider, chosen, seed=x, x=x, writes=writes, forger=False) for x, writes in enumerate(written)
    ]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    for x, (writes, outcome) in enumerate(zip(written, outcomes, strict=True)):
        if writes:
            assert (outcome.status, outcome.reason, outcome.outputs) == ("died", OUT_OF_TURN, {}), writes
            assert outcome.error.endswith(mailbox.STRAY)
        else:
            assert (outcome.status, outcome.outputs) == ("ok", {"x": str(x).encode()})


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    mail = Mailbox(ours)
    mail.expect(os.getpid())
    ours.settimeout(5)
    with ours, theirs:
        yield mail, theirs


def test_an_answer_arrives_as_it_was_sent(pair):
    mail, theirs = pair
    its_turn = messages.turn(NONCE, 3)
    for outputs in ({}, {"": b""}, {"a": b"1", '\u00e9\U0001f600\n"': bytes(range(256)) * 100}):
        sent = Answer("ok", outputs, "why", "line\nline \u4e2d", 1.25e-6, 123456789)
        for piece in pack(its_turn, messages.head_of(sent), *outputs.values()):
            theirs.sendall(piece)
        while (frame := mail.frame(its_turn)) is None:
            assert mail.read()
        assert answer_of(frame) == sent
        assert list(answer_of(frame).outputs) == list(outputs)
        assert mail.is_empty


def test_random_bytes_are_out_of_turn_and_take_no_memory():
    seed = int(os.environ.get("TEST_SEED", random.randrange(2**32)))
    print(f"TEST_SEED={seed}")
    chance = random.Random(seed)
    its_turn = messages.turn(NONCE, 1)
    tracemalloc.start()
    try:
        for _ in range(3000):
            kind, data = garbage(chance)
            data = (its_turn if kind else b"") + bytes.fromhex(data)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                mail = Mailbox(ours)
                mail.expect(os.getpid())
                theirs.sendall(data)
                theirs.shutdown(socket.SHUT_WR)
                with pytest.raises(OutOfTurn):
                    while (frame := mail.frame(its_turn)) is None:
                        if not mail.read():
                            raise OutOfTurn("it ends too early")
                    answer = answer_of(frame)
                    if answer.status not in messages.ENDS:
                        raise OutOfTurn("process.py and its kind refuse it")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_too_many_names_are_the_failure_of_the_task(monkeypatch):
    monkeypatch.setattr(messages, "HEAD_LIMIT", 1000)
    ours, theirs = socket.socketpair()
    with ours:
        mail = Mailbox(ours)
        mail.expect(os.getpid())
        connection = messages.Connection(theirs.detach())
        connection.send(messages.START, Answer("ok", {f"name {n}": b"" for n in range(100)}))
        assert mail.read()
        answer = answer_of(mail.frame(messages.START))
        assert (answer.status, answer.reason, answer.outputs) == ("failed", "HeadTooLarge", {})
        connection._close()


def test_descriptors_that_come_along_are_not_taken(pair):
    mail, theirs = pair
    before = descriptors()
    socket.send_fds(theirs, [b"x" * 28], [theirs.fileno()])
    with pytest.raises(OutOfTurn):
        mail.read()
        mail.frame(messages.START)
    assert descriptors() == before


@pytest.mark.parametrize("kind", executors.TYPES)
def test_outcomes_tell_the_process_and_the_number_of_the_task_in_it(folder, forks, kind):
    chosen = settings(folder, executor_type=kind, max_process_reuse=3)
    tasks = [task(forks, chosen, seed=x, x=x, forks=False) for x in range(5)]
    with executors.create(chosen) as executor:
        lives = [(outcome.runner, outcome.runner_task) for outcome in executor.run_all(tasks)]
    numbers = [number for _, number in lives]
    n_processes = len({runner for runner, _ in lives})
    assert all(runner for runner, _ in lives) and len(set(lives)) == 5
    if kind == "direct":
        assert (numbers, n_processes) == ([1, 2, 3, 4, 5], 1)
    elif kind == "isolated_warm":
        assert (numbers, n_processes) == ([1, 2, 3, 1, 2], 2)
    else:
        assert (numbers, n_processes) == ([1] * 5, 5)


class Runs:
    """A pickle of it runs a command where it is read."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    "report",
    [
        None,
        {},
        [1, 2],
        [["json", 3, None], [["m", "f"], ["m", "f", 3], "m"]],
        [["no such module"], [["json", "loads", base64.b64encode(pickle.dumps(Runs())).decode()]]],
    ],
)
def test_a_zygote_learns_nothing_from_a_report_that_is_none(report):
    if found := replay.read(report):
        replay.replay(*found)


@pytest.mark.parametrize(
    "named",
    [Runs(), os.system, socket.socket, Answer],
    ids=["an object", "a function", "a socket", "a tuple"],
)
def test_types_of_numba_are_all_that_a_zygote_unpickles(named):
    with pytest.raises(pickle.UnpicklingError, match="is not a type of numba"):
        replay.Types(io.BytesIO(pickle.dumps(named))).load()


def test_a_task_that_spoke_twice_is_poisoned_at_once(tmp_path, insider):
    """The executor has tried it alone: to run it a third time would tell nothing new."""
    plain = {"writes": [], "forger": False}
    sets = [{"x": x, **(plain | {"writes": [("", "00")]} if x == 2 else plain)} for x in range(6)]
    study = {"entrypoint": "m.s/b", "bundle": str(insider), "sets": sets}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    done = mops_helm("study", "run", "study.yaml", "--store", "out", *SMALL, "-o", "json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["ok"], summary["failed"], summary["poisoned"]) == (5, 0, 1)
    assert summary["by_reason"][0]["reason"] == OUT_OF_TURN


def test_an_outcome_tells_why_forking_was_given_up(folder, tmp_path, monkeypatch):
    text = (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()\n"
        "def wire(e, p, s):\n    return {'x': str(s)}\n"
    )
    chosen = settings(folder, executor_type="isolated_fork")
    source = write_bundle(tmp_path / "threads", {"wire.py": text})
    with executors.create(chosen) as executor:
        outcomes = executor.run_all([task(source, chosen, seed=seed) for seed in range(2)])
    assert all("left threads running: ticker" in outcome.fallback for outcome in outcomes)
    assert {outcome.runner_task for outcome in outcomes} == {1}
    monkeypatch.setattr("modelops_dask.executors.sys.platform", "darwin")
    with executors.create(chosen) as executor:
        assert executor.run(task(source, chosen)).fallback == "forking is unsafe on darwin"
