"""One pass over the parts of a study: numbers, histograms, a timeline, failures, conditions.

parts -> Measurement

Memory grows by only a few bytes per task (ten million are fine): everything else is counted into bins
immediately. Times are those of the writers' clocks.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.plan.plan import FAILED, OK, POISONED, Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.report.timeline import Timeline
from modelops_dask.store import parts
from modelops_dask.store.checks import SelfCheck, read_self_check
from modelops_dask.store.files import Store
from modelops_dask.store.fold import State, counting_rows, fold
from modelops_dask.store.identity import StudyIdentity, read_study
from modelops_dask.store.profile import describe_fallbacks
from modelops_dask.store.replicates import compare_replicates
from modelops_dask.store.requests import plan_of
from modelops_dask.store.variation import describe_constant_outputs, describe_warning


class Configuration(NamedTuple):
    """The conditions of attempts, by the columns of parts."""

    executor: str
    preset: str
    threads: int
    environment: str


COLUMNS = (
    "set",
    "replicate",
    "status",
    "reason",
    "error",
    "seconds",
    "ended",
    "peak_bytes",
    "limit_bytes",
    *Configuration._fields,
)


@dataclass
class FailureReason:
    """Attempts that ended in the same way, and the first of them by time."""

    attempts: int = 0
    first: float = np.inf  # seconds since the epoch
    error: str = ""
    set: int = 0
    replicate: int = 0


class LogHistogram:
    """Counts of positive values in bins of 1%; others are only counted, in `unknown`."""

    STEP = np.log(1.01)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.unknown = 0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        positive = values[values > 0]
        self.unknown += len(values) - len(positive)
        if len(positive):
            self.largest = max(self.largest, float(positive.max()))
            bins, counts = np.unique(
                np.floor(np.log(positive) / self.STEP).astype(np.int64), return_counts=True
            )
            self.counts.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))

    @property
    def total(self) -> int:
        return self.counts.total()

    def as_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Values (the middle of each nonempty bin), rising, and their counts."""
        bins = np.array(sorted(self.counts), np.int64)
        return np.exp((bins + 0.5) * self.STEP), np.array([self.counts[b] for b in bins.tolist()], np.int64)

    def quantile(self, fraction: float) -> float:
        """To 1%; NaN if there are no values."""
        values, counts = self.as_arrays()
        if not len(values):
            return float("nan")
        index = int(np.searchsorted(np.cumsum(counts), fraction * counts.sum()))
        return min(float(values[min(index, len(values) - 1)]), self.largest)


@dataclass
class BySet:
    """Facts about each parameter set: arrays (n_sets,). Seconds are a sum over ok attempts."""

    ok: np.ndarray
    not_ok: np.ndarray  # failed and poisoned tasks
    ok_attempts: np.ndarray
    seconds: np.ndarray
    peak_bytes: np.ndarray  # the largest


@dataclass
class Measurement:
    """All contents of a report. Attempts are rows of parts; tasks are counted by `state`."""

    location: str
    study: StudyIdentity
    plan: Plan
    state: State
    by_set: BySet
    attempts: int = 0
    reasons: dict[tuple[str, str], FailureReason] = field(
        default_factory=dict
    )  # (status, reason) of the not ok
    seconds: LogHistogram = field(default_factory=LogHistogram)  # of ok attempts
    peaks_ok: LogHistogram = field(default_factory=LogHistogram)  # bytes
    peaks_not_ok: LogHistogram = field(default_factory=LogHistogram)
    timeline: Timeline = field(default_factory=Timeline)
    configurations: Counter[Configuration] = field(default_factory=Counter)
    self_check: SelfCheck | None = None
    variation_notes: list[str] = field(default_factory=list)  # on replicates that are equal
    fallback_notes: tuple[str, ...] = ()  # on tasks run by another executor than the requested one
    limits: Counter[int] = field(default_factory=Counter)  # bytes; a task that needs more may have had more

    @property
    def main_limits(self) -> list[int]:
        """The limit of most attempts and, if different, the largest, in bytes; [] without limits."""
        if not self.limits:
            return []
        return list(dict.fromkeys([self.limits.most_common(1)[0][0], max(self.limits)]))

    @property
    def retried(self) -> int:
        """Tasks that were tried more than once."""
        return int(np.count_nonzero(self.state.attempts > 1))


