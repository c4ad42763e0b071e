"""Summarize a study: the tasks in its store and, after a run, what the run did.

store -> fold -> Summary -> the text that a command prints (mops_helm.render.study_summary)
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modelops_dask.plan.plan import Chunk, Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.store import parts
from modelops_dask.store.checks import SelfCheck, read_self_check
from modelops_dask.store.conditions import describe_differences
from modelops_dask.store.failures import telling_lines
from modelops_dask.store.files import Store
from modelops_dask.store.fold import MAX_ATTEMPTS, Failure, State, counts, fold
from modelops_dask.store.generations import RedoProgress
from modelops_dask.store.profile import describe_fallbacks
from modelops_dask.store.replicates import compare_replicates
from modelops_dask.store.requests import is_last, plan_of
from modelops_dask.store.results import find_missing_outputs
from modelops_dask.store.separation import find_separation
from modelops_dask.store.variation import describe_warning
from modelops_dask.study.presence import RunningDriver, find_running
from modelops_dask.study.progress import Progress

INTERRUPTED = 130
MESSAGES = 10  # failures whose error is looked up
SEPARATIONS = 3  # parameters that are named
MESSAGE_LIMIT = 200  # characters


@dataclass(frozen=True)
class Summary:
    """A study's tasks by state. `counts` has ok, failed, poisoned and pending, and adds up to `total`."""

    store: str  # folder or URL
    entrypoint: str
    total: int
    counts: dict[str, int]
    failures: list[Failure] = field(default_factory=list)  # most frequent first
    conflicts: list[tuple[int, int]] = field(default_factory=list)  # (set, replicate) with two results
    skipped: dict[str, str] = field(default_factory=dict)  # files in parts/ that are torn or foreign -> why
    run_progress: Progress | None = None  # this run; None if there was nothing to run
    results: tuple[str, ...] = ()  # files or URLs of the compacted tables
    problem: str = ""  # outputs that do not fit a table
    mixed: str = ""  # results from different conditions, as text
    fallbacks: dict[str, int] = field(default_factory=dict)  # why another executor ran tasks -> how many
    fallback_notes: tuple[str, ...] = ()  # the same, with the extra time, as text
    separation: tuple[str, ...] = ()  # what failed tasks have in common and ok ones lack, as text
    redos: tuple[RedoProgress, ...] = ()  # tasks whose results were, or are being, replaced
    variation: str = ""  # replicates that are equal, or contradict the study file, as text
    self_check: SelfCheck | None = None  # None: there was none
    interrupted: bool = False
    driver: RunningDriver | None = None  # the driver that runs it now
    share: Chunk | None = None  # of a chunk; None: all of the study
    hint: str = ""  # possible causes of failures, as text
    missing_outputs: str = ""  # outputs that the study file lists but no task returned, as text

    @property
    def exit_code(self) -> int:
        """The exit status.

        0: all ok; 3: some failed, were poisoned, are in conflict, a self-check found differences, or an
        output that the study file lists was never returned; 130: interrupted, continues when run again.
        """
        if self.interrupted:
            return INTERRUPTED
        n_bad = self.counts["failed"] + self.counts["poisoned"] + len(self.conflicts)
        n_bad += len(self.self_check.different) if self.self_check else 0
        return 3 if n_bad or self.problem or self.missing_outputs else 0


def summarize(store: Store, plan: Plan, state: State) -> Summary:
    """The summary of a folded state, without what a run did."""
    return Summary(
        store=store.location(),
        entrypoint=plan.entrypoint,
        total=plan.n_tasks,
        counts=state.counts(),
        failures=_with_messages(store, plan, state),
        conflicts=state.conflicts,
        skipped=state.skipped,
        share=plan.share,
        mixed=describe_differences(state.conditions),
        fallbacks=dict(state.fallbacks.most_common()),
        fallback_notes=describe_fallbacks(store, state.fallbacks),
        redos=state.generations.progress(state.codes, state.attempts) if state.generations else (),
        variation=_describe_variation(store, plan, state),
        self_check=read_self_check(store, plan, state.generations),
        separation=tuple(map(str, find_separation(plan, state.codes)[:SEPARATIONS])),
    )


