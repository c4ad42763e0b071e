"""A batch: tasks that run one after another on a worker and are stored by one write.

Batch (ranges of indices) -> plan from the store -> executor.run(task) for each -> one part -> Receipt

What crosses the wire is plain data: a batch names its tasks by index, a receipt names the part that holds the
results. The part's name is chosen by whoever sends the batch, so that after a worker's death `committed` can
tell a batch that was stored from one that was not. A batch that outlives its time returns what it did not
begin.

Does not decide what is tried again: dispatch.py does.
"""

import gc
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops_dask import metrics
from modelops_dask.bundle import Bundle, FetchFailed, fetch
from modelops_dask.bundle.cache import MOST_NAMES, damaged
from modelops_dask.errors import BadInput
from modelops_dask.executors import FileChanges, Outcome, Task, WatchesFiles
from modelops_dask.executors.messages import OUT_OF_TURN
from modelops_dask.limits import own
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, runners
from modelops_dask.store import parts
from modelops_dask.store.files import Files
from modelops_dask.store.identity import NoStudy, PartMark, read_study
from modelops_dask.store.parts import Attempt
from modelops_dask.store.study import existing
from modelops_dask.study import packages
from modelops_dask.study.plan import Plan, PlannedTask, Request

if TYPE_CHECKING:
    from modelops_dask.worker import Runtime

PIECE_SECONDS = 0.02  # longer, and runners side by side would wait for one another at the end
FLUSH_BYTES = 16 * MIB  # of outputs that wait to be encoded
PART_BYTES = 64 * MIB  # of outputs in a part; then no further task is begun, for all of it is in memory
WHOLE_PROCESS = "process"  # the resource of Dask that a worker process has once
Range = tuple[int, int]  # half-open, of task indices


@dataclass(frozen=True)
class Source:
    """What all batches of a run share, and a worker keeps: where the plan and the model are."""

    files: Files
    request: Request
    bundle: Bundle
    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # a store may be deleted and begun again
    mark: PartMark | None = None  # of the parts that the batches write; None: of the study in the store now

    def __post_init__(self) -> None:
        if self.mark is None:
            object.__setattr__(self, "mark", read_study(self.files).mark(self.bundle.digest))


@dataclass(frozen=True)
class Batch:
    """Tasks to run. `died` are those of them whose process was lost before: lost once more, they are
    poisoned. `alone` are those that died of want of memory. `needed_bytes` is what a task should need, 0 if
    that is not known; one that held `most_bytes` and ran out of memory had all that there is.
    """

    source: Source
    part: str
    ranges: tuple[Range, ...]
    seconds: float  # after which no further task is begun
    died: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()
    needed_bytes: int = 0
    most_bytes: int = 0  # 0: not known

    @property
    def n_tasks(self) -> int:
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True)
class Failed:
    """A task that did not end ok: its index, how (failed, died or poisoned) and why; 0 bytes: not known."""

    index: int
    status: str
    reason: str
    peak_bytes: int = 0
    limit_bytes: int = 0


