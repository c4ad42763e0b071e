"""How sure a difference is, and how sure that there is none.

Counts of differing comparisons, in an arm and in what it is compared with -> a number in [0, 1]
Different tasks that agree, of all tasks of the study -> a number in [0, 1]

Fisher's exact test, one-sided: R. A. Fisher, "The Design of Experiments" (1935), chapter 2.
"""

from math import comb

MOST = 0.999  # nothing here is ever certain
RARE = 0.1  # the share of a study's tasks that a bug touches at least, which healthy speaks of
STATED = 0.95  # confidence below which nothing is called healthy


def of_difference(differing: int, compared: int, control_differing: int, control: int) -> float:
    """1 - p: p is how likely at least so many of the differing comparisons would fall into the arm by chance,
    were it no different from its control. `compared` and `control` count comparisons, differing or not.
    """
    in_all, total = differing + control_differing, compared + control
    if not differing:
        return 0.0
    tail = sum(
        comb(compared, k) * comb(control, in_all - k) for k in range(differing, min(in_all, compared) + 1)
    )
    return min(MOST, 1 - tail / comb(total, in_all))


def of_healthy(compared: int, total: int) -> float:
    """How likely a bug that touches one in ten of `total` tasks touches one of the `compared` different ones.

    Running a task again does not count: it would not show what other parameters do.
    """
    touched = max(1, round(RARE * total))
    return min(MOST, 1 - comb(total - touched, compared) / comb(total, compared)) if total else 0.0


def of_equal_pairs(pairs: int) -> float:
    """How unlikely it is that the results of so many pairs of seeds agree by chance, if half of all do."""
    return min(MOST, 1 - 0.5**pairs)


def n_tasks_needed(total: int) -> int:
    """The fewest different tasks whose agreement is healthy with STATED confidence."""
    return next((count for count in range(total) if of_healthy(count, total) >= STATED), total)