def _describe_variation(store: Store, plan: Plan, state: State) -> str:
    """The problem with the variation of replicates; "" if there is none, or too few have ended."""
    request = plan.request
    variation = compare_replicates(
        store, plan, state.generations, ignored=request.volatile, until_varied=True
    )
    return describe_warning(variation, request.deterministic)


def _with_messages(store: Store, plan: Plan, state: State) -> list[Failure]:
    """The failures, with the message of their task's error.

    Rows of earlier versions lack it, so it is looked up for the most frequent ones.
    """
    failures = state.failures
    first = failures[:MESSAGES]
    if all(failure.message for failure in first):
        return [_shorten(failure) for failure in failures]
    tasks = {(failure.set, failure.replicate) for failure in first}
    texts = parts.read_errors(store, tasks, lambda rows: counts(rows, plan, state.generations))
    with_messages = []
    for failure in first:
        error = texts.get((failure.set, failure.replicate), "")
        message, *details = telling_lines(failure.reason, error).split("\n")
        if not failure.message:
            failure = replace(failure, message=message, details=tuple(details))
        with_messages.append(_shorten(failure))
    return [*with_messages, *map(_shorten, failures[MESSAGES:])]


def _shorten(failure: Failure) -> Failure:
    return replace(failure, message=failure.message[:MESSAGE_LIMIT])


def read_summary(store: Store, max_attempts: int = MAX_ATTEMPTS, spec: Spec | None = None) -> Summary:
    """Summarize the tasks of a spec, or of the store's last request. Raises NoStudy, NotInStore."""
    plan = plan_of(store, spec)
    # The driver of another request of the store does not run these tasks.
    driver = find_running(store) if is_last(store, plan) else None
    return replace(
        summarize(store, plan, fold(store, plan, max_attempts)),
        driver=driver,
        missing_outputs=find_missing_outputs(store, plan),
    )


def summary_fields(summary: Summary) -> dict[str, Any]:
    """The summary as plain data: the keys of `-o json` and of a Job's annotation."""
    return {
        "study": summary.store,
        "entrypoint": summary.entrypoint,
        "total": summary.total,
        **summary.counts,
        "by_reason": [
            {
                "reason": failure.reason,
                "why": failure.why,
                "details": list(failure.details),
                "state": failure.state,
                "count": failure.count,
                "task": f"{failure.set}/{failure.replicate}",
            }
            for failure in summary.failures
        ],
        "conflicts": [f"{number}/{replicate}" for number, replicate in summary.conflicts],
        "passed_over": summary.skipped,
        "run": None
        if summary.run_progress is None
        else {
            "tasks": summary.run_progress.ended_here,
            "seconds": round(summary.run_progress.seconds, 3),
            "tasks_per_second": round(summary.run_progress.rate, 3),
            "peak_bytes": summary.run_progress.peak_bytes,
            "empty_outputs": dict(summary.run_progress.empty),
            "files_written": list(summary.run_progress.written_files),
            "large_files_written": list(summary.run_progress.shared_files),
            "fallback_seconds": {reason: round(s, 3) for reason, _, s in summary.run_progress.fallbacks},
        },
        "interrupted": summary.interrupted,
        "driver": summary.driver and asdict(summary.driver),
        "mixed": summary.mixed,
        "fallbacks": summary.fallbacks,
        "redos": [
            {
                "generation": redo.generation,
                "redo": redo.selection,
                "tasks": redo.n_tasks,
                "pending": redo.n_pending,
                "lacking_outputs": redo.n_lacking,
            }
            for redo in summary.redos
        ],
        "separation": list(summary.separation),
        "variation": summary.variation,
        "self_check": summary.self_check and summary.self_check.as_json(),
        "problem": summary.problem,
        "hint": summary.hint,
        "missing_outputs": summary.missing_outputs,
        "results": list(summary.results),
    }
