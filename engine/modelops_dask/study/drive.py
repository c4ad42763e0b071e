"""Run a study to its end, or go on with it: the whole path, from a spec to tables.

Spec + Bundle -> plan in the store -> what is pending -> environment -> dispatch on a Dask client -> tables
              -> Summary

Running the same study again does only what is left; when nothing is, no cluster is started. Chunks run a
share each, and meet in the store alone: who finds nothing pending, of all tasks, writes the tables. Several
runs may extend one store at once, each with a request of its own: parts are everybody's, each run counts the
tasks of its own plan, and results/ is kept for the run that began last.

Does not know where the workers are: `connect` gives a client, local.local_cluster or remote.connect.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle, changes
from modelops_dask.store.claim import claimed
from modelops_dask.store.compact import MixedOutputs, compact
from modelops_dask.store.conditions import Condition, mixed
from modelops_dask.store.files import Files
from modelops_dask.store.fold import State, fold
from modelops_dask.store.identity import NoStudy, read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.requests import is_last
from modelops_dask.store.study import OtherStudy, begin, check_same, existing
from modelops_dask.study import dispatch, events, packages, profile
from modelops_dask.study.backlog import spread
from modelops_dask.study.batch import Range, Source
from modelops_dask.study.breaker import CannotFit, OutOfMemory, StoreReplaced, TablesNeedMemory
from modelops_dask.study.dispatch import DEFAULT_LIMITS, Limits
from modelops_dask.study.estimate import needed
from modelops_dask.study.memory import TaskMemory
from modelops_dask.study.plan import FAILED, POISONED, Plan, Share
from modelops_dask.study.prepare import prepare
from modelops_dask.study.presence import Driver, Presence, memory_bytes
from modelops_dask.study.progress import Meter, Phase, Progress
from modelops_dask.study.spec import Spec
from modelops_dask.study.summary import Summary, summarize

if TYPE_CHECKING:
    from distributed import Client

NONE_OK = 20  # attempts without one that ended well are worth a word
LATER_REQUEST = (
    "Another run has begun with a later request of this store, so results/ is kept for that one. These "
    "results are stored; mops-helm study results shows them by the name of the Job, or by --spec FILE"
)
RETRY_CODES = {"failed": FAILED, "poisoned": POISONED}


@dataclass(frozen=True)
class Watcher:
    """Who hears how a run goes: `phase` when one begins, `progress` after each batch, `note` a line to
    read. `stopping` tells whether somebody wants the run to end.
    """

    phase: Callable[[Phase], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False


SILENT = Watcher()


def drive(
    spec: Spec,
    bundle: Bundle,
    files: Files,
    connect: Callable[[], AbstractContextManager["Client"]],
    *,
    retry: Collection[str] = (),
    pilot: int | None = None,
    share: Share | None = None,
    memory: TaskMemory | None = None,
    limits: Limits = DEFAULT_LIMITS,
    inbox: "SimpleQueue[events.Event] | None" = None,
    watcher: Watcher = SILENT,
    taken_away: Callable[[], bool] | None = None,
) -> Summary:
    """Run what is pending of a study and compact the results.

    `retry` names states, of failed and poisoned, whose tasks are tried again. With `pilot`, run only so many
    of the pending tasks, from all over the study, and write no tables. With `share`, run a chunk: the
    Summary is of its tasks, or, where these were the last, of the study. `memory` is what the workers have,
    if that is known: with it a run in which no task fits stops early, and its verdict has values. `inbox`
    takes events from others, such as Stop. `taken_away` is for a run that nobody typed, such as the next pod
    of a Job: whether the one before had to go for reasons of the cluster's. After one that was killed while
    it merged or wrote tables, the same is then not tried again. Raises TablesNeedMemory, AlreadyRunning,
    OtherStudy, CannotFit, and what dispatch.run raises.
    """
    if memory:
        limits = replace(limits, memory=memory)
    chunk = share.index if share else None
    waits = taken_away is not None
    with Presence(files, watcher.note, chunk, stopping=watcher.stopping, waits=waits) as presence:
        if presence.killed:
            _after_a_kill(presence.killed, watcher, taken_away)
        drive_ = _Drive(bundle, files, connect, limits, inbox or SimpleQueue(), watcher, presence)
        try:
            plan = begin(files, spec, bundle.digest, watcher.note)
            return drive_.run(plan, share, retry, pilot)
        except OtherStudy as error:
            error.changes = _changes(bundle, error)
            raise
        except (CannotFit, OutOfMemory) as error:
            if memory:
                error.remedy = memory.remedy(error.needed_bytes)
            raise


def _after_a_kill(before: Driver, watcher: Watcher, taken_away: Callable[[], bool] | None) -> None:
    """Say that the run before was killed at its tables; TablesNeedMemory when the same would come of this."""
    error = TablesNeedMemory(before.phase, before.memory_bytes)
    if taken_away is None:
        watcher.note(f"{error.what} This run tries again; if it is killed too, give it more memory")
    elif memory_bytes() <= before.memory_bytes and not taken_away():
        raise error


def refusal(spec: Spec, bundle: Bundle, files: Files) -> OtherStudy | None:
    """What drive() would raise at once, because the store belongs to another bundle or entrypoint."""
    try:
        check_same(files, bundle.digest, spec.entrypoint)
    except NoStudy:
        return None
    except OtherStudy as error:
        error.changes = _changes(bundle, error)
        return error
    return None


def _changes(bundle: Bundle, error: OtherStudy) -> list[str]:
    return changes(bundle.path, error.kept) if error.what == "bundle" else []


@dataclass(frozen=True)
class _Drive:
    bundle: Bundle
    files: Files
    connect: Callable[[], AbstractContextManager["Client"]]
    limits: Limits
    inbox: "SimpleQueue[events.Event]"
    watcher: Watcher
    presence: Presence
    meter: Meter = field(default_factory=Meter)
    noted: set[str] = field(default_factory=set)

    def run(self, whole: Plan, share: Share | None, retry: Collection[str], pilot: int | None) -> Summary:
        plan = replace(whole, share=share) if share else whole
        state = self.fold(plan, self.limits.task_bytes)
        if retry:
            state = state.retry(*(RETRY_CODES[name] for name in retry))
        ran = None
        pending = state.pending_ranges()
        if pending:
            self.expect_room(plan, pending)
            ran = self.dispatch(plan, state, spread(pending, pilot) if pilot else pending)
            profile.save(self.files)
            state = self.fold(plan)
            if pilot or ran.done < ran.total:
                return self.summary(plan, state, ran=ran, interrupted=not pilot)
        if not share:
            return self.tables(plan, state, ran)
        state_of_all = self.fold(whole)
        if not state_of_all.counts()["pending"]:
            with self.claim(whole, share) as mine:
                if mine:
                    return self.tables(whole, state_of_all, ran)
        return self.summary(plan, state, ran=ran)

    def claim(self, whole: Plan, share: Share) -> AbstractContextManager[bool]:
        """Who writes results/: a chunk whose request is not the last any more writes and claims nothing."""
        last = is_last(self.files, whole)
        return claimed(self.files, f"chunk {share.index}") if last else nullcontext(True)

    def tables(self, plan: Plan, state: State, ran: Progress | None) -> Summary:
        """Compact, unless that was done."""
        results, problem = (), ""
        try:
            results = tuple(self.compact(plan))
        except MixedOutputs as error:
            problem = str(error)
        return self.summary(plan, state, ran=ran, results=results, problem=problem)

    def summary(self, plan: Plan, state: State, **run: object) -> Summary:
        hint = packages.hint(self.bundle, [failure.reason for failure in state.failures])
        return summarize(self.files, plan, state, hint=hint, **run)

    def compact(self, plan: Plan) -> list[str]:
        """Write results/, unless a later request has begun: it is kept for the one that began last.

        Whoever writes looks again afterwards, so that the last one's tables stay, whoever ends last. The
        tables of an earlier request are built and thrown away, for what is wrong with them: MixedOutputs.
        """
        if is_last(self.files, plan):
            try:
                written = compact(self.files, plan, self.limits.max_attempts, begun=self.writes)
            except MixedOutputs:
                self.yield_results(plan)
                raise
            return [] if self.yield_results(plan) else written
        self.watcher.note(LATER_REQUEST)
        with tempfile.TemporaryDirectory(prefix="modelops-results-") as folder:
            try:
                compact(self.files, plan, self.limits.max_attempts, Files(folder), self.writes)
            except MixedOutputs as error:
                raise MixedOutputs("raw/ of this request's tables", error.problems) from None
        return []

    def yield_results(self, plan: Plan) -> bool:
        """Build the tables of a request that became the last one while those of this plan were written, if
        there is one.
        """
        own = plan
        while not is_last(self.files, plan):
            self.watcher.note(LATER_REQUEST)
            plan = existing(self.files)
            with suppress(MixedOutputs):  # its own run says so
                compact(self.files, plan, self.limits.max_attempts, begun=self.writes)
        return plan is not own

    def fold(self, plan: Plan, task_bytes: int = 0) -> State:
        """task_bytes only before a run: its own deaths count, though a task may have had less than that."""
        phase = self.presence.driver.phase
        # What reads the parts from now on is the faster for it.
        merge(self.files, begun=lambda: self.presence.phase("merging"))
        self.presence.phase(phase)
        return fold(self.files, plan, self.limits.max_attempts, task_bytes)

    def dispatch(self, plan: Plan, state: State, ranges: Sequence[Range]) -> Progress:
        # Workers have another current folder.
        source = Source(Files(self.files.where()), plan.request, self.bundle)
        self.phase("workers")
        with self.connect() as client:
            self.phase("environment")
            if prepared := prepare(client, source, self.inbox):
                for note in prepared.notes:
                    self.watcher.note(note)
                self.compare(state, prepared.condition)
            self.phase("canary")
            ran = dispatch.run(client, source, plan, state, ranges, self.limits, self.inbox, self.progress)
        self.expect_same_study(source)
        self.compare_workers()
        return ran

    def expect_same_study(self, source: Source) -> None:
        """Raise StoreReplaced when the store is not any more that of the study that this run wrote to."""
        try:
            same = read_study(self.files).mark(self.bundle.digest) == source.mark
        except NoStudy:
            same = False
        if not same:
            raise StoreReplaced(self.files.where())

    def expect_room(self, plan: Plan, pending: Sequence[Range]) -> None:
        """Raise CannotFit when all that was measured, on both sides of what is pending, was too large."""
        known, room = profile.load(self.files), self.limits.task_bytes
        if known is None or not 0 < room < known.least_peak_bytes:
            return
        first, last = pending[0][0] // plan.replicates, (pending[-1][1] - 1) // plan.replicates
        if known.first_set <= first and last <= known.last_set:
            raise CannotFit(known.tasks, known.least_peak_bytes, room, needed(known))

    def compare(self, state: State, condition: Condition | None) -> None:
        """Say so when this run makes its results under other conditions than earlier ones."""
        if condition and state.conditions and condition not in state.conditions:
            self.watcher.note(mixed(Counter({**state.conditions, condition: 0})))

    def compare_workers(self) -> None:
        """Say so when the study has lists of packages for workers of several kinds."""
        if len(kinds := packages.kinds(self.files)) > 1:
            self.watcher.note(
                f"Workers of different kinds ran this study ({', '.join(kinds)}). Each kind has packages of "
                f"its own, listed in {self.files.where(packages.FOLDER)}. Results may differ for that alone."
            )

    def phase(self, phase: Phase) -> None:
        self.presence.phase(phase)
        self.watcher.phase(phase)

    def writes(self) -> None:
        """Tables are about to be written."""
        self.phase("compacting")

    def progress(self, progress: Progress) -> None:
        progress = self.meter(progress)
        if self.presence.driver.phase == "canary" and progress.ended_here:
            self.phase("running")
        self.presence.progress(progress)
        self.watcher.progress(progress)
        if progress.not_ok >= NONE_OK and not progress.ok and "none ok" not in self.noted:
            self.noted.add("none ok")
            self.watcher.note(
                f"None of the first {progress.not_ok:,} attempts ended well. If the study or the model is to "
                "blame, stop here: what is stored stays."
            )
