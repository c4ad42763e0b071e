"""Memory shared by processes: never more than there is, and nobody waits for ever."""

import json
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain

import pytest

from helpers import wait_for
from limits_helpers import own_pod  # noqa: F401 (a fixture)
from modelops_dask.limits.admission import Admission

MIB = 1024 * 1024
pytestmark = pytest.mark.usefixtures("own_pod")


@pytest.fixture
def admission():
    made = []

    def create(capacity_mib=100, own_mib=0, is_full=lambda: False):
        made.append(Admission(capacity_mib * MIB, own_mib * MIB, is_full))
        return made[-1]

    yield create
    for each in made:
        each.close()


class Waiting(threading.Thread):
    """A task that waits for memory, and then holds it until it is let go."""

    def __init__(self, admission, mib, alone=False):
        super().__init__(daemon=True)
        self.admission, self.mib, self.alone = admission, mib, alone
        self.begun, self.may_end, self.held_mib = threading.Event(), threading.Event(), 0
        self.start()

    def run(self):
        with self.admission.admit(self.mib * MIB, self.alone) as held_bytes:
            self.held_mib = held_bytes // MIB
            self.begun.set()
            self.may_end.wait()

    def end(self):
        self.may_end.set()
        self.join()


def at_the_front(admission):
    """Whether somebody waits for memory."""
    if not admission._process.lock(1 << 30):
        return True
    admission._process.unlock(1 << 30)
    return False


def test_tasks_that_fit_run_side_by_side_and_the_next_one_waits(admission):
    pod = admission()
    first, second = Waiting(pod, 60), Waiting(pod, 40)
    assert first.begun.wait(20) and second.begun.wait(20)
    third = Waiting(pod, 1)
    wait_for(lambda: at_the_front(pod), "task that waits")
    assert not third.begun.is_set()
    second.end()
    assert third.begun.wait(20)
    first.end(), third.end()


def test_the_free_memory_need_not_lie_side_by_side(admission):
    pod = admission()
    with ExitStack() as stack:
        tasks = [Waiting(pod, 20) for _ in range(5)]
        for task in tasks:
            assert task.begun.wait(20)
            stack.callback(task.end)
        tasks[0].end(), tasks[2].end(), tasks[4].end()
        wide = Waiting(pod, 60)
        assert wide.begun.wait(20) and wide.held_mib == 60
        wide.end()


def test_a_large_task_is_not_overtaken_by_small_ones(admission):
    pod = admission()
    small = Waiting(pod, 30)
    assert small.begun.wait(20)
    large = Waiting(pod, 90)
    wait_for(lambda: at_the_front(pod), "task that waits")
    later = Waiting(pod, 10)
    assert not later.begun.wait(0.3), "there is room for it, and it is not its turn"
    small.end()
    assert large.begun.wait(20)
    assert later.begun.wait(20), "behind the large one there is room"
    large.end(), later.end()


def test_a_task_that_needs_more_than_there_is_runs_by_itself(admission):
    pod = admission(own_mib=20)
    small = Waiting(pod, 10)
    assert small.begun.wait(20)
    huge = Waiting(pod, 5000)
    wait_for(lambda: at_the_front(pod), "task that waits")
    assert not huge.begun.is_set()
    small.end()
    assert huge.begun.wait(20) and huge.held_mib == 80
    huge.end()


def test_a_task_to_run_alone_has_all_there_is(admission):
    pod = admission(own_mib=20)
    small = Waiting(pod, 10)
    assert small.begun.wait(20)
    alone = Waiting(pod, 1, alone=True)
    wait_for(lambda: at_the_front(pod), "task that waits")
    assert not alone.begun.is_set()
    small.end()
    assert alone.begun.wait(20) and alone.held_mib == 80
    alone.end()


def test_one_task_runs_even_when_the_processes_hold_everything(admission):
    pods = [admission(own_mib=70) for _ in range(4)]
    task = Waiting(pods[3], 10)
    assert task.begun.wait(20) and task.held_mib == 1
    task.end()


