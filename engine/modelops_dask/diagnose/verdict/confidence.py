"""The confidence of a difference, and of its absence.

    Counts of differing comparisons, in an arm and in its control -> a number in [0, 1]
    Distinct tasks that agree, of all tasks of the study -> a number in [0, 1]

Fisher's exact test, one-sided: R. A. Fisher, "The Design of Experiments" (1935), chapter 2.
"""

from math import comb

MOST = 0.999  # nothing is ever completely certain
RARE = 0.1  # the minimum share of a study's tasks that a bug affects, for the confidence of healthy
STATED = 0.95  # confidence below which a model is not called healthy


def of_difference(differing: int, compared: int, control_differing: int, control: int) -> float:
    """1 - p, where p is the probability that at least as many of the differing comparisons would fall into
    the arm by chance if it did not differ from its control.

    `compared` and `control` count comparisons, differing or not.
    """
    in_all, total = differing + control_differing, compared + control
    if not differing:
        return 0.0
    tail = sum(
        comb(compared, k) * comb(control, in_all - k) for k in range(differing, min(in_all, compared) + 1)
    )
    return min(MOST, 1 - tail / comb(total, in_all))


def of_healthy(compared: int, total: int) -> float:
    """The probability that a bug in one in ten of `total` tasks affects one of the `compared` distinct ones.

    Running a task again does not count, because it would not show the effect of other parameters.
    """
    touched = max(1, round(RARE * total))
    return min(MOST, 1 - comb(total - touched, compared) / comb(total, compared)) if total else 0.0


def of_equal_pairs(pairs: int) -> float:
    """The improbability that the results of this many pairs of seeds agree by chance, if half of all do."""
    return min(MOST, 1 - 0.5**pairs)


def n_tasks_needed(total: int) -> int:
    """The fewest distinct tasks whose agreement means healthy with STATED confidence."""
    return next((count for count in range(total) if of_healthy(count, total) >= STATED), total)
