"""Run a study to its end, or continue it: the whole path, from a spec to tables.

    Spec + Bundle -> plan in the store -> pending tasks -> environment -> dispatch on a Dask client -> tables
                  -> Summary

Running the same study again runs only the remaining tasks; if there are none, no cluster is started. Chunks
run a share each, and meet only in the store: the one that finds no pending task of all writes the tables.
Several runs may extend one store at the same time, each with its own request: parts are shared, each run
counts the tasks of its own plan, and results/ belongs to the run that began last.

The location of the workers is not known here: `connect` returns a client, from local.local_cluster or
remote.connect.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle
from modelops_dask.environments.interpreters import check_request
from modelops_dask.errors import BadInput, Stopped
from modelops_dask.plan.plan import FAILED, POISONED, Chunk, Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.store import checks, parts, profile
from modelops_dask.store.claim import hold_claim
from modelops_dask.store.compact import MixedOutputs, compact
from modelops_dask.store.conditions import Condition, describe_differences
from modelops_dask.store.files import Store
from modelops_dask.store.fold import State, fold
from modelops_dask.store.identity import NoStudy, read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.requests import is_last
from modelops_dask.store.results import describe_missing, find_missing_outputs
from modelops_dask.store.selection import begin_redo, parse_selection
from modelops_dask.store.study import OtherStudy, check_same, read_plan
from modelops_dask.study import check, dispatch, events, packages
from modelops_dask.study.acceptance import apply_digest_rule, are_harmless, begin_with, explain
from modelops_dask.study.backlog import spread
from modelops_dask.study.batch import Range, RunContext
from modelops_dask.study.breaker import CannotFit, OutOfMemory, StoreReplaced, TablesNeedMemory
from modelops_dask.study.common_cause import FailsAlike
from modelops_dask.study.dispatch import DEFAULT_LIMITS, Limits
from modelops_dask.study.estimate import needed_bytes
from modelops_dask.study.prepare import prepare
from modelops_dask.study.presence import Presence, RunningDriver, memory_bytes
from modelops_dask.study.progress import Meter, Phase, Progress
from modelops_dask.study.summary import Summary, summarize
from modelops_dask.workers.memory import TaskMemory

if TYPE_CHECKING:
    from distributed import Client

NONE_OK = 20  # number of attempts without a success that causes a message
LATER_REQUEST = (
    "Another run has started with a later request of this store, so results/ belongs to that one. These "
    "results are stored; mops-helm study results shows them by the name of the Job, or with --spec FILE"
)
RETRY_CODES = {"failed": FAILED, "poisoned": POISONED}


@dataclass(frozen=True)
class Watcher:
    """Callbacks of a run: `phase` when one begins, `progress` after each batch, `note` for a message.

    `stopping` returns whether the run was asked to end. `stage` is called repeatedly with the state of a
    phase, `announce` with its result.
    """

    phase: Callable[[Phase], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    stage: Callable[[str], None] = lambda _: None
    announce: Callable[[str], None] = lambda _: None


SILENT = Watcher()


def drive(
    spec: Spec,
    bundle: Bundle,
    store: Store,
    connect: Callable[[], AbstractContextManager["Client"]],
    *,
    retry: Collection[str] = (),
    redo: str = "",
    redo_request: str = "",
    pilot: int | None = None,
    share: Chunk | None = None,
    n_checks: int = check.N_TASKS,
    memory: TaskMemory | None = None,
    limits: Limits = DEFAULT_LIMITS,
    inbox: "SimpleQueue[events.Event] | None" = None,
    watcher: Watcher = SILENT,
    was_disrupted: Callable[[], bool] | None = None,
) -> Summary:
    """Run the pending tasks of a study and compact the results.

    Args:
        retry: States whose tasks are tried again: failed, poisoned.
        redo: Tasks whose results are replaced (store/selection.py).
        redo_request: The id of a request whose redo is started once for all its runs.
        pilot: Run only this many of the pending tasks, evenly spaced, and write no tables.
        n_checks: Tasks that a run checks at its end (study/check.py); a pilot checks none.
        share: Run a chunk: the Summary is of its tasks or, if these were the last, of the study.
        memory: The workers' memory, if known: a run in which no task fits then stops early, with advice.
        inbox: Receives events from others, such as StopRequested.
        was_disrupted: Whether the cluster ended the previous pod of a Job for reasons of its own. If it did
            not, and that pod was killed while it merged or wrote tables, the same is not tried again.

    Raises:
        MopsError: TablesNeedMemory, AlreadyRunning, OtherStudy, NoPython, BadSelection, CannotFit, and errors
            of dispatch.run.
    """
    check_request(bundle, Settings())
    selection = parse_selection(redo) if redo else None
    bundle = apply_digest_rule(store, bundle)
    if memory:
        limits = replace(limits, memory=memory)
    chunk = share.number if share else None
    waits = was_disrupted is not None
    with Presence(store, watcher.note, chunk, stopping=watcher.stopping, waits=waits) as presence:
        if presence.killed:
            _check_killed_run(presence.killed, watcher, was_disrupted)
        study_run = _StudyRun(
            bundle=bundle,
            store=store,
            connect=connect,
            limits=limits,
            inbox=inbox or SimpleQueue(),
            watcher=watcher,
            presence=presence,
            n_checks=0 if pilot else n_checks,
        )
        try:
            plan = begin_with(bundle, store, spec, watcher.note)
            if selection:
                begin_redo(store, plan, selection, request=redo_request, note=watcher.note)
            return study_run.run(plan, share, retry, pilot)
        except (CannotFit, OutOfMemory) as error:
            if memory:
                error.remedy = memory.remedy(error.needed_bytes)
            raise
        except FailsAlike as error:
            error.hint = packages.hint(bundle, [error.reason])
            raise


def _check_killed_run(
    before: RunningDriver, watcher: Watcher, was_disrupted: Callable[[], bool] | None
) -> None:
    """Note that the last run was killed at its tables. Raises TablesNeedMemory if this one would be too."""
    error = TablesNeedMemory(before.phase, before.memory_bytes)
    if was_disrupted is None:
        watcher.note(f"{error.explanation} This run tries again; if it is also killed, give it more memory")
    elif memory_bytes() <= before.memory_bytes and not was_disrupted():
        raise error


def find_refusal(spec: Spec, bundle: Bundle, store: Store) -> OtherStudy | None:
    """Return the error that drive() would raise because the store belongs to another bundle or entrypoint."""
    bundle = apply_digest_rule(store, bundle)
    try:
        check_same(store, bundle.digest, spec)
    except NoStudy:
        return None
    except OtherStudy as error:
        if error.kind != "bundle":
            return error
        changes = explain(error, store, bundle, spec)
        is_refused = not are_harmless(changes) or spec.entrypoint != read_study(store).entrypoint
        return error if is_refused else None
    return None


@dataclass(frozen=True)
class _StudyRun:
    bundle: Bundle
    store: Store
    connect: Callable[[], AbstractContextManager["Client"]]
    limits: Limits
    inbox: "SimpleQueue[events.Event]"
    watcher: Watcher
    presence: Presence
    n_checks: int
    meter: Meter = field(default_factory=Meter)
    sent_notes: set[str] = field(default_factory=set)

    def run(self, whole: Plan, share: Chunk | None, retry: Collection[str], pilot: int | None) -> Summary:
        plan = replace(whole, share=share) if share else whole
        state = self.fold(plan, self.limits.task_bytes)
        if retry:
            state = state.retry(*(RETRY_CODES[name] for name in retry))
        run_progress = None
        pending = state.pending_ranges()
        if pending:
            self.expect_room(plan, pending)
            run_progress = self.dispatch(plan, state, spread(pending, pilot) if pilot else pending)
            profile.save(self.store, {reason: seconds for reason, _, seconds in run_progress.fallbacks})
            state = self.fold(plan)
            # Also if a redo has started since: its tasks are pending again.
            if pilot or run_progress.done < run_progress.total or state.counts()["pending"]:
                return replace(self.summary(plan, state, run_progress), interrupted=not pilot)
        if not share:
            return self.tables(plan, state, run_progress)
        state_of_all = self.fold(whole)
        if not state_of_all.counts()["pending"]:
            with self.claim(whole, share) as is_writer:
                if is_writer:
                    return self.tables(whole, state_of_all, run_progress)
        return self.summary(plan, state, run_progress)

    def claim(self, whole: Plan, share: Chunk) -> AbstractContextManager[bool]:
        """Claim results/. A chunk whose request is no longer the last writes no tables and claims nothing."""
        last = is_last(self.store, whole)
        return hold_claim(self.store, f"chunk {share.number}") if last else nullcontext(True)

    def tables(self, plan: Plan, state: State, run_progress: Progress | None) -> Summary:
        """Write the tables, unless they are up to date, and return the summary."""
        results: tuple[str, ...] = ()
        problem = ""
        try:
            results = tuple(self.compact(plan))
        except MixedOutputs as error:
            results, problem = error.files, str(error)
        summary = replace(self.summary(plan, state, run_progress), results=results, problem=problem)
        return replace(summary, missing_outputs=find_missing_outputs(self.store, plan))

    def summary(self, plan: Plan, state: State, run_progress: Progress | None) -> Summary:
        hint = packages.hint(self.bundle, [failure.reason for failure in state.failures])
        return replace(summarize(self.store, plan, state), run_progress=run_progress, hint=hint)

    def compact(self, plan: Plan) -> list[str]:
        """Write results/, unless a later request has started, to which it then belongs.

        The writer checks again afterwards, so that the last request's tables stay, whichever run ends last.
        The tables of an earlier request are built and discarded, to report their problems: MixedOutputs.
        """
        if is_last(self.store, plan):
            try:
                table_files = compact(
                    self.store, plan, self.limits.max_attempts, on_begin=self.announce_tables
                )
            except MixedOutputs as error:
                if self.yield_results(plan):
                    error.files = ()
                raise
            return [] if self.yield_results(plan) else table_files
        self.watcher.note(LATER_REQUEST)
        with tempfile.TemporaryDirectory(prefix="modelops-results-") as folder:
            try:
                compact(self.store, plan, self.limits.max_attempts, Store(folder), self.announce_tables)
            except MixedOutputs as error:
                raise MixedOutputs("raw/ of this request's tables", error.problems) from None
        return []

    def yield_results(self, plan: Plan) -> bool:
        """Build the tables of a request that became the last one while those of this plan were written, if
        any.
        """
        own_plan = plan
        while not is_last(self.store, plan):
            self.watcher.note(LATER_REQUEST)
            plan = read_plan(self.store)
            with suppress(MixedOutputs):  # its own run reports it
                compact(self.store, plan, self.limits.max_attempts, on_begin=self.announce_tables)
        return plan is not own_plan

    def fold(self, plan: Plan, task_bytes: int = 0) -> State:
        """Fold the store; task_bytes only before a run: its own deaths count, even if a task had less
        memory.
        """
        phase = self.presence.driver.phase
        # Later readers of the parts are faster.
        merge(self.store, on_begin=lambda: self.presence.phase("merging"))
        self.presence.phase(phase)
        return fold(self.store, plan, self.limits.max_attempts, task_bytes)

    def dispatch(self, plan: Plan, state: State, ranges: Sequence[Range]) -> Progress:
        # Workers have another current folder.
        context = RunContext(Store(self.store.location()), plan.request, self.bundle)
        self.phase("workers")
        files_before = self.store.list(parts.FOLDER)
        with self.connect() as client:
            self.phase("environment")
            if prepared := prepare(client, context, self.inbox, self.watcher.stage):
                if prepared.built:
                    self.watcher.announce(prepared.built)
                for note in prepared.notes:
                    self.watcher.note(note)
                self.compare(state, prepared.condition)
            self.phase("canary")
            try:
                run_progress = dispatch.run(
                    client,
                    context,
                    plan,
                    state,
                    ranges=ranges,
                    limits=self.limits,
                    inbox=self.inbox,
                    on_progress=partial(self.progress, plan.request.outputs),
                )
            except BadInput:  # possibly of a worker that no longer finds the store
                self.expect_same_study(context)
                raise
            self.expect_same_study(context)
            if self.n_checks and run_progress.done == run_progress.total:
                self.check(client, context, plan, run_progress.seconds, files_before)
        self.compare_workers()
        return run_progress

    def check(
        self,
        client: "Client",
        context: RunContext,
        plan: Plan,
        run_seconds: float,
        files_before: Collection[str],
    ) -> None:
        """Run a few of the tasks again, each alone, and store the result."""
        self.phase("checking")
        result = check.check_run(
            client,
            context,
            plan,
            self.n_checks,
            run_seconds=run_seconds,
            files_before=files_before,
            inbox=self.inbox,
        )
        if result:
            checks.write(self.store, result)

    def expect_same_study(self, context: RunContext) -> None:
        """Raise StoreReplaced if the store is no longer that of the study that this run wrote to."""
        try:
            same = read_study(self.store).mark(self.bundle.digest) == context.mark
        except NoStudy:
            same = False
        if not same:
            raise StoreReplaced(self.store.location())

    def expect_room(self, plan: Plan, pending: Sequence[Range]) -> None:
        """Raise CannotFit if all measured tasks, on both sides of the pending ones, were too large."""
        measured, task_bytes = profile.load(self.store), self.limits.task_bytes
        if measured is None or not 0 < task_bytes < measured.least_peak_bytes:
            return
        first, last = pending[0][0] // plan.replicates, (pending[-1][1] - 1) // plan.replicates
        if measured.first_set <= first and last <= measured.last_set:
            raise CannotFit(
                tasks=measured.tasks,
                least_bytes=measured.least_peak_bytes,
                limit_bytes=task_bytes,
                needed_bytes=needed_bytes(measured),
            )

    def compare(self, state: State, condition: Condition | None) -> None:
        """Note that this run's results come from other conditions than earlier ones."""
        if condition and state.conditions and condition not in state.conditions:
            self.watcher.note(describe_differences(Counter({**state.conditions, condition: 0})))

    def compare_workers(self) -> None:
        """Note that the study has lists of packages for workers of several kinds."""
        if len(kinds := packages.list_kinds(self.store)) > 1:
            self.watcher.note(
                f"Workers of different kinds ran this study ({', '.join(kinds)}). Each kind has its own "
                f"packages, listed in {self.store.location(packages.FOLDER)}. Results may differ for that "
                "reason alone."
            )

    def phase(self, phase: Phase) -> None:
        self.presence.phase(phase)
        self.watcher.phase(phase)

    def announce_tables(self) -> None:
        """Announce that tables are about to be written."""
        self.phase("compacting")

    def progress(self, requested_outputs: Collection[str], progress: Progress) -> None:
        progress = self.meter(progress)
        if self.presence.driver.phase == "canary" and progress.ended_here:
            self.phase("running")
        self.presence.progress(progress)
        self.watcher.progress(progress)
        for reason, _, seconds in progress.fallbacks:
            if reason not in self.sent_notes:
                self.sent_notes.add(reason)
                self.watcher.note(
                    "isolated_fork cannot fork this model, so each task starts a new interpreter, which "
                    f"takes {seconds:.2g} s a task: {reason}. For remedies, see docs/isolation.md"
                )
        if requested_outputs and progress.returned and "outputs" not in self.sent_notes:
            self.sent_notes.add("outputs")
            missing = [name for name in requested_outputs if name not in progress.returned]
            note = describe_missing(missing, progress.returned, "None of the first tasks")
            is_misspelt = missing and all(get_close_matches(name, progress.returned, 1) for name in missing)
            if is_misspelt and len(missing) == len(requested_outputs):
                raise Stopped(f"{note}\nNothing is stored of any task: correct `outputs` in the study file.")
            if note:
                self.watcher.note(note)
        if progress.not_ok >= NONE_OK and not progress.ok and "none ok" not in self.sent_notes:
            self.sent_notes.add("none ok")
            self.watcher.note(
                f"None of the first {progress.not_ok:,} attempts succeeded. If the study or the model is the "
                "cause, stop now: stored results are safe."
            )
