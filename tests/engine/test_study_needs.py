"""What a task is expected to hold, from what its neighbours held."""

import random

from modelops_dask.study.needs import LATEST, Needs


def test_replicates_are_expected_to_need_what_their_set_needed_whatever_order_sets_come_in():
    needs, replicates = Needs(10), 10
    assert needs.expect(((0, 1),)) == 0, "nothing is known"
    for number, peak in enumerate((500, 2000, 100)):
        first = number * replicates
        needs.learn(first, peak)
        assert all(needs.expect(((first + i, first + i + 1),)) == peak for i in range(1, replicates))
    assert needs.expect(((1, 2),)) == 2000, "between two sets it is the larger"
    assert needs.expect(((29, 35),)) == 100, "at the end it is the last"


def test_a_batch_of_many_tasks_needs_the_most_of_what_is_known_in_it_and_on_both_sides():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    needs, known = Needs(1000), {}
    for index in rng.sample(range(200), 60):
        known[index] = rng.randrange(1, 1000)
        needs.learn(index, known[index])
        start = rng.randrange(200)
        stop = rng.randrange(start, 200) + 1
        below = max((i for i in known if i < start), default=None)
        above = min((i for i in known if i >= stop), default=None)
        near = [below, above, *(i for i in known if start <= i < stop)]
        assert needs.expect(((start, stop),)) == max(known[i] for i in near if i is not None)


def test_a_peak_that_is_not_known_teaches_nothing_and_a_newer_one_counts():
    needs = Needs(1)
    needs.learn(5, 0)
    assert needs.expect(((5, 6),)) == 0
    needs.learn(5, 300)
    needs.learn(5, 200)
    assert needs.expect(((5, 6),)) == 200


def test_only_the_latest_are_remembered():
    needs = Needs(1)
    for index in range(2 * LATEST):
        needs.learn(index, 1000 + index)
    assert needs.expect(((0, 1),)) == 1000 + LATEST, "the oldest that is left"
    assert needs.expect(((0, 3 * LATEST),)) == 1000 + 2 * LATEST - 1


def test_a_rise_from_set_to_set_goes_on_beyond_what_is_known():
    needs, replicates = Needs(6), 6
    for number, peak in enumerate((800, 900, 1000)):
        for replicate in range(replicates):
            needs.learn(number * replicates + replicate, peak + replicate % 2)
    assert needs.expect(((17, 18),)) == 1001, "known"
    assert needs.expect(((18, 19),)) == needs.expect(((23, 24),)) == 1101
    assert needs.expect(((18, 6000),)) == 1101, "but no further than was seen"
    needs.learn(20, 1300)
    assert needs.expect(((18, 19),)) == 1300, "one of the set has ended"


def test_what_falls_or_stays_does_not_rise():
    for peaks in ((900, 800), (900, 900), (900,)):
        needs = Needs(2)
        for number, peak in enumerate(peaks):
            needs.learn(2 * number, peak)
        assert needs.expect(((10, 12),)) == peaks[-1]