@dataclass(frozen=True)
class Receipt:
    """What became of a batch: every task that is neither in `failed` nor in `left` (not begun) ended ok.

    `seconds` is the time the tasks took on the clock, storing them not included. `empty` counts, by name,
    outputs of 0 bytes of tasks that ended ok. `files` is what tasks did to the
    bundle's files: where some are shared, nothing was stored and all is left.
    """

    failed: tuple[Failed, ...] = ()
    left: tuple[Range, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0
    empty: tuple[tuple[str, int], ...] = ()
    files: FileChanges = field(default_factory=FileChanges)


def run_batch(batch: Batch) -> Receipt:
    """Run a batch on this Dask worker, store its attempts as one part, and say what became of it."""
    from distributed import get_worker

    worker = get_worker()
    return execute(batch, worker.modelops)


def execute(batch: Batch, runtime: "Runtime") -> Receipt:
    """As run_batch, with the runtime given."""
    source, kind = batch.source, runtime.settings.executor_type
    plan = _plan(source.files, source.request, source.run)
    bundle = study_bundle(source, runtime.settings)
    pieces = _Pieces(plan.tasks(batch.ranges), batch.seconds, single=bool(batch.alone))
    rows = _Rows(plan, kind, source.mark)
    n_runners, n_threads, limit_bytes = share(source.request, runtime)
    entrypoint, preset = plan.entrypoint, runtime.settings.preset
    start = time.monotonic()

    def work(_: int = 0) -> None:
        while piece := pieces.take():
            began = time.monotonic()
            outcomes = runtime.executor.run_all([call(task) for task in piece])
            pieces.took(len(piece), time.monotonic() - began)
            rows.add([attempt(*each) for each in zip(piece, outcomes, strict=True)])
            del outcomes  # or their outputs would stay until the next piece is done
            if rows.output_bytes >= PART_BYTES:
                pieces.close()

    def call(task: PlannedTask) -> Task:
        alone = bool(batch.alone) and _index(task, plan) in batch.alone
        same = limit_bytes, n_threads, alone, batch.needed_bytes
        return Task._make((bundle, entrypoint, task.params, task.seed, *same))

    def attempt(task: PlannedTask, outcome: Outcome) -> Attempt:
        row = Attempt._make((task.set, task.replicate, task.seed, *outcome, kind, preset, 0.0))
        if outcome.status != "died":
            return row
        had_all = outcome.reason == parts.OUT_OF_MEMORY and 0 < batch.most_bytes <= outcome.peak_bytes
        # The executor has run it a second time, alone: only its own process can have spoken.
        guilty = had_all or outcome.reason == OUT_OF_TURN
        last = guilty or _index(task, plan) in batch.died
        return row._replace(status="poisoned") if last else row

    if n_runners <= runtime.threads:
        work()
    else:
        list(_pool(n_runners).map(work, range(n_runners)))  # raises what they raised
    seconds = time.monotonic() - start

    executor = runtime.executor
    files = executor.file_changes(bundle) if isinstance(executor, WatchesFiles) else FileChanges()
    if files.shared:  # other tasks may have read what one wrote
        study_bundle.cache_clear()
        bundle_here.cache_clear()
        return Receipt(left=batch.ranges, seconds=seconds, files=files)
    # create, not put: should Dask ever run a batch twice, the first part stands.
    source.files.create(_part_file(batch), rows.end())
    own.release()
    left = as_ranges(_index(task, plan) for task in pieces.left)
    empty = tuple(rows.empty.items())
    return Receipt(tuple(rows.failures), left, seconds, rows.peak_bytes, empty, files)


def share(request: Request, runtime: "Runtime") -> tuple[int, int, int]:
    """What a batch has of its worker process: runners side by side, over all of the process's batches; native
    threads of each (0: as the worker's variables say) and its limit of memory in bytes.
    """
    n_runners = runners(runtime.threads, runtime.settings.subprocess_pool_size)
    if WHOLE_PROCESS in dict(request.resources):  # alone: Dask gives the resource to one batch at a time
        n_threads = runtime.threads if runtime.threads > 1 else 0
        shares = 1 if runtime.settings.executor_type == "direct" else n_runners
        return 1, n_threads, runtime.child_limit_bytes * shares
    if runtime.settings.executor_type == "direct":  # in one interpreter more threads would only add surprises
        return 1, 0, runtime.child_limit_bytes
    return n_runners, 0, runtime.child_limit_bytes


class _Pieces:
    """The tasks of a batch, in pieces that take about PIECE_SECONDS: each is one call of the executor.

    Any thread may take one. After `seconds` there are no more, but for the first.
    """

    def __init__(self, tasks: Iterator[PlannedTask], seconds: float, single: bool) -> None:
        """`single`: every task is a piece."""
        self.left = tasks  # those that nobody took
        self._single, self._size = single, 1
        self._begun, self._end = False, time.monotonic() + seconds
        self._lock = threading.Lock()

    def take(self) -> list[PlannedTask]:
        """The next piece, empty at the end."""
        with self._lock:
            if self._begun and time.monotonic() > self._end:
                return []
            self._begun = True
            return list(islice(self.left, self._size))

    def close(self) -> None:
        """Hand out no more."""
        self._end = 0.0

    def took(self, n_tasks: int, seconds: float) -> None:
        """Tell how long a piece took."""
        if not self._single:
            fitting = int(n_tasks * PIECE_SECONDS / max(seconds, 1e-6))
            self._size = max(1, min(fitting, 2 * n_tasks))


class _Rows:
    """The rows of a batch as any thread has them: counted and encoded a row group at a time, then let go."""

    def __init__(self, plan: Plan, kind: str, mark: PartMark) -> None:
        self._plan, self._kind = plan, kind
        self.failures: list[Failed] = []
        self.peak_bytes = 0
        self.output_bytes = 0
        self.empty: Counter[str] = Counter()
        self._part = parts.Encoder(mark)
        self._waiting: list[Attempt] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()

    def add(self, rows: Sequence[Attempt]) -> None:
        with self._lock:
            self._waiting += rows
            n_bytes = sum([len(data) for row in rows for data in row.outputs.values()])
            self.output_bytes += n_bytes
            self._waiting_bytes += n_bytes
            if len(self._waiting) >= parts.ROW_GROUP or self._waiting_bytes >= FLUSH_BYTES:
                self._flush()

    def end(self) -> bytes:
        """The part."""
        if self._waiting:
            self._flush()
        self.failures.sort(key=lambda failed: failed.index)
        return self._part.end()

    def _flush(self) -> None:
        rows, self._waiting, self._waiting_bytes = self._waiting, [], 0
        columns = parts.columns(rows)
        _count(columns, self._kind)
        self.failures += _failures(rows, self._plan)
        for outputs in columns["outputs"]:
            if not all(outputs.values()):
                self.empty.update(name for name, data in outputs.items() if not data)
        self.peak_bytes = max(self.peak_bytes, *columns["peak_bytes"])
        self._part.add(columns)


@lru_cache(maxsize=1)
def _pool(n_runners: int) -> ThreadPoolExecutor:
    """Callers of runners, shared by the batches of a worker process: together they have n_runners at work."""
    return ThreadPoolExecutor(n_runners, "modelops-runner")


def _count(attempts: Mapping[str, Sequence[Any]], kind: str) -> None:
    for status, number in Counter(attempts["status"]).items():
        metrics.count("tasks", kind, "died" if status == "poisoned" else status, by=number)
    metrics.observe("task_seconds", attempts["seconds"], kind)
    metrics.observe("task_peak_bytes", attempts["peak_bytes"], kind)


def committed(batch: Batch, plan: Plan) -> Receipt | None:
    """The receipt of a batch that was stored although no receipt came; None when it was not stored."""
    part = parts.find(batch.source.files, batch.part)
    if part is None:
        return None
    columns = ["set", "replicate", "seed", "status", "reason", "peak_bytes", "limit_bytes", "seconds"]
    rows = [Attempt(**row) for row in part.select(columns).to_pylist()]
    stored = {_index(row, plan) for row in rows}
    left = (index for start, stop in batch.ranges for index in range(start, stop) if index not in stored)
    return Receipt(
        _failures(rows, plan),
        as_ranges(left),
        sum(row.seconds for row in rows),
        max(row.peak_bytes for row in rows),
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


def _failures(rows: Iterable[Attempt], plan: Plan) -> tuple[Failed, ...]:
    return tuple(
        Failed(_index(row, plan), row.status, row.reason, row.peak_bytes, row.limit_bytes)
        for row in rows
        if row.status != "ok"
    )


def _index(task: PlannedTask | Attempt, plan: Plan) -> int:
    return task.set * plan.replicates + task.replicate


def _part_file(batch: Batch) -> str:
    return f"{parts.FOLDER}/{batch.part}.parquet"


@lru_cache(maxsize=2)  # a worker serves one study, and the next one
def _plan(files: Files, request: Request, _run: str) -> Plan:
    try:
        plan = existing(files, request)
        # What is loaded by now stays: a full collection that walks it takes 60 ms, amid a batch.
        gc.freeze()
        return plan
    except NoStudy:
        raise _not_seen(files) from None


def _not_seen(files: Files) -> BadInput:
    return BadInput(
        f"The workers do not see the store {files.where()}: it must be a folder they share, or a URL."
    )


@lru_cache(maxsize=2)
def study_bundle(source: Source, settings: Settings) -> Bundle:
    """The bundle as this worker holds it, with the packages that its study installs."""
    bundle = bundle_here(source.bundle, settings.bundles_cache_dir)
    try:
        return packages.pinned(source.files, bundle, settings)
    except NoStudy:
        raise _not_seen(source.files) from None


@lru_cache(maxsize=8)
def bundle_here(sent: Bundle, cache_dir: Path) -> Bundle:
    """The bundle as this worker holds it: its own copy, with the digest that the driver sent.

    Where the driver's copy was written to as well, what it was copied from is asked. Raises FetchFailed.
    """
    try:
        return fetch(sent.source or str(sent.path), cache_dir, sent.digest)
    except FetchFailed as error:
        if not sent.origin or sent.origin == str(sent.path):
            raise
        try:
            return fetch(sent.origin, cache_dir, sent.digest)
        except FetchFailed as again:
            names = ", ".join(damaged(sent.path)[:MOST_NAMES])
            said = f"a model changed files of the copy in {sent.path}: {names}" if names else error.problem
            raise FetchFailed(sent.origin, f"{again.problem}. It is asked for because {said}") from None
