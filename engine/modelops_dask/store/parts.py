"""Parts: what workers did, a row per attempt at a task.

attempts of one batch -> parts/UUID.parquet -> fold.py, compact.py

A part has a new name, is written once, whole and durable, and is never edited; it is the unit of loss: a
batch that dies leaves no part, and its tasks are still pending. Workers write the rows of their own attempts;
the driver writes those of tasks whose worker died. Outputs are kept as the model returned them.

Where there are thousands, merge.py moves parts into files that hold many. A part keeps its name there, and
scan() gives the rows of every part once, wherever it is: merging, also when it was cut short, changes nothing
that a reader finds.

`digest` is a hash of the outputs, so that two ok rows of one task can be compared without reading them.

Does not decide what a row means: fold.py does.
"""

import errno
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelops_dask.errors import MopsError
from modelops_dask.store.files import Files

FOLDER = "parts"
OUT_OF_MEMORY = "TaskOOM"  # the reason of a death for want of memory; executors/runner.py gives it
MERGED = "merged-"  # a file of several parts
HELD = b"modelops_dask.parts"  # in its metadata: [name, rows] of each, in order, as JSON
ROW_GROUP = 4096  # rows; compaction reads a row group at a time
_READERS = 2  # of a folder's files at once: Arrow decodes outside the interpreter's lock
_REQUESTS = 16  # at once to an object store, where each takes its time
OUTPUTS = pa.map_(pa.string(), pa.large_binary())  # large: a batch may return more than 2 GiB
SCHEMA = pa.schema(
    [
        ("set", pa.uint32()),
        ("replicate", pa.uint32()),
        ("seed", pa.uint64()),
        ("status", pa.dictionary(pa.int8(), pa.string())),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("log", pa.string()),
        ("peak_bytes", pa.int64()),
        ("limit_bytes", pa.int64()),
        ("threads", pa.int32()),
        ("environment", pa.string()),
        ("executor", pa.string()),
        ("preset", pa.string()),
        ("seconds", pa.float64()),
        ("ended", pa.float64()),
        ("digest", pa.binary(16)),
        ("outputs", OUTPUTS),
    ],
    metadata={"modelops_dask": "part 1"},
)
WRITING = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["status", "reason", "environment", "executor", "preset"],
    "write_page_checksum": True,
}
T = TypeVar("T")


class Attempt(NamedTuple):
    """One attempt at one task. A tuple, because millions are made: a task's numbers, then the fields of an
    executor's Outcome, then what the worker knows.

    ok: `outputs` holds the model's bytes. failed: the model raised. died: the process that ran it is gone.
    poisoned: it died alone, so it is the task that kills. `reason` is short and the same for like failures,
    `error` the traceback, `log` the end of what the model printed. `threads` is the BLAS thread count and
    `environment` a digest of the packages, for both change a result's bytes. 0 bytes: not known, or no limit.
    `ended` is when, in seconds since the epoch by the writer's clock, 0 for when it is written: for people,
    nothing is decided by it.
    """

    set: int
    replicate: int
    seed: int
    status: Literal["ok", "failed", "died", "poisoned"]
    outputs: Mapping[str, bytes] = MappingProxyType({})
    reason: str = ""
    error: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    log: str = ""
    threads: int = 0
    environment: str = ""
    limit_bytes: int = 0
    executor: str = ""
    preset: str = ""
    ended: float = 0.0


def write(files: Files, attempts: Sequence[Attempt]) -> str:
    """Write the attempts of a batch as one part, durably; its name. ValueError when there is none."""
    if not attempts:
        raise ValueError("a part needs at least one attempt")
    name = f"{FOLDER}/{uuid.uuid4().hex}.parquet"
    files.put(name, encode(attempts))
    return name


def encode(attempts: Sequence[Attempt]) -> bytes:
    """The bytes of a part."""
    encoder = Encoder()
    for start in range(0, len(attempts), ROW_GROUP):
        encoder.add(columns(attempts[start : start + ROW_GROUP]))
    return encoder.end()


def columns(attempts: Sequence[Attempt]) -> dict[str, tuple]:
    """The fields of Attempt, each with its values; at least one attempt."""
    return dict(zip(Attempt._fields, zip(*attempts, strict=True), strict=True))


