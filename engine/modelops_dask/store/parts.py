"""Parts: the work of workers, one row per attempt at a task.

attempts of one batch -> parts/UUID.parquet -> fold.py, compact.py

A part has a new name, is written once, complete and durable, and is never edited; it is the unit of loss: a
batch that dies leaves no part, and its tasks are still pending. Workers write the rows of their own attempts;
the driver writes those of tasks whose worker died. Outputs are stored as the model returned them.

If there are thousands of parts, merge.py moves them into files that hold many. A part keeps its name there,
and scan() gives the rows of every part once, wherever it is: merging, even if interrupted, changes nothing
for a reader.

Formats may grow. A part must have the REQUIRED columns; any other column of SCHEMA that it lacks is read as
null, and columns that this version does not know are kept, also when parts are merged.

Each part carries a mark of its study and bundle in its metadata (identity.py). A part of another study is
foreign: it is named and skipped, like a file that cannot be read.

`digest` is a hash of the outputs, so that two ok rows of one task can be compared without reading them.

The meaning of a row is decided in fold.py.
"""

import errno
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelops_dask import __version__
from modelops_dask.errors import MopsError
from modelops_dask.store.failures import error_digest, telling_lines
from modelops_dask.store.files import Store
from modelops_dask.store.identity import PartMark, StudyIdentity, study_of
from modelops_dask.store.left_out import find_lacking

FOLDER = "parts"
OUT_OF_MEMORY = "TaskOOM"  # the reason of a death for lack of memory; executors/runner.py sets it
WORKER_MEMORY = "WorkerMemory"  # of a death because the worker process itself held too much; limits/guard.py
MERGED = "merged-"  # a file of several parts
HELD = b"modelops_dask.parts"  # in its metadata: [name, rows] of each, in order, as JSON
HELD_METADATA = b"modelops_dask.parts_metadata"  # and their own metadata: {"distinct": [...], "of": [index]}
MARK = "modelops_dask.part"  # in a part's own metadata: a PartMark as a JSON object
GENERATION = "modelops_dask.generation"  # the highest of its rows, in a part that has rows above 0
LEFT_OUT = "modelops_dask.left_out"  # in a part that has rows with left_out; its value is 1
ROW_GROUP = 4096  # rows; compaction reads one row group at a time
_READERS = 2  # files of a folder read at the same time: Arrow decodes outside the interpreter's lock
_IN_A_ROW = 16  # small files per reader: passing them individually takes as long as reading them
LARGE = 16 << 20  # bytes of a part
_REQUESTS = 16  # concurrent requests to an object store, each of which takes time
OUTPUTS = pa.map_(pa.string(), pa.large_binary())  # large: a batch may return more than 2 GiB
DIGESTS = pa.map_(pa.string(), pa.binary(16))
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
        ("output_digests", DIGESTS),  # of each; null if there is only one
        ("runner", pa.string()),  # short id of the process that ran the task
        ("runner_task", pa.uint32()),  # the task's number in that process's life, from 1
        ("generation", pa.uint32()),  # among rows of one task the highest counts; null is 0
        ("engine", pa.string()),  # version of modelops_dask; null: 0.1
        ("reseeded", pa.bool_()),  # whether the model's own generators were seeded; null: no
        ("fallback", pa.string()),  # why another executor than the requested one ran the task
        ("failure", pa.string()),  # what failed: start, model or transient; "" for other ends
        ("message", pa.string()),  # the error's message, without the traceback; null for ok rows
        ("error_digest", pa.uint64()),  # for failures that count by store/failures.py, else null
        ("resumed", pa.bool_()),  # from a checkpoint
        ("origin", pa.string()),  # the store that the row was copied from
        # digests of outputs that the model returned but the study does not store; null: none
        ("left_out", DIGESTS),
        ("outputs", OUTPUTS),
    ],
    metadata={"modelops_dask": "part 1"},
)
_FLAT = list(SCHEMA)[:-1]  # fields of all columns but the outputs
REQUIRED = ("set", "replicate", "seed", "status", "digest", "outputs")
# Read by every fold: decompressing a column of a hundred numbers takes longer than reading it uncompressed.
_QUICK = ("set", "replicate", "status", "reason", "limit_bytes", "threads", "environment", "error_digest")
_FLAGS = ("reseeded",)  # as fast, and Parquet cannot store them as dictionaries
_NAMES = ("executor", "preset", "runner", "engine", "fallback", "failure", "message")  # few distinct values
T = TypeVar("T")
Columns = Mapping[str, Sequence[Any]]  # the fields of Attempt; each has its own type


