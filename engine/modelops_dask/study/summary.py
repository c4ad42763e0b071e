"""What a study amounts to: read from its store, and, after a run, what the run did.

store -> fold -> Summary -> the text that a command prints (mops_helm.render_study)
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modelops_dask.store import parts
from modelops_dask.store.conditions import mixed
from modelops_dask.store.files import Files
from modelops_dask.store.fold import MAX_ATTEMPTS, Failure, State, fold
from modelops_dask.store.requests import is_last, plan_of
from modelops_dask.study.plan import Plan, Share
from modelops_dask.study.presence import Driver, running
from modelops_dask.study.progress import Progress
from modelops_dask.study.spec import Spec

INTERRUPTED = 130
MESSAGES = 10  # failures whose error is looked up
MESSAGE_LIMIT = 200  # characters


@dataclass(frozen=True)
class Summary:
    """A study's tasks by state. `counts` has ok, failed, poisoned and pending, and adds up to `total`."""

    store: str  # folder or URL
    entrypoint: str
    total: int
    counts: dict[str, int]
    failures: list[Failure] = field(default_factory=list)  # most frequent first
    conflicts: list[tuple[int, int]] = field(
        default_factory=list
    )  # (set, replicate) with two different results
    skipped: dict[str, str] = field(default_factory=dict)  # files in parts/ that are torn or foreign -> why
    ran: Progress | None = None  # this run; None when there was nothing to run
    results: tuple[str, ...] = ()  # files or URLs of the compacted tables
    problem: str = ""  # outputs that fit no table
    mixed: str = ""  # results from different conditions, in words
    interrupted: bool = False
    driver: Driver | None = None  # who runs it now
    share: Share | None = None  # of a chunk; None: all of the study
    hint: str = ""  # what may be behind failures, in words

    @property
    def exit_code(self) -> int:
        """0: all ok; 3: some failed, were poisoned or are in conflict; 130: interrupted, goes on when run
        again.
        """
        if self.interrupted:
            return INTERRUPTED
        bad = self.counts["failed"] or self.counts["poisoned"] or self.conflicts or self.problem
        return 3 if bad else 0


def summarize(files: Files, plan: Plan, state: State, **run: object) -> Summary:
    """The summary of a folded state; `run` are the fields that say what a run did."""
    return Summary(
        files.where(),
        plan.entrypoint,
        plan.n_tasks,
        state.counts(),
        _with_messages(files, state.failures),
        state.conflicts,
        state.skipped,
        share=plan.share,
        mixed=mixed(state.conditions),
        **run,
    )


def _with_messages(files: Files, failures: list[Failure]) -> list[Failure]:
    """The failures, the most frequent ones with the last line of what their task's error says."""
    first = failures[:MESSAGES]
    if not first:
        return failures
    texts = parts.errors(files, {(each.set, each.replicate) for each in first})
    said = [replace(each, message=_last_line(texts.get((each.set, each.replicate), ""))) for each in first]
    return [*said, *failures[MESSAGES:]]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:MESSAGE_LIMIT] if lines else ""


def status(files: Files, max_attempts: int = MAX_ATTEMPTS, spec: Spec | None = None) -> Summary:
    """What the store says now of the tasks of a spec, or else of the last request. NoStudy, NotInStore."""
    plan = plan_of(files, spec)
    # Who runs another request of the store says nothing of these tasks.
    driver = running(files) if is_last(files, plan) else None
    return summarize(files, plan, fold(files, plan, max_attempts), driver=driver)


def fields(found: Summary) -> dict[str, Any]:
    """The same as plain data, for programs and for whoever keeps it elsewhere."""
    return {
        "study": found.store,
        "entrypoint": found.entrypoint,
        "total": found.total,
        **found.counts,
        "by_reason": [
            {
                "reason": failure.reason,
                "why": failure.why,
                "state": failure.state,
                "count": failure.count,
                "task": f"{failure.set}/{failure.replicate}",
            }
            for failure in found.failures
        ],
        "conflicts": [f"{number}/{replicate}" for number, replicate in found.conflicts],
        "passed_over": found.skipped,
        "run": None
        if found.ran is None
        else {
            "tasks": found.ran.ended_here,
            "seconds": round(found.ran.seconds, 3),
            "tasks_per_second": round(found.ran.rate, 3),
            "peak_bytes": found.ran.peak_bytes,
            "empty_outputs": dict(found.ran.empty),
            "files_written": list(found.ran.written),
            "large_files_written": list(found.ran.shared),
        },
        "interrupted": found.interrupted,
        "driver": found.driver and asdict(found.driver),
        "mixed": found.mixed,
        "problem": found.problem,
        "hint": found.hint,
        "results": list(found.results),
    }