def measure(store: Store, spec: Spec | None = None) -> Measurement:
    """Measure the tasks of a spec, or else of the last request. Raises NoStudy, NotInStore."""
    plan = plan_of(store, spec)
    state = fold(store, plan)
    measurement = Measurement(
        location=store.location(),
        study=read_study(store),
        plan=plan,
        state=state,
        by_set=_empty_by_set(plan, state),
        self_check=read_self_check(store, plan, state.generations),
        variation_notes=_describe_variation(store, plan, state),
        fallback_notes=describe_fallbacks(store, state.fallbacks),
    )
    for rows in counting_rows(store, plan, state.generations, parts.scan(store, COLUMNS)):
        _add(measurement, rows.table)
    return measurement


def _describe_variation(store: Store, plan: Plan, state: State) -> list[str]:
    """The warning on the whole study, if any, and notes on single sets and outputs."""
    request = plan.request
    variation = compare_replicates(store, plan, state.generations, ignored=request.volatile)
    warning = describe_warning(variation, request.deterministic)
    notes = describe_constant_outputs(variation, request.deterministic)
    return [warning, *notes] if warning else notes


def _empty_by_set(plan: Plan, state: State) -> BySet:
    zeros = np.zeros(plan.n_sets)
    not_ok = np.isin(state.codes, (FAILED, POISONED)).sum(axis=1)
    return BySet(
        ok=(state.codes == OK).sum(axis=1),
        not_ok=not_ok,
        ok_attempts=zeros.astype(int),
        seconds=zeros.copy(),
        peak_bytes=zeros.copy(),
    )


def _add(measurement: Measurement, rows: pa.Table) -> None:
    rows = rows.filter(_select_planned(measurement.plan, rows))
    if not rows.num_rows:
        return
    status = rows["status"].cast(pa.string())
    ok = pc.equal(status, "ok").to_numpy(zero_copy_only=False)
    sets, seconds, ended, peaks = (
        rows[name].to_numpy() for name in ("set", "seconds", "ended", "peak_bytes")
    )
    measurement.attempts += len(ok)
    measurement.seconds.add(seconds[ok])
    measurement.peaks_ok.add(peaks[ok])
    measurement.peaks_not_ok.add(peaks[~ok])
    measurement.timeline.add(ended, seconds, ok)
    by_set = measurement.by_set
    by_set.ok_attempts += np.bincount(sets[ok], minlength=len(by_set.ok))
    by_set.seconds += np.bincount(sets[ok], seconds[ok], minlength=len(by_set.ok))
    np.maximum.at(by_set.peak_bytes, sets, peaks)
    limits, times = np.unique(rows["limit_bytes"].to_numpy(), return_counts=True)
    measurement.limits.update({int(n): int(count) for n, count in zip(limits, times, strict=True) if n > 0})
    grouped = rows.group_by(list(Configuration._fields)).aggregate([([], "count_all")])
    for group in grouped.to_pylist():
        count = group.pop("count_all")
        # a row written by the driver for a worker that died has no facts about its process
        if group["executor"]:
            measurement.configurations[Configuration(**group)] += count
    if not ok.all():
        _add_reasons(
            measurement, rows.set_column(rows.schema.get_field_index("status"), "status", status).filter(~ok)
        )


def _select_planned(plan: Plan, rows: pa.Table) -> pa.Array:
    """bool: rows of tasks of the plan; the others belong to another request."""
    sets, replicates = (rows[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
    inside = (sets >= 0) & (sets < plan.n_sets) & (replicates >= 0) & (replicates < plan.replicates)
    inside[inside] = ~plan.absent[sets[inside], replicates[inside]]
    return pa.array(inside)


def _add_reasons(measurement: Measurement, rows: pa.Table) -> None:
    first = ("ended", "error", "set", "replicate")
    groups = rows.sort_by("ended").group_by(["status", "reason"], use_threads=False)
    for row in groups.aggregate([([], "count_all"), *((name, "first") for name in first)]).to_pylist():
        reason = measurement.reasons.setdefault((row["status"], row["reason"]), FailureReason())
        reason.attempts += row["count_all"]
        if row["ended_first"] < reason.first:
            reason.first, reason.error = row["ended_first"], row["error_first"]
            reason.set, reason.replicate = row["set_first"], row["replicate_first"]