class Attempt(NamedTuple):
    """One attempt at one task. A tuple, because millions are created: a task's numbers, the fields of an
    executor's Outcome, then what the worker knows.

    - "ok": `outputs` holds the model's bytes.
    - "failed": the model raised.
    - "died": the process that ran it no longer exists.
    - "poisoned": it died alone, so the task itself kills its process.

    Attributes:
        reason: Short, and the same for similar failures.
        error: The traceback.
        failure: What failed (failures.py).
        log: The end of what the model printed.
        threads: The BLAS thread count, which affects a result's bytes.
        environment: A digest of the packages, which also affect them.
        peak_bytes: Peak memory; 0: not known. A limit of 0 means none.
        ended: Seconds since the epoch by the writer's clock, 0 for the time of writing; only for people.
        generation: That of the last redo of the task (generations.py).
        left_out: Digests of outputs that were returned but are not stored.
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
    failure: str = ""
    log: str = ""
    threads: int = 0
    environment: str = ""
    limit_bytes: int = 0
    runner: str = ""
    runner_task: int = 0
    fallback: str = ""
    executor: str = ""
    preset: str = ""
    ended: float = 0.0
    generation: int = 0
    left_out: Mapping[str, bytes] = MappingProxyType({})


def write(store: Store, attempts: Sequence[Attempt], mark: PartMark | None = None) -> str:
    """Write the attempts of a batch as one part, durably, and return its name.

    Args:
        store: The store.
        attempts: At least one, else ValueError.
        mark: The study of these results; by default the one that the store holds now.
    """
    if not attempts:
        raise ValueError("a part needs at least one attempt")
    name = f"{FOLDER}/{uuid.uuid4().hex}.parquet"
    if mark is None and (study := study_of(store)):
        mark = study.mark(study.bundle)
    store.put(name, encode(attempts, mark))
    return name


def encode(attempts: Sequence[Attempt], mark: PartMark | None = None) -> bytes:
    """The bytes of a part."""
    encoder = Encoder(mark)
    for start in range(0, len(attempts), ROW_GROUP):
        encoder.add(columns(attempts[start : start + ROW_GROUP]))
    return encoder.end()


def columns(attempts: Sequence[Attempt]) -> Columns:
    """Transpose attempts, at least one, into a sequence of values for each field of Attempt."""
    return dict(zip(Attempt._fields, zip(*attempts, strict=True), strict=True))


class Encoder:
    """Makes the bytes of a part from attempts as they arrive, so that few are held at a time."""

    def __init__(self, mark: PartMark | None = None, reseeded: bool | None = None) -> None:
        """Start a part.

        Args:
            reseeded: Whether the model's own generators were seeded before each of these tasks.
        """
        self._reseeded = reseeded
        self._sink = pa.BufferOutputStream()
        self._schema = SCHEMA
        if mark:
            text = json.dumps(mark._asdict())
            self._schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), MARK.encode(): text.encode()})
        self._writer = pq.ParquetWriter(self._sink, self._schema, **writer_options(self._schema))
        self._generation = 0
        self._has_left_out = False

    def add(self, attempts: Columns) -> None:
        """Add a row group, as columns() returns it: about ROW_GROUP attempts unless it is the last."""
        now = time.time()
        ended = [ended_seconds or now for ended_seconds in attempts["ended"]]
        digests = [
            outputs_digest(outputs) if status == "ok" else None
            for outputs, status in zip(attempts["outputs"], attempts["status"], strict=True)
        ]
        values: dict[str, Sequence[Any]] = {
            **attempts,
            "ended": ended,
            "digest": digests,
            "output_digests": _output_digests(attempts["outputs"], digests),
        }
        if any(attempts["failure"]) or any(attempts["error"]):
            values |= _describe_failures(attempts)
        if any(attempts["generation"]):
            self._generation = max(self._generation, *attempts["generation"])
        has_left_out = any(attempts["left_out"])
        values["left_out"] = (
            [sorted(digests.items()) or None for digests in attempts["left_out"]]
            if has_left_out
            else [None] * len(ended)
        )
        self._has_left_out |= has_left_out
        constants = {"engine": __version__, "reseeded": self._reseeded}
        arrays = [
            _column(values[field.name], field.type)
            if field.name in values
            else pa.repeat(pa.scalar(constants.get(field.name), field.type), len(ended))
            for field in _FLAT
        ]
        self._writer.write_table(pa.table([*arrays, _maps(values["outputs"])], self._schema))

    def end(self) -> bytes:
        """The whole part; nothing can be added afterwards."""
        if self._generation:
            self._writer.add_key_value_metadata({GENERATION: str(self._generation)})
        if self._has_left_out:
            self._writer.add_key_value_metadata({LEFT_OUT: "1"})
        self._writer.close()
        part = self._sink.getvalue()
        if part.size >= LARGE:
            pa.default_memory_pool().release_unused()  # bytes used by encoding, before this copy
        return part.to_pybytes()


def _describe_failures(attempts: Columns) -> dict[str, Sequence[Any]]:
    """The columns that follow from how attempts failed."""
    errors = zip(*(attempts[name] for name in ("status", "reason", "error")), strict=True)
    failures = zip(*(attempts[name] for name in ("failure", "reason", "error")), strict=True)
    return {
        "message": [
            telling_lines(reason, error) or None if status != "ok" else None
            for status, reason, error in errors
        ],
        "error_digest": [error_digest(*failure) for failure in failures],
    }


def writer_options(schema: pa.Schema) -> dict[str, object]:
    """How pq.ParquetWriter writes parts: columns that every fold reads are uncompressed, others
    compressed.
    """
    leaves = []
    for field in schema:
        is_map = pa.types.is_map(field.type)
        leaves += [f"{field.name}.key_value.{leaf}" for leaf in ("key", "value")] if is_map else [field.name]
    codecs = {leaf: "none" if leaf in (*_QUICK, *_FLAGS) else "zstd" for leaf in leaves}
    return {
        "compression": codecs,
        "compression_level": {leaf: 1 for leaf, codec in codecs.items() if codec == "zstd"},
        # For outputs they would be copies of whole values, four at a time, which are never read.
        "write_statistics": [leaf for leaf in codecs if not leaf.startswith("outputs.")],
        "use_dictionary": [*_QUICK, *_NAMES],
        "write_page_checksum": True,
    }


def _column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Like pa.array, but faster for values that all rows share, which most do."""
    if values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    if values[0] == values[-1] and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], kind), len(values))
    return pa.array(values, kind)


