"""Where a model that differs between new processes takes its chance from: clocks, entropy, identity, files.

    a traced probe -> uses; a probe with all kinds frozen; for each kind, one where its answers are others
    -> a kind on which the results depend; then the same for each line that uses it -> Sources

Frozen, nothing but what was shifted can differ, so two processes tell. Does not run tasks: `run` does, with
probe.run. What freezing means: replaced.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from modelops_dask.diagnose.probe import Ask, Probed

# What a source is; the first six can be frozen.
KINDS = ("clock", "random", "entropy", "process", "threads", "files", "network", "programs")
FROZEN = KINDS[:6]
ONE_BY_ONE = ("clock", "entropy", "process")  # whose lines can be shifted alone
MOST_LINES = 8
ADDRESSES = "addresses of objects (default hash, order of a set)"


@dataclass(frozen=True)
class Source:
    """A call that the model makes, where, and whether its results depend on the answer."""

    kind: str  # one of KINDS
    call: str  # "time.time"
    file: str  # within the bundle; "" when no line of it led to the call
    line: int
    confirmed: bool


def find(run: Callable[[Ask], Probed], *, deadline: float) -> tuple[Source, ...]:
    """The sources of chance of the tasks that `run` runs, each time the same ones in a new process.

    Confirmed ones first. deadline is of time.monotonic(); what is known by then is returned.
    """
    traced = run(Ask(trace=True))
    uses = [use for use in traced.uses if use.kind in KINDS]
    confirmed: set[tuple[str, str, int]] = set()  # (kind, file, line)
    hidden: set[str] = set()  # kinds that decide, though no line was seen to use them

    def result(shifted: str = "") -> list | None:
        """What the tasks come to, frozen; None: it cannot be told."""
        if time.monotonic() >= deadline:
            return None
        probed = run(Ask(frozen=True, shifted=shifted, files={} if shifted == "files" else traced.written))
        return None if probed.reason else [(one.status, one.reason, one.outputs) for one in probed.answers]

    frozen = result()
    if frozen is not None and frozen == result():
        for kind in sorted(FROZEN, key=lambda kind: kind not in {use.kind for use in uses}):
            if (other := result(kind)) is None or other == frozen:
                continue
            lines = {(use.file, use.line) for use in uses if use.kind == kind}
            if len(lines) > 1 and kind in ONE_BY_ONE:
                lines = _deciding(kind, lines, lambda shifted: result(shifted) not in (None, frozen)) or lines
            confirmed |= {(kind, *line) for line in lines}
            if not lines:
                hidden.add(kind)
    found = [
        Source(use.kind, use.call, use.file, use.line, (use.kind, use.file, use.line) in confirmed)
        for use in uses
    ]
    found += [Source(kind, ADDRESSES if kind == "process" else kind, "", 0, True) for kind in sorted(hidden)]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: not one.confirmed))


def _deciding(kind: str, lines: set[tuple[str, int]], differs: Callable[[str], bool]) -> set[tuple[str, int]]:
    """Those lines that alone make a difference."""
    return {(file, line) for file, line in sorted(lines)[:MOST_LINES] if differs(f"{kind}@{file}:{line}")}
