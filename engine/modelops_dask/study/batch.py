"""A batch: tasks that run one after another on a worker and are stored by one write.

Batch (ranges of indices) -> plan from the store -> executor.run(task) for each -> one part -> Receipt

Only plain data is sent: a batch names its tasks by index, a receipt names the part that holds the results.
The sender of the batch chooses the part's name, so that after a worker's death recover_receipt() can
distinguish a stored batch from a lost one. A batch that exceeds its time returns the tasks that it did not
start.

Retries are decided in dispatch.py.
"""

import gc
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelops_dask import metrics
from modelops_dask.bundle import Bundle, FetchFailed, fetch
from modelops_dask.bundle.cache import MOST_NAMES, find_damaged
from modelops_dask.errors import BadInput
from modelops_dask.executors import FileChanges, Outcome, Task
from modelops_dask.executors.messages import OUT_OF_TURN
from modelops_dask.executors.outputs import TOO_LARGE, explain_size, total_bytes
from modelops_dask.limits import worker_memory
from modelops_dask.plan.plan import Plan, PlannedTask, Request
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, runners
from modelops_dask.store import parts
from modelops_dask.store.failures import MODEL, error_digest, failing_line
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy, PartMark, read_study
from modelops_dask.store.parts import Attempt
from modelops_dask.store.study import read_plan
from modelops_dask.study import packages

if TYPE_CHECKING:
    from modelops_dask.workers.runtime import Runtime

PIECE_SECONDS = 0.02  # with longer ones, parallel runners would wait for one another at the end
FLUSH_BYTES = 16 * MIB  # bytes of outputs that wait to be encoded
# bytes of outputs in a part; then no further task starts, because all of it is in memory
PART_BYTES = 64 * MIB
EVIDENCE_LIMIT = 500  # characters
FALLBACK = "cold"  # the executor that runs tasks if forking is unsafe
WHOLE_PROCESS = "process"  # the Dask resource that a worker process has once
Range = tuple[int, int]  # half-open, of task indices
_encoding = threading.Lock()  # of many bytes, which takes several copies of them
T = TypeVar("T")


@dataclass(frozen=True)
class RunContext:
    """Data that all batches of a run share, and a worker caches: the locations of the plan and the model."""

    store: Store
    request: Request
    bundle: Bundle
    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # a store may be deleted and created again
    mark: PartMark | None = None  # of the parts that the batches write; None: of the study in the store now

    def __post_init__(self) -> None:
        if self.mark is None:
            object.__setattr__(self, "mark", read_study(self.store).mark(self.bundle.digest))