def _maps(outputs: Sequence[Mapping[str, bytes]]) -> pa.Array:
    """Like pa.array(..., OUTPUTS), from flat columns, in half the time."""
    offsets = np.zeros(len(outputs) + 1, np.int32)
    np.cumsum([len(task_outputs) for task_outputs in outputs], out=offsets[1:])
    names = [name for task_outputs in outputs for name in task_outputs]
    contents = [data for task_outputs in outputs for data in task_outputs.values()]
    return pa.MapArray.from_arrays(
        offsets, pa.array(names, pa.string()), pa.array(contents, pa.large_binary())
    )


def outputs_digest(outputs: Mapping[str, bytes]) -> bytes:
    """Hash outputs to 16 bytes that do not depend on their order."""
    if len(outputs) == 1:  # the usual case; the same in less time
        ((name, data),) = outputs.items()
        head = name.encode()
        hasher = blake2b(b"%d:%b%d:" % (len(head), head, len(data)), digest_size=16)
        hasher.update(data)
        return hasher.digest()
    hasher = blake2b(digest_size=16)
    for name in sorted(outputs):
        head, data = name.encode(), outputs[name]
        hasher.update(b"%d:%b%d:" % (len(head), head, len(data)))
        hasher.update(data)
    return hasher.digest()


def _output_digests(
    outputs: Sequence[Mapping[str, bytes]], digests: Sequence[bytes | None]
) -> list[list[tuple[str, bytes]] | None]:
    """The digest of every output, in the order of names, for each ok task with several outputs; else None."""
    if max(map(len, outputs)) < 2:
        return [None] * len(outputs)
    return [
        [(name, outputs_digest({name: task_outputs[name]})) for name in sorted(task_outputs)]
        if digest and len(task_outputs) > 1
        else None
        for task_outputs, digest in zip(outputs, digests, strict=True)
    ]


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
def open_part_file(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    """Open a file of parts/.

    Raises:
        NotAPart: The file, or a page that is read within the `with`, is bad.
        FileNotFoundError: It no longer exists, for example because it was merged.
    """
    if not name.endswith(".parquet"):
        raise NotAPart(name, "foreign: its name does not end in .parquet")
    with store.failures(name), store.open(f"{FOLDER}/{name}") as file:
        is_parquet = file.read(4) in (b"PAR1", b"")
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            if problem := _schema_problem(part.schema_arrow):
                raise NotAPart(name, f"foreign: {problem}")
            yield part
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) == errno.ESTALE:  # on NFS: another machine removed it
                raise FileNotFoundError(name) from error
            is_content_error = isinstance(error, pa.ArrowException) or (
                type(error) is OSError and not error.errno
            )
            if not is_content_error:  # an error of the disk or the network
                raise
            reason = str(error).partition("\n")[0]
            raise NotAPart(name, f"{'torn' if is_parquet else 'foreign'}: {reason}") from error


