"""Who is to blame when a worker dies: a task, or the host."""

from modelops_dask.study.suspects import BLAMED_TO_AVOID, Suspects


def test_what_ran_is_halved_down_to_a_task():
    suspects = Suspects()
    suspects.add("a", [((0, 4),), ((9, 10),)])
    assert [suspects.take().ranges for _ in range(len(suspects))] == [((0, 2),), ((2, 4),), ((9, 10),)]


def test_a_host_is_avoided_when_nothing_that_died_there_kills_elsewhere():
    suspects = Suspects()
    told = []
    for _ in range(BLAMED_TO_AVOID):
        suspects.add("bad", [((0, 2),)])
        told += [suspects.acquit(suspects.take()), suspects.acquit(suspects.take())]
    assert told == [False] * (2 * BLAMED_TO_AVOID - 1) + [True]
    assert suspects.find_avoided({"bad", "good"}) == {"bad"}
    assert suspects.find_avoided({"bad"}) == set(), "somebody must work"


def test_a_host_is_not_blamed_for_a_task_that_kills():
    suspects = Suspects()
    for _ in range(2 * BLAMED_TO_AVOID):
        suspects.add("good", [((0, 2),)])
        first, _killer = suspects.take(), suspects.take()
        assert not suspects.acquit(first)
    assert suspects.find_avoided({"good", "other"}) == set()


def test_what_never_began_is_next():
    suspects = Suspects()
    suspects.add("a", [((0, 2),)])
    first = suspects.take()
    suspects.give_back(first)
    assert len(suspects) == 2 and suspects.take() is first
