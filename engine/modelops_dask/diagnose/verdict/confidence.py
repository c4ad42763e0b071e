"""How sure a difference is, and how sure that there is none.

Counts of differing comparisons, in an arm and in what it is compared with -> a number in [0, 1]

Fisher's exact test, one-sided: R. A. Fisher, "The Design of Experiments" (1935), chapter 2.
"""

from math import comb

MOST = 0.999  # nothing here is ever certain
RARE = 0.1  # the share of comparisons that a bug touches at least, which healthy speaks of


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


def of_healthy(compared: int) -> float:
    """How likely a bug that touches one in ten comparisons would have been seen in so many."""
    return min(MOST, 1 - (1 - RARE) ** compared)