def test_while_memory_is_full_tasks_begin_one_at_a_time(admission):
    full = threading.Event()
    full.set()
    pod = admission(is_full=full.is_set)
    first, second = Waiting(pod, 10), Waiting(pod, 10)
    wait_for(lambda: first.begun.is_set() or second.begun.is_set(), "task that runs")
    wait_for(lambda: at_the_front(pod), "task that waits")
    assert first.begun.is_set() != second.begun.is_set()
    full.clear()
    assert first.begun.wait(20) and second.begun.wait(20)
    first.end(), second.end()


def test_a_process_that_joins_does_not_wait_for_tasks(admission):
    first = admission()
    running = Waiting(first, 60)
    assert running.begun.wait(20)
    large = Waiting(first, 90)
    wait_for(lambda: at_the_front(first), "task that waits")
    second = admission(own_mib=20)
    assert not second.hold(20 * MIB)
    running.end()
    assert large.begun.wait(20) and large.held_mib == 90
    large.end()
    wait_for(lambda: second.hold(20 * MIB), "moment without a task at the front")
    with first.admit(1, alone=True) as held_bytes:
        assert held_bytes == 80 * MIB


def test_what_a_process_holds_for_itself_can_change(admission):
    pod = admission(own_mib=20)
    assert pod.hold(50 * MIB)
    with pod.admit(1, alone=True) as held_bytes:
        assert held_bytes == 50 * MIB
    assert pod.hold(10 * MIB)
    with pod.admit(1, alone=True) as held_bytes:
        assert held_bytes == 90 * MIB


def test_nobody_waits_for_an_executor_that_has_ended(admission):
    pod = admission()
    with pod.admit(100 * MIB), ThreadPoolExecutor(1) as threads:

        def wait():
            with pod.admit(MIB):
                pass

        waiting = threads.submit(wait)
        wait_for(lambda: at_the_front(pod), "task that waits")
        pod.close()
        with pytest.raises(RuntimeError, match="closed"):
            waiting.result(timeout=20)
        pod._process = type(pod._process)()  # for the fixture to close


PROCESS = """
import json, random, sys, time
from modelops_dask.limits.admission import Admission
draw, seen = random.Random(int(sys.argv[1])), []
pod = Admission(100 << 20, 5 << 20)
while not pod.hold(5 << 20):
    pass
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    with pod.admit(draw.randint(1, 60) << 20, alone=draw.random() < 0.1) as held_bytes:
        begun = time.monotonic()
        time.sleep(draw.random() / 100)
        seen.append((begun, time.monotonic(), held_bytes >> 20))
print(json.dumps(seen), flush=True)
sys.stdin.readline()
"""


def start(seed):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_together_never_hold_more_than_there_is():
    seed = random.randrange(1 << 30)
    print("seed", seed)
    processes = [start(seed + number) for number in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    seen = [json.loads(process.stdout.readline()) for process in processes]
    for process in processes:
        process.communicate("\n")
    events = []  # sorted, what ends at a moment comes before what begins
    for begun, ended, mib in chain(*seen):
        events += [(begun, 1, mib), (ended, -1, -mib)]
    held = running = most_held = most_running = 0
    for _, change, mib in sorted(events):
        held, running = held + mib, running + change
        most_held, most_running = max(most_held, held), max(most_running, running)
    assert most_held <= 100 - 4 * 5
    assert most_running > 1, "and they do run side by side"


def test_what_a_killed_process_held_is_free(admission):
    script = (
        "import time\nfrom modelops_dask.limits.admission import Admission\n"
        "with Admission(100 << 20, 30 << 20).admit(60 << 20):\n"
        "    print('holding', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    pod = admission()
    task = Waiting(pod, 95)
    wait_for(lambda: at_the_front(pod), "task that waits")
    assert not task.begun.is_set()
    process.kill()
    process.communicate()
    assert task.begun.wait(20) and task.held_mib == 95
    task.end()


def test_a_task_holds_what_would_be_left_over_beside_others_that_need_as_much(admission):
    pod = admission(own_mib=10)
    for needed, most, held in ((40, 60, 45), (30, 45, 30), (25, 26, 26), (60, 70, 70), (60, 500, 90)):
        with pod.admit(needed * MIB, most_bytes=most * MIB) as held_bytes:
            assert held_bytes == held * MIB
    with pod.admit(40 * MIB, most_bytes=60 * MIB), pod.admit(40 * MIB, most_bytes=60 * MIB) as second:
        assert second == 45 * MIB, "the first has left as much"
