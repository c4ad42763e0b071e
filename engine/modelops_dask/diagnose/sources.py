"""Where a model that differs between new processes takes its chance from: clocks, entropy, identity.

    a traced probe -> uses; probes with one kind frozen at a time -> which kind decides -> Sources

Does not run or trace: `run` does, with probe.run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from modelops_dask.diagnose.probe import Ask, Probed

KINDS = ("clock", "random", "entropy", "process", "files", "threads")


@dataclass(frozen=True)
class Source:
    """A call that the model makes, where, and whether results agree once its kind is frozen."""

    kind: str  # one of KINDS
    call: str  # "time.time"
    file: str  # within the bundle; "" when no line of it led to the call
    line: int
    confirmed: bool


def find(run: Callable[[Ask], Probed], *, deadline: float) -> tuple[Source, ...]:
    """The sources of chance of the tasks that `run` runs, each time the same ones in a new process.

    Confirmed ones first. deadline is of time.monotonic(); what is known by then is returned.
    """
    raise NotImplementedError