class Encoder:
    """Makes the bytes of a part from attempts as they come, so that few are held at a time."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, SCHEMA, **WRITING)

    def add(self, attempts: Mapping[str, Sequence[Any]]) -> None:
        """Add a row group, as columns() has it: about ROW_GROUP attempts unless it is the last."""
        now = time.time()
        ended = [each or now for each in attempts["ended"]]
        digests = [
            outputs_digest(outputs) if status == "ok" else None
            for outputs, status in zip(attempts["outputs"], attempts["status"], strict=True)
        ]
        values = {**attempts, "ended": ended, "digest": digests}
        arrays = [_column(values[name], SCHEMA.field(name).type) for name in SCHEMA.names[:-1]]
        self._writer.write_table(pa.table([*arrays, _maps(values["outputs"])], SCHEMA))

    def end(self) -> bytes:
        """The whole part; nothing can be added any more."""
        self._writer.close()
        return self._sink.getvalue().to_pybytes()


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """As pa.array, and quicker for what all rows share, which is most of them."""
    if values[0] == values[-1] and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], kind), len(values))
    return pa.array(values, kind)


def _maps(outputs: Sequence[Mapping[str, bytes]]) -> pa.Array:
    """As pa.array(..., OUTPUTS), from flat columns, in half the time."""
    offsets = np.zeros(len(outputs) + 1, np.int32)
    np.cumsum([len(each) for each in outputs], out=offsets[1:])
    names = [name for each in outputs for name in each]
    contents = [data for each in outputs for data in each.values()]
    return pa.MapArray.from_arrays(
        offsets, pa.array(names, pa.string()), pa.array(contents, pa.large_binary())
    )


def outputs_digest(outputs: Mapping[str, bytes]) -> bytes:
    """16 bytes that two equal sets of outputs share, whatever their order."""
    hasher = blake2b(digest_size=16)
    for name in sorted(outputs) if len(outputs) > 1 else outputs:
        head, data = name.encode(), outputs[name]
        hasher.update(b"%d:%b%d:" % (len(head), head, len(data)))
        hasher.update(data)
    return hasher.digest()


class NotAPart(MopsError):
    """A file in parts/ that cannot be read; `reason` begins with torn or foreign."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        return (
            f"{FOLDER}/{self.name} cannot be read ({self.reason}). "
            "Move it out of the store and run the study again: its tasks are then run again."
        )


@contextmanager
def reading(files: Files, name: str) -> Iterator[pq.ParquetFile]:
    """An open file of parts/; NotAPart when it, or within the `with` one of its pages, is bad.

    FileNotFoundError when it is gone: merged into another, perhaps.
    """
    if not name.endswith(".parquet"):
        raise NotAPart(name, "foreign: its name does not end in .parquet")
    with files.failures(name), files.open(f"{FOLDER}/{name}") as file:
        ours = file.read(4) in (b"PAR1", b"")
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            if missing := set(SCHEMA.names) - set(part.schema_arrow.names):
                raise NotAPart(name, f"foreign: it has no column {min(missing)}")
            yield part
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) == errno.ESTALE:  # of NFS: another machine removed it
                raise FileNotFoundError(name) from error
            of_content = isinstance(error, pa.ArrowException) or (type(error) is OSError and not error.errno)
            if not of_content:  # the disk's, or the network's
                raise
            reason = str(error).partition("\n")[0]
            raise NotAPart(name, f"{'torn' if ours else 'foreign'}: {reason}") from error


@dataclass(frozen=True)
class Rows:
    """Rows of a file in parts/: `at` are their numbers in the file, int64 (n,); `table` has n rows.

    `order`, uint64 (n,), follows from the name of each row's part and so does not change when it is merged.
    """

    file: str
    at: np.ndarray
    order: np.ndarray
    table: pa.Table


def scan(files: Files, columns: Sequence[str], skipped: dict[str, str] | None = None) -> Iterator[Rows]:
    """The rows of every part, each part once; files that are torn or foreign go to `skipped`: name -> why."""
    seen: set[str] = set()
    done: set[str] = set()
    vanished = True
    while vanished:  # merged by another process since they were listed: list again, for what holds them now
        names = [name for name in _merged_first(files.list(FOLDER)) if name not in done]
        done.update(names)
        vanished = False
        for name, found in _ahead(files, lambda name: _read(files, name, columns), names):
            if found is None:
                vanished = True
            elif isinstance(found, NotAPart):
                if skipped is not None:
                    skipped[name] = found.reason
            else:
                yield from _new(name, *found, seen)


def _read(
    files: Files, name: str, columns: Sequence[str]
) -> tuple[list[tuple[str, int]], pa.Table] | NotAPart | None:
    """What a file of parts/ holds, and some of its columns; None when it is gone."""
    try:
        with reading(files, name) as file:
            return held(file, name), file.read(columns=list(columns), use_threads=False)
    except FileNotFoundError:
        return None
    except NotAPart as error:
        return error


