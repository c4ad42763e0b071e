"""Whether results depend on the machine or the date: hash seed, locale, time zone, listing order, clock.

    an unchanged probe; one with all but the clock changed -> the same, or one for each -> axes
    two with frozen clocks, one of them of another month, weekday and hour -> the clock

Every probe runs the same tasks in one new process, so that only the changed property can differ. `run` runs
the tasks, with probe.run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from modelops_dask.diagnose.trials.probe import ProbeRequest, ProbeResult

PLAIN = ProbeRequest(clears=True)


@dataclass(frozen=True)
class Surrounding:
    """A property that is not the same everywhere. is_fixed: all workers of a study share it."""

    name: str
    request: ProbeRequest
    is_fixed: bool


AXES = (
    Surrounding(
        "hash seed (PYTHONHASHSEED)", replace(PLAIN, variables={"PYTHONHASHSEED": "271"}), is_fixed=True
    ),
    Surrounding(
        "locale (LC_ALL)",
        replace(PLAIN, variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        is_fixed=True,
    ),
    Surrounding("time zone (TZ)", replace(PLAIN, variables={"TZ": "XST-12:45"}), is_fixed=True),
    Surrounding("order of directory listings", replace(PLAIN, reverses_listings=True), is_fixed=False),
)
CLOCK = Surrounding("clock", replace(PLAIN, frozen=True, shifted="clock"), is_fixed=False)
ALL = replace(
    PLAIN,
    variables={name: value for axis in AXES for name, value in axis.request.variables.items()},
    reverses_listings=True,
)


def find_axes(run: Callable[[ProbeRequest], ProbeResult]) -> tuple[Surrounding, ...] | None:
    """The axes that results depend on; None if unchanged probes differ, so that nothing can be determined."""
    plain = _results(run(PLAIN))
    axes: list[Surrounding] = []
    if _results(run(ALL)) != plain:
        axes = [axis for axis in AXES if _results(run(axis.request)) != plain]
        if _results(run(PLAIN)) != plain:
            return None
    frozen = _results(run(replace(PLAIN, frozen=True)))
    if _results(run(CLOCK.request)) != frozen and _results(run(replace(PLAIN, frozen=True))) == frozen:
        axes.append(CLOCK)
    return tuple(axes)


def _results(result: ProbeResult) -> list[object]:
    answers = [(answer.status, answer.reason, answer.outputs) for answer in result.answers]
    return [result.reason, *answers]