@dataclass(frozen=True)
class Batch:
    """Tasks to run.

    Attributes:
        died: Tasks whose process was lost before: lost again, they are poisoned.
        alone: Tasks that ran out of memory.
        fresh: Tasks that failed: each gets a new process.
        needed_bytes: Memory that a task should need, 0 if not known.
        most_bytes: A task that held this much and ran out of memory had all available memory.
        generations: Of the rows of tasks that are run again: (start, stop, generation).
    """

    context: RunContext
    part: str
    ranges: tuple[Range, ...]
    seconds: float  # after which no further task starts
    died: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()
    fresh: frozenset[int] = frozenset()
    needed_bytes: int = 0
    most_bytes: int = 0  # 0: not known
    generations: tuple[tuple[int, int, int], ...] = ()

    @property
    def n_tasks(self) -> int:
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True)
class Failed:
    """A task that did not end ok: its index, status (failed, died or poisoned) and reason; 0 bytes: not
    known.

    `failure` and `error_digest` are as in its row, `line` is where the model failed (FILE:LINE), `evidence`
    the last line of the error of a task that ran out of memory.
    """

    index: int
    status: str
    reason: str
    peak_bytes: int = 0
    limit_bytes: int = 0
    failure: str = ""
    error_digest: int | None = None
    line: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Receipt:
    """The result of a batch: every task that is neither in `failed` nor in `left` (not started) ended ok.

    Attributes:
        seconds: Wall-clock time of the tasks, without storing them.
        empty: Counts, by name, of empty outputs of ok tasks.
        returned: Names of their outputs, if the study stores only some of them.
        files: Changes by tasks in the bundle's files: if some are shared, nothing was stored and all tasks
            are left.
        fallbacks: Why another executor ran tasks, how many, and the seconds that they took besides the
            model's own.
    """

    failed: tuple[Failed, ...] = ()
    left: tuple[Range, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0
    empty: tuple[tuple[str, int], ...] = ()
    returned: tuple[str, ...] = ()
    files: FileChanges = field(default_factory=FileChanges)
    fallbacks: tuple[tuple[str, int, float], ...] = ()


def run_batch(batch: Batch) -> Receipt:
    """Run a batch on this Dask worker, store its attempts as one part, and return its receipt."""
    from modelops_dask.workers.runtime import current_runtime

    return execute(batch, current_runtime())


def execute(batch: Batch, runtime: "Runtime") -> Receipt:
    """Like run_batch, with the given runtime."""
    context, kind, executor = batch.context, runtime.settings.executor_type, runtime.executor
    assert executor is not None, "workers of type none are refused before a study begins (workers/remote.py)"
    plan = _plan(context.store, context.request, context.run)
    bundle = study_bundle(context, runtime.settings)
    pieces = Pieces(plan.tasks(batch.ranges), batch.seconds, single=bool(batch.alone or batch.fresh))
    assert context.mark is not None, "__post_init__ reads it"
    rows = _Rows(
        plan,
        kind,
        context.mark,
        folder=str(bundle.path),
        generations=batch.generations,
        reseeded=is_reseeding(bundle, runtime),
        names_outputs=bool(context.request.outputs),
    )
    n_runners, n_threads, limit_bytes = share(context.request, runtime)
    preset, stored_outputs = runtime.settings.preset, frozenset(context.request.outputs)
    alike = Task(
        bundle=bundle,
        entrypoint=plan.entrypoint,
        params={},
        seed=0,
        limit_bytes=limit_bytes,
        threads=n_threads,
        needed_bytes=batch.needed_bytes,
        timeout_seconds=context.request.timeout_seconds,
    )
    start = time.monotonic()

    def work(_: int = 0) -> None:
        while piece := pieces.take():
            began = time.monotonic()
            tasks = make_tasks(piece, alike)
            if batch.alone or batch.fresh:
                index = _index(piece[0], plan)  # each of these tasks is a piece
                tasks = [tasks[0]._replace(alone=index in batch.alone, fresh=index in batch.fresh)]
            outcomes = executor.run_all(tasks)
            took_seconds = time.monotonic() - began
            pieces.record(len(piece), took_seconds)
            if outcomes[-1].fallback:
                rows.note_fallback(outcomes, took_seconds)
            rows.add([attempt(task, outcome) for task, outcome in zip(piece, outcomes, strict=True)])
            del outcomes  # otherwise their outputs would stay until the next piece is done
            if rows.output_bytes >= PART_BYTES:
                pieces.close()

    def attempt(task: PlannedTask, outcome: Outcome) -> Attempt:
        row = make_attempt(task, outcome, kind, preset)
        if stored_outputs and outcome.status == "ok":
            return leave_out(row, stored_outputs)
        if outcome.status != "died":
            return row
        had_all = outcome.reason == parts.OUT_OF_MEMORY and 0 < batch.most_bytes <= outcome.peak_bytes
        # The executor has run it a second time, alone: only its own process can have sent the message.
        guilty = had_all or outcome.reason == OUT_OF_TURN
        last = guilty or _index(task, plan) in batch.died
        return row._replace(status="poisoned") if last else row

    if n_runners <= runtime.threads:
        work()
    else:
        list(_pool(n_runners).map(work, range(n_runners)))  # raises their errors
    seconds = time.monotonic() - start

    files = executor.file_changes(bundle)
    if files.shared_files:  # other tasks may have read the written files
        study_bundle.cache_clear()
        fetch_bundle.cache_clear()
        return Receipt(left=batch.ranges, seconds=seconds, files=files)
    # create, not put: if Dask ever ran a batch twice, the first part would remain.
    context.store.create(_part_file(batch), rows.end())
    worker_memory.release()
    left = as_ranges(_index(task, plan) for task in pieces.left)
    empty = tuple(rows.empty.items())
    return Receipt(
        failed=tuple(rows.failures),
        left=left,
        seconds=seconds,
        peak_bytes=rows.peak_bytes,
        empty=empty,
        returned=tuple(sorted(rows.returned)),
        files=files,
        fallbacks=tuple(
            (reason, count, rows.fallback_seconds[reason]) for reason, count in rows.fallbacks.items()
        ),
    )


def make_tasks(planned: Iterable[PlannedTask], alike: Task) -> list[Task]:
    """Make tasks like `alike`, each with its own params and seed.

    By position: naming all fields would take 0.3 us more of the 12 us that a task costs a worker. A test
    fails if a field is added.
    """
    bundle, entrypoint, _, _, limit_bytes, threads, alone, needed_bytes, fresh, timeout_seconds = alike
    return [
        Task(
            bundle,
            entrypoint,
            task.params,
            task.seed,
            limit_bytes,
            threads,
            alone,
            needed_bytes,
            fresh,
            timeout_seconds,
        )
        for task in planned
    ]


def make_attempt(task: PlannedTask, outcome: Outcome, executor: str, preset: str) -> Attempt:
    """Make a row of the store from a task's outcome.

    By position: naming all fields would take 0.8 us more of the 14 us that a task costs a worker. A test
    fails if a field is added.
    """
    return Attempt(
        task.set, task.replicate, task.seed, *outcome, FALLBACK if outcome.fallback else executor, preset
    )


def leave_out(row: Attempt, stored_outputs: Collection[str]) -> Attempt:
    """The row without the outputs that its study does not store, but with their digests."""
    others = row.outputs.keys() - stored_outputs
    if not others:
        return row
    return row._replace(
        outputs={name: data for name, data in row.outputs.items() if name not in others},
        left_out={name: parts.outputs_digest({name: row.outputs[name]}) for name in others},
    )


def share(request: Request, runtime: "Runtime") -> tuple[int, int, int]:
    """The share of its worker process that a batch may use.

    Returns:
        Concurrent runners, over all of the process's batches; native threads of each (0: as the worker's
            variables say); and the memory limit of each in bytes.
    """
    n_runners = runners(runtime.threads, runtime.settings.subprocess_pool_size)
    if WHOLE_PROCESS in dict(request.resources):  # alone: Dask gives the resource to one batch at a time
        shares = 1 if runtime.settings.executor_type == "direct" else n_runners
        return 1, runtime.threads, runtime.runner_limit_bytes * shares
    if runtime.settings.executor_type == "direct":  # in one interpreter, more threads would not help
        return 1, 0, runtime.runner_limit_bytes
    return n_runners, 0, runtime.runner_limit_bytes


def is_reseeding(bundle: Bundle, runtime: "Runtime") -> bool:
    """Whether a worker seeds the model's own generators before each task; threads of one process cannot."""
    return bundle.reseeds and not (runtime.settings.executor_type == "direct" and runtime.threads > 1)


class Pieces(Generic[T]):
    """The tasks of a batch, in pieces that take about PIECE_SECONDS: each is one call of the executor.

    Any thread may take one. After `seconds` there are no more, except for the first.
    """

    def __init__(self, tasks: Iterator[T], seconds: float, single: bool) -> None:
        """Divide tasks; `single`: every task is a piece."""
        self.left = tasks  # pieces that were not taken
        self._single, self._size = single, 1
        self._begun, self._end = False, time.monotonic() + seconds
        self._lock = threading.Lock()

    def take(self) -> list[T]:
        """Take the next piece; it is empty at the end."""
        with self._lock:
            if self._begun and time.monotonic() > self._end:
                return []
            self._begun = True
            return list(islice(self.left, self._size))

    def close(self) -> None:
        """Hand out no more pieces."""
        self._end = 0.0

    def record(self, n_tasks: int, seconds: float) -> None:
        """Record how long a piece took."""
        if not self._single:
            fitting = int(n_tasks * PIECE_SECONDS / max(seconds, 1e-6))
            self._size = max(1, min(fitting, 2 * n_tasks))


class _Rows:
    """The rows of a batch from any thread: counted and encoded one row group at a time, then released."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        mark: PartMark,
        *,
        folder: str,
        generations: Sequence[tuple[int, int, int]],
        reseeded: bool,
        names_outputs: bool,
    ) -> None:
        """Prepare to collect rows; `folder` is the bundle's, names_outputs whether `returned` is
        collected.
        """
        self._plan, self._kind, self._folder = plan, kind, folder
        self._generations = {
            index: generation for start, stop, generation in generations for index in range(start, stop)
        }
        self.failures: list[Failed] = []
        self.peak_bytes = 0
        self.output_bytes = 0
        self.empty: Counter[str] = Counter()
        self.returned: set[str] = set()  # names of outputs
        self._names_outputs = names_outputs
        self.fallbacks: Counter[str] = Counter()  # why -> tasks
        self.fallback_seconds: defaultdict[str, float] = defaultdict(float)
        self._part = parts.Encoder(mark, reseeded)
        self._waiting: list[Attempt] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()

    def add(self, rows: Sequence[Attempt]) -> None:
        limits = worker_memory.output_limits()
        with self._lock:
            n_bytes = sum([len(data) for row in rows for data in row.outputs.values()])
            if 0 < limits.most_stored < n_bytes:
                rows = [_refuse_large(row, limits) for row in rows]
                n_bytes = sum([total_bytes(row.outputs) for row in rows])
            self._waiting += rows
            self.output_bytes += n_bytes
            self._waiting_bytes += n_bytes
            if len(self._waiting) >= parts.ROW_GROUP or self._waiting_bytes >= FLUSH_BYTES:
                self._flush()

    def note_fallback(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Record the time of tasks that another executor ran, part of which the model used."""
        reason = outcomes[-1].fallback
        with self._lock:
            self.fallbacks[reason] += len(outcomes)
            self.fallback_seconds[reason] += seconds - sum(outcome.seconds for outcome in outcomes)

    def end(self) -> bytes:
        """The part."""
        if self._waiting:
            self._flush()
        self.failures.sort(key=lambda failed: failed.index)
        return self._part.end()

    def _flush(self) -> None:
        if self._waiting_bytes < FLUSH_BYTES:
            self._encode_waiting()
            return
        with _encoding:
            self._encode_waiting()

    def _encode_waiting(self) -> None:
        rows, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._generations:
            rows = [
                row._replace(generation=self._generations.get(_index(row, self._plan), 0)) for row in rows
            ]
        columns = parts.columns(rows)
        _count(columns, self._kind)
        self.failures += _failures(rows, self._plan, self._folder)
        for outputs in columns["outputs"]:
            if not all(outputs.values()):
                self.empty.update(name for name, data in outputs.items() if not data)
        if self._names_outputs:
            self.returned.update(*columns["outputs"], *columns["left_out"])
        self.peak_bytes = max(self.peak_bytes, *columns["peak_bytes"])
        self._part.add(columns)


def _refuse_large(row: Attempt, limits: worker_memory.OutputLimits) -> Attempt:
    """The row; if its outputs are larger than this worker process can store, without them, and failed."""
    if total_bytes(row.outputs) <= limits.most_stored:
        return row
    error = explain_size(row.outputs, limits, is_received=True)
    return row._replace(status="failed", outputs={}, reason=TOO_LARGE, error=error, failure=MODEL)


@lru_cache(maxsize=1)
def _pool(n_runners: int) -> ThreadPoolExecutor:
    """Threads that call runners, shared by the batches of a worker process: n_runners in total."""
    return ThreadPoolExecutor(n_runners, "modelops-runner")


def _count(attempts: Mapping[str, Sequence[Any]], kind: str) -> None:
    for status, number in Counter(attempts["status"]).items():
        metrics.count("tasks", kind, "died" if status == "poisoned" else status, by=number)
    metrics.observe("task_seconds", attempts["seconds"], kind)
    metrics.observe("task_peak_bytes", attempts["peak_bytes"], kind)


def recover_receipt(batch: Batch, plan: Plan) -> Receipt | None:
    """Rebuild the receipt of a batch that was stored although none arrived; None if it was not stored."""
    part = parts.find(batch.context.store, batch.part)
    if part is None:
        return None
    columns = ["set", "replicate", "seed", "status", "reason", "peak_bytes", "limit_bytes", "seconds"]
    rows = [Attempt(**row) for row in part.select([*columns, "failure", "error"]).to_pylist()]
    stored = {_index(row, plan) for row in rows}
    left = (index for start, stop in batch.ranges for index in range(start, stop) if index not in stored)
    return Receipt(
        failed=_failures(rows, plan, str(batch.context.bundle.path)),
        left=as_ranges(left),
        seconds=sum(row.seconds for row in rows),
        peak_bytes=max(row.peak_bytes for row in rows),
    )


def as_ranges(indices: Iterable[int]) -> tuple[Range, ...]:
    """Half-open ranges that cover rising indices."""
    ranges: list[Range] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return tuple(ranges)


def _failures(rows: Iterable[Attempt], plan: Plan, folder: str) -> tuple[Failed, ...]:
    return tuple(
        Failed(
            index=_index(row, plan),
            status=row.status,
            reason=row.reason,
            peak_bytes=row.peak_bytes,
            limit_bytes=row.limit_bytes,
            failure=row.failure,
            error_digest=error_digest(row.failure, row.reason, row.error),
            line=failing_line(row.error, folder),
            evidence=_evidence(row),
        )
        for row in rows
        if row.status != "ok"
    )


def _evidence(row: Attempt) -> str:
    """Why a task is believed to be out of memory; "" for other ends. At most EVIDENCE_LIMIT characters."""
    if row.reason != parts.OUT_OF_MEMORY:
        return ""
    return row.error.rstrip().rpartition("\n")[2].removeprefix(f"{row.reason}: ")[:EVIDENCE_LIMIT]


def _index(task: PlannedTask | Attempt, plan: Plan) -> int:
    return task.set * plan.replicates + task.replicate


def _part_file(batch: Batch) -> str:
    return f"{parts.FOLDER}/{batch.part}.parquet"


@lru_cache(maxsize=2)  # a worker serves one study, and the next one
def _plan(store: Store, request: Request, _run: str) -> Plan:
    try:
        plan = read_plan(store, request)
        # Objects loaded so far stay: a full collection that visits them takes 60 ms, in the middle of a
        # batch.
        gc.freeze()
        return plan
    except NoStudy:
        raise _store_not_seen(store) from None


def _store_not_seen(store: Store) -> BadInput:
    return BadInput(
        f"The workers cannot reach the store {store.location()}: use a folder that they share, or a URL."
    )


@lru_cache(maxsize=2)
def study_bundle(context: RunContext, settings: Settings) -> Bundle:
    """This worker's copy of the bundle, with the packages that its study installs, and its seeding."""
    bundle = fetch_bundle(context.bundle, settings.bundles_cache_dir)
    try:
        study, origin = read_study(context.store), context.bundle.origin
        bundle = replace(bundle, reseeds=study.reseeds, program=study.program, origin=origin)
        return packages.pin(context.store, bundle, settings)
    except NoStudy:
        raise _store_not_seen(context.store) from None


@lru_cache(maxsize=8)
def fetch_bundle(sent: Bundle, cache_dir: Path) -> Bundle:
    """Fetch this worker's own copy of the bundle, with the digest that the driver sent.

    If the driver's copy was also changed, it is fetched from its origin. Raises FetchFailed.
    """
    try:
        return fetch(sent.source or str(sent.path), cache_dir, sent.digest)
    except FetchFailed as error:
        if not sent.origin or sent.origin == str(sent.path):
            raise
        try:
            return fetch(sent.origin, cache_dir, sent.digest)
        except FetchFailed as again:
            names = ", ".join(find_damaged(sent.path)[:MOST_NAMES])
            explanation = (
                f"a model changed files of the copy in {sent.path}: {names}" if names else error.problem
            )
            raise FetchFailed(sent.origin, f"{again.problem}. It is needed because {explanation}") from None
