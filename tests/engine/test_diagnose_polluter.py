"""The search for the tasks that change a later one's result."""

import math
import random
import time

import pytest

from modelops_dask.diagnose.causes import polluter

LATER = math.inf


def after(*culprits):
    """fails(): the victim fails once all of these ran before it, in this order."""

    def fails(sequence, victim):
        assert victim == "victim"
        left = iter(sequence)
        return all(one in left for one in culprits)

    return fails


@pytest.mark.parametrize("culprit", range(23))
def test_a_single_polluter_is_found_in_a_few_calls(culprit):
    found = polluter.find(range(23), "victim", after(culprit), deadline=LATER)
    assert (found.tasks, found.minimal, found.failed, found.tried) == ((culprit,), True, 3, 3)
    assert found.calls <= 22  # of them 7 for the first and last question and to confirm


def test_any_set_of_polluters_is_found_and_nothing_else():
    seed = time.time_ns()
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(300):
        before = chance.sample(range(100), chance.randint(1, 30))
        culprits = [one for one in before if chance.random() < 4 / len(before)] or [before[0]]
        found = polluter.find(before, "victim", after(*culprits), deadline=LATER, most_calls=1000)
        assert (found.tasks, found.minimal) == (tuple(culprits), True)


def test_any_task_may_do_but_a_number_of_them_is_needed():
    found = polluter.find(range(20), 0, lambda tasks, _: len(tasks) >= 5, deadline=LATER)
    assert len(found.tasks) == 5 and found.minimal
    assert list(found.tasks) == sorted(found.tasks)


def test_nothing_is_made_up():
    assert polluter.find(range(9), 0, lambda *_: False, deadline=LATER) is None
    assert polluter.find(range(9), 0, lambda *_: True, deadline=LATER) is None, "it fails alone, too"
    assert polluter.find((), 0, lambda *_: True, deadline=LATER) is None


def test_failures_that_come_and_go_are_tried_again():
    seed = time.time_ns()
    print("seed", seed)
    chance = random.Random(seed)
    right = 0
    for _ in range(200):
        culprit = chance.randrange(16)
        found = polluter.find(
            range(16),
            "victim",
            lambda tasks, _, culprit=culprit: culprit in tasks and chance.random() < 0.7,
            deadline=LATER,
            most_calls=300,
        )
        right += found is not None and found.tasks == (culprit,)
    assert right >= 110, right  # of 200, 150 on average; a miss keeps others beside the culprit


def test_it_ends_after_its_calls_with_the_best_that_it_has():
    calls = []

    def fails(tasks, _):
        calls.append(tasks)
        return {3, 17} <= set(tasks)

    found = polluter.find(range(20), 0, fails, deadline=LATER, most_calls=12)
    assert len(calls) == found.calls == 12
    assert {3, 17} <= set(found.tasks) and not found.minimal


def test_it_ends_at_the_deadline():
    calls = []

    def fails(tasks, _):
        calls.append(tasks)
        return bool(tasks)

    assert polluter.find(range(20), 0, fails, deadline=time.monotonic() - 1) is None
    assert not calls
