"""Which earlier tasks change a later one's result: the smallest sequence, by delta debugging.

    tasks before the victim, fails(sequence, victim) -> the shortest subsequence that still makes it fail

After Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002), their ddmin; likely
single tasks are tried before. Does not run tasks: `fails` does, each time in a new process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_CALLS = 100


@dataclass(frozen=True)
class Polluter(Generic[T]):
    """The shortest sequence known after which the victim fails.

    `minimal`: none of its tasks can be left out (else time ended the search first). `failed` of `tried`: how
    often the victim failed after just this sequence; fewer than all means that chance plays a part.
    """

    tasks: tuple[T, ...]
    minimal: bool
    failed: int
    tried: int
    calls: int  # of `fails`, in all


def find(
    before: Sequence[T],
    victim: T,
    fails: Callable[[Sequence[T], T], bool],
    *,
    deadline: float,
    most_calls: int = MOST_CALLS,
    repeats: int = 3,
) -> Polluter[T] | None:
    """The smallest subsequence of `before`, in its order, after which fails(subsequence, victim).

    deadline is of time.monotonic(); `fails` must obey it, too. None: not even the whole of `before` made the
    victim fail in `repeats` tries, or it fails after nothing at all.
    """
    raise NotImplementedError
