"""Where a model that differs between new processes takes its chance from: clocks, entropy, identity, files.

    a traced probe -> uses; a probe with all kinds frozen; for each kind, one where its answers are others
    -> a kind on which the results depend; then the same for each line that uses it -> Sources

Frozen, nothing but what was shifted can differ, so two processes tell. Does not run tasks: `run` does, with
probe.run. What freezing means: replaced.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from modelops_dask.diagnose.probe import Ask, Probed, Use

# What a source is; the first six can be frozen.
KINDS = ("clock", "random", "entropy", "process", "threads", "files", "network", "programs")
FROZEN = KINDS[:6]
ONE_BY_ONE = ("clock", "entropy", "process")  # whose lines can be shifted alone
MOST_LINES = 8
GENERATORS = "global generators (random, numpy.random)"
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
    trial = _Trial(run, deadline)
    uses = trial.uses
    used = {use.kind for use in uses}
    confirmed: set[tuple[str, str, int]] = set()  # (kind, file, line)
    found = []
    if not uses and not trial.repeats:
        found = [Source("process", ADDRESSES, "", 0, False)]
    elif trial.repeats and "process" not in used and trial.depends_on("process"):
        # An address moves with whatever else is otherwise: then nothing more can be told.
        found = [Source("process", ADDRESSES, "", 0, True)]
    elif trial.repeats:
        for kind in (kind for kind in FROZEN if kind in {*used, "random"} and trial.depends_on(kind)):
            if kind not in used:
                uses += trial.drawn
                found = [] if trial.drawn else [Source(kind, GENERATORS, "", 0, True)]
            lines = {(use.file, use.line) for use in uses if use.kind == kind}
            confirmed |= {(kind, *line) for line in _deciding(trial, kind, lines)}
    for use in uses:
        decides = (use.kind, use.file, use.line) in confirmed
        found.append(Source(use.kind, use.call, use.file, use.line, decides))
    # Where even frozen runs differ, what cannot be frozen is the likelier.
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (not one.confirmed, one.kind in FROZEN)))


class _Trial:
    """Runs of the same tasks in new processes, all kinds frozen."""

    def __init__(self, run: Callable[[Ask], Probed], deadline: float) -> None:
        self._run, self._deadline = run, deadline
        traced = run(Ask(trace=True))
        self.uses = [use for use in traced.uses if use.kind in KINDS]
        self._files = dict(traced.written)
        self._frozen = self._result("")
        self.repeats = self._frozen is not None and self._frozen == self._result("")

    def depends_on(self, shifted: str) -> bool:
        """Whether the results are others when a kind, or KIND@FILE:LINE, has another answer."""
        return self._result(shifted) not in (None, self._frozen)

    @cached_property
    def drawn(self) -> list[Use]:
        """Lines that draw from the global generators, whoever they call to do so."""
        if time.monotonic() >= self._deadline:
            return []
        return [use for use in self._run(Ask(trace=True, lines=True)).uses if use.kind == "random"]

    def _result(self, shifted: str) -> list | None:
        """What the tasks come to; None: it cannot be told."""
        if time.monotonic() >= self._deadline:
            return None
        files = {} if shifted == "files" else self._files
        probed = self._run(Ask(frozen=True, shifted=shifted, files=files))
        self._files = probed.written | self._files
        return None if probed.reason else [(one.status, one.reason, one.outputs) for one in probed.answers]


def _deciding(trial: _Trial, kind: str, lines: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those lines of a kind that alone make a difference; all, where that cannot be told."""
    if kind not in ONE_BY_ONE or len(lines) == 1:
        return lines
    some = sorted(lines)[:MOST_LINES]
    return {(file, line) for file, line in some if trial.depends_on(f"{kind}@{file}:{line}")} or lines