def _new(name: str, spans: list[tuple[str, int]], table: pa.Table, seen: set[str]) -> Iterator[Rows]:
    """Those rows of a file whose parts were not seen; from now on they are."""
    counts = [count for _, count in spans]
    fresh = np.repeat([part not in seen for part, _ in spans], counts)
    seen.update(part for part, _ in spans)
    if fresh.any():
        order = np.repeat(np.array([_order(part) for part, _ in spans], np.uint64), counts)
        at = np.flatnonzero(fresh)
        yield Rows(name, at, order[at], table if len(at) == len(table) else table.take(at))


def _order(part: str) -> int:
    return int.from_bytes(blake2b(part.encode(), digest_size=8).digest(), "big")


def _merged_first(names: list[str]) -> list[str]:
    """Should Dask have run a batch again after its part was merged, the first part stands."""
    return sorted(names, key=lambda name: not name.startswith(MERGED))


def _ahead(files: Files, read: Callable[[str], T], names: Iterable[str]) -> Iterator[tuple[str, T]]:
    """read(name) of each, in order, a few at once."""
    at_once = _READERS if files.folder else _REQUESTS
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[tuple[str, Future[T]]] = deque()
        for name in names:
            waiting.append((name, pool.submit(read, name)))
            if len(waiting) == at_once:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def find(files: Files, part: str) -> pa.Table | None:
    """All rows of one part, without their outputs; None when there is no such part."""
    columns = [name for name in SCHEMA.names if name != "outputs"]
    for name in _merged_first(files.list(FOLDER)):
        if name != f"{part}.parquet" and not name.startswith(MERGED):
            continue
        try:
            with reading(files, name) as file:
                spans = held(file, name)
                if part in dict(spans):
                    start = sum(count for _, count in spans[: [each for each, _ in spans].index(part)])
                    return file.read(columns=columns, use_threads=False).slice(start, dict(spans)[part])
        except FileNotFoundError:
            return find(files, part)  # merged since it was listed
        except NotAPart:
            continue
    return None


def too_little(files: Files, number: int, replicate: int) -> int:
    """The most bytes that a task had when it ran out of memory; 0 when it never did."""
    most = 0
    for found in scan(files, ["set", "replicate", "reason", "limit_bytes"]):
        task = (pc.field("set") == number) & (pc.field("replicate") == replicate)
        rows = found.table.filter(task & (pc.field("reason") == OUT_OF_MEMORY))
        most = max([most, *rows["limit_bytes"].to_pylist()])
    return most


def errors(files: Files, tasks: Collection[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """What went wrong with tasks, (set, replicate), as a row of theirs says that did not end ok.

    Only row groups that have one of them are read, for tracebacks are long and there may be millions.
    """
    wanted = np.array([number << 32 | replicate for number, replicate in tasks], np.int64)
    found: dict[tuple[int, int], str] = {}
    for rows in scan(files, ["set", "replicate", "status"]):
        numbers, replicates = (rows.table[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
        ok = pc.equal(rows.table["status"], "ok").to_numpy(zero_copy_only=False)
        hits = np.flatnonzero(np.isin(numbers << 32 | replicates, wanted) & ~ok)
        if len(hits):
            texts = _errors_at(files, rows.file, rows.at[hits].tolist())
            pairs = zip(numbers[hits].tolist(), replicates[hits].tolist(), strict=True)
            found |= dict(zip(pairs, texts, strict=True))
        if len(found) == len(tasks):
            break
    return found


def _errors_at(files: Files, name: str, at: Sequence[int]) -> list[str]:
    """The column `error` of some rows of a file, rising; [] when it is gone: merged into another just now."""
    texts, start = [], 0
    with suppress(FileNotFoundError), reading(files, name) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if inside := [row - start for row in at if start <= row < stop]:
                column = file.read_row_group(group, columns=["error"], use_threads=False)["error"]
                texts += column.take(pa.array(inside)).to_pylist()
            start = stop
    return texts or [""] * len(at)


def held(file: pq.ParquetFile, name: str) -> list[tuple[str, int]]:
    """The parts in a file of parts/ and the number of their rows, in order."""
    listed = (file.metadata.metadata or {}).get(HELD)
    if listed is None:
        return [(name.removesuffix(".parquet"), file.metadata.num_rows)]
    return [(part, count) for part, count in json.loads(listed)]