def _schema_problem(schema: pa.Schema) -> str:
    """The reason why a table with this schema is not a part of any version; "" if it is one."""
    if schema.equals(SCHEMA):
        return ""
    if missing := [name for name in REQUIRED if name not in schema.names]:
        return f"it has no column {missing[0]}"
    for name in SCHEMA.names:
        if name in schema.names and schema.field(name).type != SCHEMA.field(name).type:
            return f"its column {name} is of type {schema.field(name).type}, not {SCHEMA.field(name).type}"
    return ""


def read_columns(file: pq.ParquetFile, columns: Sequence[str], row_group: int | None = None) -> pa.Table:
    """Read columns of SCHEMA, of one row group or all; missing ones are null."""
    names = file.schema_arrow.names
    present = [name for name in columns if name in names]
    if row_group is None:
        table = file.read(columns=present, use_threads=False)
    else:
        table = file.read_row_group(row_group, columns=present, use_threads=False)
    for name in columns:
        if name not in present:
            table = table.append_column(name, pa.nulls(table.num_rows, SCHEMA.field(name).type))
    return table.select(columns)


def numbers_or_zero(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of numbers as an array, with 0 for numbers that the writer did not know."""
    return pc.fill_null(table[name], 0).to_numpy()


class PartEntry(NamedTuple):
    """One part in a file of parts/. `metadata` was written with the part."""

    name: str
    n_rows: int
    metadata: Mapping[str, str]

    @property
    def mark(self) -> PartMark | None:
        """The part's mark; None for a part of mops-helm 0.1."""
        return _mark(self.metadata.get(MARK))

    @property
    def has_generations(self) -> bool:
        """Whether rows may have a generation above 0, so that the column must be read."""
        return GENERATION in self.metadata

    @property
    def has_left_out(self) -> bool:
        """Whether rows may have outputs that are not stored, so that the column must be read."""
        return LEFT_OUT in self.metadata


@lru_cache(maxsize=64)  # the parts of a study have one or two
def _mark(text: str | None) -> PartMark | None:
    if text is None:
        return None
    try:
        values = json.loads(text)
        return PartMark(str(values["study"]), str(values["bundle"]))
    except (ValueError, KeyError, TypeError):
        return PartMark("", "")  # without a study


def list_parts(file: pq.ParquetFile, name: str) -> list[PartEntry]:
    """Return the parts in a file of parts/, in order. Raises NotAPart if the file's list does not match its
    rows.
    """
    metadata = {
        key.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
        for key, value in (file.metadata.metadata or {}).items()
        if key != b"ARROW:schema"
    }
    part_list, metadata_list = metadata.pop(HELD.decode(), None), metadata.pop(HELD_METADATA.decode(), None)
    n_rows = file.metadata.num_rows
    if part_list is None:
        return [PartEntry(name.removesuffix(".parquet"), n_rows, metadata)]
    try:
        parts = [(str(part), int(count)) for part, count in json.loads(part_list)]
        if metadata_list is None:  # merged by mops-helm 0.1
            part_metadata: list[dict[str, str]] = [{}] * len(parts)
        else:
            description = json.loads(metadata_list)
            part_metadata = [description["distinct"][number] for number in description["of"]]
        if sum(count for _, count in parts) != n_rows or any(count < 0 for _, count in parts):
            raise ValueError
        return [
            PartEntry(part, n_rows, own_metadata)
            for (part, n_rows), own_metadata in zip(parts, part_metadata, strict=True)
        ]
    except (ValueError, KeyError, TypeError, IndexError):
        raise NotAPart(name, "foreign: its list of parts does not match its rows") from None


@dataclass(frozen=True)
class Rows:
    """Rows of a file in parts/: `row_numbers` are int64 (n,), in the file; `table` has n rows.

    Attributes:
        order: uint64 (n,), derived from the name of each row's part, so that merging does not change it.
        parts: Those that have rows here, in their order.
        generations: int (n,); None: all are 0.
        left_out: That column, of n rows; None: nothing is left out.
    """

    file: str
    row_numbers: np.ndarray
    order: np.ndarray
    table: pa.Table
    parts: tuple[PartEntry, ...]
    generations: np.ndarray | None = None
    left_out: pa.ChunkedArray | None = None

    def select(self, mask: np.ndarray) -> "Rows":
        """The rows that a mask, bool (n,), selects; `parts` stay, though rows of them may be missing."""
        chosen = pa.array(mask)
        return replace(
            self,
            row_numbers=self.row_numbers[mask],
            order=self.order[mask],
            table=self.table.filter(chosen),
            generations=None if self.generations is None else self.generations[mask],
            left_out=None if self.left_out is None else self.left_out.filter(chosen),
        )

    def lacks(self, outputs: Collection[str]) -> np.ndarray | None:
        """Which rows left out a requested output, bool (n,); None: none of them.

        Args:
            outputs: The requested outputs; () for all.
        """
        return None if self.left_out is None else find_lacking(self.left_out, outputs)


def scan(
    store: Store,
    columns: Sequence[str],
    skipped: dict[str, str] | None = None,
    *,
    but: Collection[str] = (),
) -> Iterator[Rows]:
    """Yield the rows of every part of the store's study, each part once.

    Args:
        store: The store.
        columns: Columns of SCHEMA; null if a part does not have them.
        skipped: Receives files that are torn or foreign, and parts of another study: name -> why.
        but: Files that are not read.
    """
    study = study_of(store)
    skipped = {} if skipped is None else skipped
    part_names: set[str] = set()
    file_names = set(but)
    has_vanished = True
    # merged by another process since the listing: list again, to find the file that has it
    while has_vanished:
        names = [name for name in _merged_first(store.list(FOLDER)) if name not in file_names]
        file_names.update(names)
        has_vanished = False
        for name, content in _read_ahead(store, lambda name: _read(store, name, columns), names):
            if content is None:
                has_vanished = True
            elif isinstance(content, NotAPart):
                skipped[name] = content.reason
            else:
                yield from _new_rows(name, content, part_names, study, skipped)


class _FileContent(NamedTuple):
    """The parts in a file of parts/, some of its columns, and the generation and left-out outputs of each
    row.

    The last two are None if no part has such rows.
    """

    parts: list[PartEntry]
    table: pa.Table
    generations: np.ndarray | None = None
    left_out: pa.ChunkedArray | None = None


def _read(store: Store, name: str, columns: Sequence[str]) -> _FileContent | NotAPart | None:
    """Read a file of parts/; None if it no longer exists."""
    try:
        with open_part_file(store, name) as file:
            content = _FileContent(list_parts(file, name), read_columns(file, columns))
            if any(part.has_generations for part in content.parts):
                numbers = numbers_or_zero(read_columns(file, ["generation"]), "generation")
                content = content._replace(generations=numbers)
            if any(part.has_left_out for part in content.parts):
                content = content._replace(left_out=read_columns(file, ["left_out"])["left_out"])
            return content
    except FileNotFoundError:
        return None
    except NotAPart as error:
        return error


def _new_rows(
    name: str,
    content: _FileContent,
    part_names: set[str],
    study: StudyIdentity | None,
    skipped: dict[str, str],
) -> Iterator[Rows]:
    """The rows of parts that belong to the study and are not in `part_names`, to which they are added."""
    parts, table, generations, left_out = content
    is_new = []
    for part in parts:
        refusal = study.refusal(part.mark) if study else ""
        if refusal:
            skipped[part_label(name, part.name)] = f"foreign: {refusal}"
        is_new.append(not refusal and part.name not in part_names)
        if not refusal:
            part_names.add(part.name)
    new_parts = tuple(part for part, is_fresh in zip(parts, is_new, strict=True) if is_fresh)
    if any(part.n_rows for part in new_parts):
        counts = [part.n_rows for part in parts]
        order = np.repeat(np.array([_order(part.name) for part in parts], np.uint64), counts)
        row_numbers = np.flatnonzero(np.repeat(is_new, counts))
        yield Rows(
            file=name,
            row_numbers=row_numbers,
            order=order[row_numbers],
            table=table if len(row_numbers) == len(table) else table.take(row_numbers),
            parts=new_parts,
            generations=None if generations is None else generations[row_numbers],
            left_out=None if left_out is None else left_out.take(pa.array(row_numbers)),
        )


def part_label(file: str, part: str) -> str:
    """Name a part in messages: by its file, and by its own name if that differs."""
    return file if file == f"{part}.parquet" else f"{file} (part {part})"


def _order(part: str) -> int:
    return int.from_bytes(blake2b(part.encode(), digest_size=8).digest(), "big")


def _merged_first(names: list[str]) -> list[str]:
    """Merged files first: if Dask ran a batch again after its part was merged, the first part counts."""
    return sorted(names, key=lambda name: not name.startswith(MERGED))


def _read_ahead(store: Store, read: Callable[[str], T], names: Sequence[str]) -> Iterator[tuple[str, T]]:
    """Yield each name with read(name), in order, reading a few at the same time."""
    at_once, in_a_row = (_READERS, _IN_A_ROW) if store.folder else (_REQUESTS, 1)
    rows = [[name] for name in names if name.startswith(MERGED)]
    small = [name for name in names if not name.startswith(MERGED)]
    rows += [small[start : start + in_a_row] for start in range(0, len(small), in_a_row)]

    def read_row(row: list[str]) -> list[tuple[str, T]]:
        return [(name, read(name)) for name in row]

    with ThreadPoolExecutor(at_once) as pool:
        futures: deque[Future[list[tuple[str, T]]]] = deque()
        for row in rows:
            futures.append(pool.submit(read_row, row))
            if len(futures) == at_once:
                yield from futures.popleft().result()
        while futures:
            yield from futures.popleft().result()


def find(store: Store, part: str) -> pa.Table | None:
    """Read all rows of one part, without their outputs; None if it does not exist."""
    columns = [name for name in SCHEMA.names if name != "outputs"]
    for name in _merged_first(store.list(FOLDER)):
        if name != f"{part}.parquet" and not name.startswith(MERGED):
            continue
        try:
            with open_part_file(store, name) as file:
                start = 0
                for entry in list_parts(file, name):
                    if entry.name == part:
                        return read_columns(file, columns).slice(start, entry.n_rows)
                    start += entry.n_rows
        except FileNotFoundError:
            return find(store, part)  # merged since it was listed
        except NotAPart:
            continue
    return None


def largest_oom_limit(
    store: Store, number: int, replicate: int, does_count: Callable[[Rows], np.ndarray] | None = None
) -> int:
    """Return the largest limit, in bytes, under which a task ran out of memory; 0 if none did.

    does_count() returns which rows to consider, bool (n,); by default all.
    """
    largest_bytes = 0
    for file_rows in scan(store, ["set", "replicate", "reason", "limit_bytes"]):
        task = (pc.field("set") == number) & (pc.field("replicate") == replicate)
        table = file_rows.table.filter(pa.array(does_count(file_rows))) if does_count else file_rows.table
        rows = table.filter(task & (pc.field("reason") == OUT_OF_MEMORY))
        largest_bytes = max([largest_bytes, *numbers_or_zero(rows, "limit_bytes").tolist()])
    return largest_bytes


def read_errors(
    store: Store,
    tasks: Collection[tuple[int, int]],
    does_count: Callable[[Rows], np.ndarray] | None = None,
) -> dict[tuple[int, int], str]:
    """Read the errors of tasks, (set, replicate), from one row of each task that did not end ok.

    Only row groups with such rows are read, because tracebacks are long and there may be millions.
    does_count() returns which rows to consider, bool (n,); by default all.
    """
    task_keys = np.array([number << 32 | replicate for number, replicate in tasks], np.int64)
    errors_by_task: dict[tuple[int, int], str] = {}
    for rows in scan(store, ["set", "replicate", "status"]):
        numbers, replicates = (rows.table[name].to_numpy().astype(np.int64) for name in ("set", "replicate"))
        ok = pc.equal(rows.table["status"], "ok").to_numpy(zero_copy_only=False)
        is_hit = np.isin(numbers << 32 | replicates, task_keys) & ~ok
        if does_count and is_hit.any():
            is_hit &= does_count(rows)
        hits = np.flatnonzero(is_hit)
        if len(hits):
            texts = _read_error_rows(store, rows.file, rows.row_numbers[hits].tolist())
            pairs = zip(numbers[hits].tolist(), replicates[hits].tolist(), strict=True)
            errors_by_task |= dict(zip(pairs, texts, strict=True))
        if len(errors_by_task) == len(tasks):
            break
    return errors_by_task


def _read_error_rows(store: Store, name: str, row_numbers: Sequence[int]) -> list[str]:
    """Read the column `error` of some rows of a file, in order; texts are empty if it was just merged."""
    texts, start = [], 0
    with suppress(FileNotFoundError), open_part_file(store, name) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if rows_in_group := [row - start for row in row_numbers if start <= row < stop]:
                column = read_columns(file, ["error"], group)["error"]
                texts += pc.fill_null(column.take(pa.array(rows_in_group)), "").to_pylist()
            start = stop
    return texts or [""] * len(row_numbers)
