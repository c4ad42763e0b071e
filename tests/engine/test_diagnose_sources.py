"""Where a model's chance comes from: the line that asks, and proof that its results depend on the answer."""

import time

import pytest

from modelops_dask.diagnose import sources
from modelops_dask.diagnose.probe import Ask
from modelops_dask.diagnose.sources import Source
from probe_helpers import probed, said

HEAD = "import datetime, logging, os, random, secrets, tempfile, threading, time, uuid\n"

# What a model has at its top, its task on line 4 (`y` is the result), and the sources that are confirmed.
CHANCE = {
    "time": ("", "y = int(time.time())", [("clock", "time.time")]),
    "datetime": ("", "y = datetime.datetime.now()", [("clock", "datetime.datetime.now")]),
    "a date": ("", "y = datetime.date.today()", [("clock", "datetime.date.today")]),
    "a seed of the clock": (
        "",
        "random.seed(time.time_ns()); y = random.random()",
        [("clock", "time.time_ns")],
    ),
    "random": ("", "y = random.gauss(0, 1)", [("random", "random.gauss")]),
    "a generator of its own": ("", "y = random.Random().random()", [("entropy", "random.Random")]),
    "uuid4": ("", "y = uuid.uuid4()", [("entropy", "uuid.uuid4")]),
    "uuid1": ("", "y = uuid.uuid1()", [("clock", "uuid.uuid1")]),
    "secrets": ("", "y = secrets.token_hex()", [("entropy", "secrets.token_hex")]),
    "urandom": ("", "y = os.urandom(8)", [("entropy", "os.urandom")]),
    "the process": ("", "y = os.getpid()", [("process", "os.getpid")]),
    "id": ("", "y = id(params)", [("process", "id")]),
    "a temporary name": (
        "",
        "y = os.path.basename(tempfile.mkdtemp())",
        [("entropy", "tempfile.mkdtemp")],
    ),
    "NumPy": ("import numpy", "y = numpy.random.rand()", [("random", "numpy.random.rand")]),
    "NumPy, by another way": (
        "import numpy",
        "y = numpy.random.mtrand._rand.rand()",
        [("random", "numpy.random: global generator")],
    ),
    "pandas": ("import pandas", "y = pandas.Timestamp.now()", [("clock", "datetime.datetime.now")]),
    "default_rng": (
        "import numpy",
        "y = numpy.random.default_rng().random()",
        [("entropy", "numpy.random.default_rng")],
    ),
}


def find(folder, wire: str) -> tuple[Source, ...]:
    def run(ask):
        found = probed(folder, wire, ask=ask)
        assert len(found.answers) == 2, said(found)
        return found

    return sources.find(run, deadline=time.monotonic() + 600)


@pytest.mark.parametrize("name", CHANCE)
def test_a_source_is_named_with_its_line_and_confirmed(tmp_path, name):
    head, task, expected = CHANCE[name]
    wire = f"{HEAD}{head}\ndef wire(entrypoint, params, seed):\n    {task}\n    return {{'y': str(y)}}\n"
    found = find(tmp_path, wire)
    confirmed = [one for one in found if one.confirmed and one.kind != "files"]
    assert [(one.kind, one.call, one.file, one.line) for one in confirmed] == [
        (*one, "wire.py", 4) for one in expected
    ], found
    assert found[0].confirmed


def test_of_several_clocks_only_the_one_that_decides_is_confirmed(tmp_path):
    found = find(
        tmp_path,
        """
        import logging, time

        def wire(entrypoint, params, seed):
            started = time.perf_counter()
            y = time.time()
            logging.warning("%s seconds", time.perf_counter() - started)
            return {"y": str(y)}
        """,
    )
    assert [one for one in found if one.confirmed] == [Source("clock", "time.time", "wire.py", 6, True)]
    assert {one.line for one in found} >= {5, 6, 7}


def test_what_a_model_only_looks_at_is_not_confirmed(tmp_path):
    found = find(
        tmp_path,
        """
        import os, time, uuid

        def wire(entrypoint, params, seed):
            print(time.time(), uuid.uuid4(), os.getpid())
            return {"y": str(seed)}
        """,
    )
    assert {one.kind for one in found} == {"clock", "entropy", "process"}
    assert not any(one.confirmed for one in found)


def test_a_model_that_waits_ends_when_clocks_are_frozen(tmp_path):
    found = probed(
        tmp_path,
        """
        import asyncio, concurrent.futures, queue, threading, time

        def wire(entrypoint, params, seed):
            until = time.monotonic() + 5
            while time.monotonic() < until:
                pass
            while time.time() % 60 > 50:
                time.sleep(0.001)
            asyncio.run(asyncio.sleep(0.1))
            try:
                queue.Queue().get(timeout=0.1)
            except queue.Empty:
                pass
            threading.Event().wait(0.1)
            with concurrent.futures.ThreadPoolExecutor(2) as threads:
                list(threads.map(time.sleep, [0.01] * 4, timeout=10))
            return {"y": "done"}
        """,
        ask=Ask(frozen=True),
    )
    assert [answer.outputs for answer in found.answers] == [{"y": b"done"}] * 2, said(found)


def test_addresses_of_objects(tmp_path):
    found = find(
        tmp_path,
        """
        class Agent:
            def __init__(self, number):
                self.number = number

        def wire(entrypoint, params, seed):
            return {"y": str([one.number for one in {Agent(number) for number in range(50)}])}
        """,
    )
    fixed = Source("process", sources.ADDRESSES, "", 0, True)
    assert found in ((fixed,), ()), found  # (): addresses cannot be fixed here, which a container may forbid


def test_a_file_that_earlier_runs_left(tmp_path):
    kept = tmp_path / "kept.txt"
    found = find(
        tmp_path,
        f"""
        from pathlib import Path

        KEPT = Path({str(kept)!r})

        def wire(entrypoint, params, seed):
            number = int(KEPT.read_text()) if KEPT.exists() else 0
            KEPT.write_text(str(number + 1))
            return {{"y": str(number)}}
        """,
    )
    assert set(found) == {
        Source("files", f"read {kept}", "wire.py", 7, True),
        Source("files", f"write {kept}", "wire.py", 8, True),
    }


def test_what_is_known_at_the_deadline_is_returned(tmp_path):
    wire = "import time\ndef wire(entrypoint, params, seed): return {'y': str(time.time())}\n"
    asked = []

    def run(ask):
        asked.append(ask)
        return probed(tmp_path, wire, ask=ask)

    found = sources.find(run, deadline=time.monotonic())
    assert found == (Source("clock", "time.time", "wire.py", 2, False),)
    assert len(asked) == 1
