"""The sources of randomness of a model that differs between new processes: clocks, entropy, identity, files.

    a traced probe -> uses; a probe with all kinds frozen; for each kind, one with shifted answers
    -> a kind on which the results depend; then the same for each line that uses it -> Sources

When everything is frozen, only the shifted source can differ, so two processes suffice. `run` runs the tasks,
with probe.run. chance_sources.py defines freezing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from modelops_dask.diagnose.trials.probe import ProbeRequest, ProbeResult, Use

# Kinds of sources; the first six can be frozen.
KINDS = ("clock", "random", "entropy", "process", "threads", "files", "network", "programs")
FROZEN = KINDS[:6]
ONE_BY_ONE = ("clock", "entropy", "process")  # whose lines can be shifted individually
MOST_LINES = 8
GENERATORS = "global generators (random, numpy.random)"
ADDRESSES = "addresses of objects (default hash, order of a set)"

RunResult = tuple[str, str, dict[str, bytes]]  # status, reason, outputs by name


@dataclass(frozen=True)
class Source:
    """A call of the model, its location, and whether its results depend on the answer."""

    kind: str  # one of KINDS
    call: str  # "time.time"
    file: str  # within the bundle; "" if no line of it led to the call
    line: int
    confirmed: bool


def find(run: Callable[[ProbeRequest], ProbeResult], *, deadline: float) -> tuple[Source, ...]:
    """The sources of randomness of the tasks that `run` runs, each time the same ones in a new process.

    Confirmed ones first. deadline is of time.monotonic(); the facts known by then are returned.
    """
    trials = _FrozenTrials(run, deadline)
    uses = trials.uses
    used_kinds = {use.kind for use in uses}
    confirmed: set[tuple[str, str, int]] = set()  # (kind, file, line)
    chance_sources: list[Source] = []
    if not uses and not trials.are_repeatable:
        chance_sources = [_without_line("process", ADDRESSES, confirmed=False)]
    elif trials.are_repeatable and "process" not in used_kinds and trials.depends_on("process"):
        # An address changes with any other change: then nothing more can be determined.
        chance_sources = [_without_line("process", ADDRESSES, confirmed=True)]
    elif trials.are_repeatable:
        for kind in (kind for kind in FROZEN if kind in {*used_kinds, "random"} and trials.depends_on(kind)):
            if kind not in used_kinds:
                uses += trials.generator_uses
                chance_sources = (
                    [] if trials.generator_uses else [_without_line(kind, GENERATORS, confirmed=True)]
                )
            lines = {(use.file, use.line) for use in uses if use.kind == kind}
            confirmed |= {(kind, *line) for line in _find_deciding_lines(trials, kind, lines)}
    for use in uses:
        decides = (use.kind, use.file, use.line) in confirmed
        chance_sources.append(
            Source(kind=use.kind, call=use.call, file=use.file, line=use.line, confirmed=decides)
        )
    # If even frozen runs differ, a source that cannot be frozen is more likely.
    distinct = list(dict.fromkeys(chance_sources))
    distinct.sort(key=lambda source: (not source.confirmed, source.kind in FROZEN))
    return tuple(distinct)


def _without_line(kind: str, call: str, *, confirmed: bool) -> Source:
    return Source(kind=kind, call=call, file="", line=0, confirmed=confirmed)


class _FrozenTrials:
    """Runs of the same tasks in new processes, all kinds frozen."""

    def __init__(self, run: Callable[[ProbeRequest], ProbeResult], deadline: float) -> None:
        self._run, self._deadline = run, deadline
        result = run(ProbeRequest(trace=True))
        self.uses = [use for use in result.uses if use.kind in KINDS]
        self._files = dict(result.files_before)
        self._frozen = self._run_frozen("")
        self.are_repeatable = self._frozen is not None and self._frozen == self._run_frozen("")

    def depends_on(self, shifted: str) -> bool:
        """Whether the results change when a kind, or KIND@FILE:LINE, has another answer."""
        return self._run_frozen(shifted) not in (None, self._frozen)

    @cached_property
    def generator_uses(self) -> list[Use]:
        """Lines that draw from the global generators, directly or indirectly."""
        if time.monotonic() >= self._deadline:
            return []
        return [use for use in self._run(ProbeRequest(trace=True, lines=True)).uses if use.kind == "random"]

    def _run_frozen(self, shifted: str) -> list[RunResult] | None:
        """The results of the tasks; None if there are none."""
        if time.monotonic() >= self._deadline:
            return None
        files = {} if shifted == "files" else self._files
        result = self._run(ProbeRequest(frozen=True, shifted=shifted, files=files))
        self._files = result.files_before | self._files
        if result.reason:
            return None
        return [(answer.status, answer.reason, answer.outputs) for answer in result.answers]


def _find_deciding_lines(
    trials: _FrozenTrials, kind: str, lines: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those lines of a kind that alone make a difference; all, if that cannot be determined."""
    if kind not in ONE_BY_ONE or len(lines) == 1:
        return lines
    candidates = sorted(lines)[:MOST_LINES]
    return {(file, line) for file, line in candidates if trials.depends_on(f"{kind}@{file}:{line}")} or lines
