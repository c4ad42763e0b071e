"""The plan of a study: a table of parameter sets and a count of replicates.

sets -> Plan -> tasks of index ranges

A task is (set, replicate); its index is set * replicates + replicate. Tasks exist only as ranges of indices:
ten million of them need a byte each for a state (`blank`), and no memory here. A set with its own seed has
one task, replicate 0; its other indices are ABSENT, and so are all indices of sets that the request leaves
out or that do not belong to the Chunk that a process runs.

This module does not read or write: spec.py makes the sets, store/study.py stores them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from modelops_dask.plan import contract

PENDING, OK, FAILED, POISONED, ABSENT = range(5)
STATES = ("pending", "ok", "failed", "poisoned", "absent")
MAX_TASKS = 10**9
SETS_SCHEMA = pa.schema(
    [
        pa.field("param_id", pa.binary(32), nullable=False),
        pa.field("params", pa.string(), nullable=False),  # canonical JSON
        pa.field("seed", pa.uint64()),  # null: derived, one per replicate
    ]
)
_CHUNK = 65_536
_CHUNK_BLOCKS = (16, 1024)  # blocks per share if there are enough tasks, and the most tasks in one


class PlannedTask(NamedTuple):
    """One call of the model. A tuple, because millions are created."""

    set: int
    replicate: int
    param_id: str  # 64 hex digits
    params: dict[str, object]
    seed: int


@dataclass(frozen=True)
class Request:
    """The tasks of the last run among those in the store; plain data, to rebuild the same Plan elsewhere.

    Attributes:
        sets: Half-open ranges of set numbers.
        resources: Dask resources that a task needs on its worker.
        deterministic: Whether the study file states that no seed changes the results.
        volatile: Outputs that may differ from run to run, according to the study file.
        outputs: The only outputs that are stored; () for all.
        timeout_seconds: Time limit of each task; 0: the workers' settings apply.
    """

    replicates: int
    sets: tuple[tuple[int, int], ...]
    resources: tuple[tuple[str, float], ...] = ()
    deterministic: bool = False
    volatile: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    timeout_seconds: float = 0


class Chunk(NamedTuple):
    """A chunk's part of a plan: `number`, from 0, of `n_chunks`.

    Tasks are distributed in blocks of neighbours, so that all chunks get some of the expensive parameters and
    of the remaining tasks of an interrupted study. The distribution depends only on the request, not on
    finished tasks.
    """

    number: int
    n_chunks: int

    def of(self, tasks: np.ndarray) -> Iterator[np.ndarray]:
        """The blocks of a plan's task indices (all of them, in order) that this chunk runs."""
        blocks, most = _CHUNK_BLOCKS
        size = min(most, max(1, len(tasks) // (blocks * self.n_chunks)))
        for start in range(self.number * size, len(tasks), self.n_chunks * size):
            yield tasks[start : start + size]


@dataclass(frozen=True)
class Plan:
    """The tasks of a study. `table` has the columns of SETS_SCHEMA; its row number is the set's number."""

    entrypoint: str
    table: pa.Table
    request: Request
    share: Chunk | None = None  # None: all of them

    @property
    def n_sets(self) -> int:
        """Rows of the table, including those that the request leaves out."""
        return self.table.num_rows

    @property
    def replicates(self) -> int:
        return self.request.replicates

    @cached_property
    def absent(self) -> np.ndarray:
        """bool (n_sets, replicates): indices without a task."""
        absent = np.ones((self.n_sets, self.replicates), dtype=bool)
        for start, stop in self.request.sets:
            absent[start:stop] = False
        if self.replicates > 1 and self.table["seed"].null_count < self.n_sets:
            absent[self.table["seed"].is_valid().to_numpy(), 1:] = True
        if self.share is None:
            return absent
        is_other = np.ones(absent.size, dtype=bool)
        for block in self.share.of(np.flatnonzero(~absent.ravel())):
            is_other[block] = False
        return is_other.reshape(absent.shape)

    @cached_property
    def n_tasks(self) -> int:
        return int(self.absent.size - np.count_nonzero(self.absent))

    def seeds(self, sets: np.ndarray, replicates: np.ndarray) -> np.ndarray:
        """The seeds of tasks, including those that the request leaves out.

        Args:
            sets: Numbers of sets, int (n,), each below n_sets.
            replicates: Their replicates, int (n,).

        Returns:
            uint64 (n,).
        """
        ids, starts = self._param_ids
        chunks = np.searchsorted(starts, sets, side="right") - 1
        places = zip(chunks.tolist(), (sets - starts[chunks]).tolist(), replicates.tolist(), strict=True)
        derived = [
            contract.seed_bytes(ids[chunk][32 * row : 32 * row + 32].hex(), replicate)
            for chunk, row, replicate in places
        ]
        seeds = np.frombuffer(b"".join(derived), ">u4").astype(np.uint64)
        if self.table["seed"].null_count == self.n_sets:
            return seeds
        set_seeds = self.table["seed"].take(pa.array(sets))
        return np.where(set_seeds.is_valid().to_numpy(), set_seeds.fill_null(0).to_numpy(), seeds)

    @cached_property
    def _param_ids(self) -> tuple[list[memoryview], np.ndarray]:
        """The chunks of the table's ids, 32 bytes each, and the number of the first set of each, int64."""
        chunks = self.table["param_id"].chunks
        return [_id_bytes(chunk) for chunk in chunks], np.cumsum([0, *map(len, chunks)])[:-1]

    def blank(self) -> np.ndarray:
        """uint8 (n_sets, replicates): PENDING for tasks, otherwise ABSENT."""
        return np.where(self.absent, np.uint8(ABSENT), np.uint8(PENDING))

    def index(self, set_number: int, replicate: int) -> int:
        """The index of a task. Raises KeyError if the plan has no such task."""
        is_inside = 0 <= set_number < self.n_sets and 0 <= replicate < self.replicates
        if not is_inside or self.absent[set_number, replicate]:
            raise KeyError((set_number, replicate))
        return set_number * self.replicates + replicate

    def task(self, index: int) -> PlannedTask:
        """The task of an index. Raises KeyError if it is absent."""
        for task in self.tasks([(index, index + 1)]):
            return task
        raise KeyError(index)

    def tasks(self, ranges: Iterable[tuple[int, int]]) -> Iterator[PlannedTask]:
        """The tasks of half-open ranges of indices, in order; absent ones are skipped."""
        for start, stop in ranges:
            first, last = start // self.replicates, -(-stop // self.replicates)
            for chunk_start in range(first, last, _CHUNK):
                count = min(_CHUNK, last - chunk_start)
                yield from self._tasks_of_sets(chunk_start, count, start, stop)

    def _tasks_of_sets(self, first: int, count: int, start: int, stop: int) -> Iterator[PlannedTask]:
        rows = self.table.slice(first, count)
        ids, texts, seeds = (rows[name].to_pylist() for name in ("param_id", "params", "seed"))
        for number, (digest, text, seed) in enumerate(zip(ids, texts, seeds, strict=True), first):
            param_id, params, first_index = digest.hex(), json.loads(text), number * self.replicates
            low, high = max(0, start - first_index), min(self.replicates, stop - first_index)
            derived = contract.seeds_of(param_id) if seed is None else None
            for replicate, absent in enumerate(self.absent[number, low:high].tolist(), low):
                if not absent:
                    task_seed = derived(replicate) if derived else seed
                    yield _planned_task((number, replicate, param_id, params, task_seed))


# By position: 1.2 us per task instead of 2.0 us by keyword, because there are millions. The type fixes the
# order.
_planned_task: Callable[[tuple[int, int, str, dict[str, object], int]], PlannedTask] = PlannedTask._make


def _id_bytes(chunk: pa.Array) -> memoryview:
    """The ids of a chunk, 32 bytes each, without copying them."""
    buffer = chunk.buffers()[1]
    assert buffer is not None  # the column cannot be null
    return memoryview(buffer)[32 * chunk.offset :]


def tabulate(chunks: Iterable[Sequence[tuple[str, int | None]]]) -> pa.Table:
    """Make a table of SETS_SCHEMA from (canonical JSON, seed or None), in chunks, so that a million sets stay
    small.
    """
    batches = []
    for chunk in chunks:
        ids = b"".join([contract.digest(text) for text, _ in chunk])
        columns = [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(chunk), [None, pa.py_buffer(ids)]),
            pa.array([text for text, _ in chunk], pa.string()),
            pa.array([seed for _, seed in chunk], pa.uint64()),
        ]
        batches.append(pa.record_batch(columns, schema=SETS_SCHEMA))
    return pa.Table.from_batches(batches, SETS_SCHEMA)


def keys(table: pa.Table) -> pa.Array:
    """Binary keys that are equal for equal sets: the param_id and, if the set has one, the seed."""
    ids = table["param_id"].combine_chunks().cast(pa.binary())
    if table["seed"].null_count == table.num_rows:
        return ids
    seeds = table["seed"].to_pylist()
    tails = [b"" if seed is None else seed.to_bytes(8, "big") for seed in seeds]
    return pa.array([head + tail for head, tail in zip(ids.to_pylist(), tails, strict=True)], pa.binary())
