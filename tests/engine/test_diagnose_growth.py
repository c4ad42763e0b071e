"""Growth of a process: leaks are told from all that only looks like one."""

import math
import random
import time

import pytest

from modelops_dask.diagnose.causes import growth
from modelops_dask.diagnose.trials.probe import ProbeRequest
from probe_helpers import probed, said

KIB, MIB = 1 << 10, 1 << 20
BASE = 80 * MIB
TASKS = 100


def course(kind: str, chance: random.Random) -> list[int]:
    """Resident bytes after each of TASKS tasks of a process that does not leak."""
    period, share, sigma = chance.choice([5, 13, 20]), chance.uniform(0.05, 0.7), chance.uniform(0, 300 * KIB)
    walk, seen = 0.0, []
    for task in range(TASKS):
        noise = chance.gauss(0, sigma)
        walk += chance.gauss(0, 64 * KIB)
        held = {
            "noise": noise,
            "an allocator that wanders": walk,
            "a cache that fills": min(task, share * TASKS) * 300 * KIB + noise,
            "a plateau": 20 * MIB * (1 - math.exp(-task / (0.2 * TASKS * share + 1))) + noise,
            "garbage that waits": (task % period) * 500 * KIB + noise,
            "one step": (30 * MIB if task > share * TASKS else 0) + noise,
        }[kind]
        seen.append(int(BASE + held))
    return seen


@pytest.mark.parametrize(
    "kind",
    [
        *("noise", "an allocator that wanders", "a cache that fills", "a plateau"),
        *("garbage that waits", "one step"),
    ],
)
def test_processes_that_do_not_leak_are_not_called_leaks(kind):
    seed = time.time_ns()
    print("seed", seed)
    chance = random.Random(seed)
    alarms = 0
    for _ in range(200):  # each looked at twice, as the experiment does
        alarms += all(growth.fit(course(kind, chance)).leaks for _ in range(2))
    assert alarms == 0


@pytest.mark.parametrize("leak_bytes", [50 * KIB, 100 * KIB, 5 * MIB])
def test_a_leak_is_seen_and_measured(leak_bytes):
    seed = time.time_ns()
    print("seed", seed)
    chance = random.Random(seed)
    missed = wrong = 0
    for _ in range(100):
        seen = [one + leak_bytes * task for task, one in enumerate(course("noise", chance))]
        found = growth.fit(seen)
        missed += not found.leaks
        wrong += not found.low_bytes <= leak_bytes <= found.high_bytes
    assert missed <= 10 and wrong <= 10, (missed, wrong)


def test_too_few_tasks_tell_nothing():
    assert growth.fit([BASE + task * MIB for task in range(growth.FEWEST - 1)]) is None


def test_a_process_is_replaced_before_it_reaches_its_limit():
    found = growth.fit([BASE + task * MIB for task in range(TASKS)])
    most = growth.compute_max_process_reuse(found, 512 * MIB, peak_bytes=200 * MIB)
    assert 200 * MIB + most * MIB <= 0.9 * 512 * MIB < 200 * MIB + (most + 5) * MIB
    assert growth.compute_max_process_reuse(found, 512 * MIB) > most
    assert growth.compute_max_process_reuse(found, 64 * MIB) == 1, "it never fits: each task has its own"


HEAD = """
    import ctypes, functools, random

    c = ctypes.CDLL(None)
    c.malloc.restype = ctypes.c_void_p
    kept = []

    class Cycle:
        def __init__(self):
            self.me, self.data = self, b"x" * 300_000

    @functools.lru_cache(maxsize=20)
    def cached(seed):
        return b"x" * 200_000

    def shuffled(seed):
        some = random.Random(seed)
        kept.extend(b"x" * some.randrange(100, 30_000) for _ in range(100))
        some.shuffle(kept)
        del kept[300:]

    def wire(entrypoint, params, seed):
        {task}
        return {{"y": "done"}}
"""


@pytest.mark.parametrize(
    "task, leaks",
    [
        ("kept.append([float(number) for number in range(3000)])", True),
        ("ctypes.memset(c.malloc(100_000), 1, 100_000)", True),
        ("kept.append(b'x' * 5_000_000)", True),
        ("b'x' * (5_000_000 + 1000 * seed)", False),
        ("Cycle()", False),
        ("cached(seed)", False),
        ("shuffled(seed)", False),
    ],
)
def test_real_processes(tmp_path, task, leaks):
    found = probed(tmp_path, HEAD.format(task=task), seeds=range(100), ask=ProbeRequest(memory=True))
    assert len(found.resident_bytes) == 100, said(found)
    grown = growth.fit(found.resident_bytes)
    assert grown.leaks is leaks, (grown, found.resident_bytes)
