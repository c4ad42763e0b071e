"""What there is to do in a study: study.json, spec.json and sets/.

spec -> begin() -> the store -> existing() -> the same Plan, here or on a worker

    study.json           bundle digest, entrypoint, format; never changes; put-if-absent
    spec.json            the last request: the spec as written, its replicates, and which sets it asks for
    sets/NNNNNN.parquet  parameter sets, numbered through the files in order; append-only, put-if-absent

A set is known by its parameters and its seed and keeps its number for ever, so more sets or more replicates
only add tasks. What a later request leaves out stays in the store, is not run and is not in the results. Two
runs that add sets at once both end correct: one creates the next file, the other reads it and adds what is
still missing.

Does not know what was done: parts.py and fold.py do.
"""

import json
import shlex
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.store.files import Files, NoSpace, StoreFailed
from modelops_dask.study.plan import SETS_SCHEMA, Plan, Request, keys
from modelops_dask.study.spec import Spec

FORMAT = 1
SETS = "sets"
_ROWS = 65_536  # converted at a time, so that a million ids are not Python objects at once


class NoStudy(BadInput):
    """There is no study where one was expected."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(where)

    def __str__(self) -> str:
        return (
            f"{self.where} holds no study (no study.json). "
            f"To run one there: mops-helm study run SPEC --store {shlex.quote(self.where)}"
        )


class OtherStudy(BadInput):
    """The store belongs to another bundle or entrypoint. `changes` are those of its files, if known."""

    def __init__(self, where: str, what: str, kept: str, asked: str) -> None:
        self.where, self.what, self.kept, self.asked = where, what, kept, asked
        self.changes: list[str] = []
        super().__init__(where, what, kept, asked)

    def __str__(self) -> str:
        text = (
            f"{self.where} holds results of another {self.what}: {self.kept}, and this is {self.asked}. "
            f"Results of the two must not mix. Keep both: run this one with --store ANOTHER_FOLDER. "
            f"Start over: remove {self.where} first."
        )
        if self.changes:
            more = f" and {len(self.changes) - 10:,} more" if len(self.changes) > 10 else ""
            text += f"\nSince then: {', '.join(self.changes[:10])}{more}. "
            text += "What the model does not read can be named in .modelopsignore, and then does not count."
        return text


class Damaged(MopsError):
    """A file of the store that must be whole is not."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(where, reason)

    def __str__(self) -> str:
        return f"{self.where} is damaged ({self.reason}); restore it from a copy, or run into another --store"


@dataclass(frozen=True)
class Study:
    """study.json: what all results of a store have in common."""

    bundle: str  # digest
    entrypoint: str
    format: int = FORMAT


def read_study(files: Files) -> Study:
    """study.json of a store; NoStudy, Damaged, or BadInput for a format of a later version."""
    raw = _read_json(files, "study.json")
    try:
        study = Study(raw["bundle"], raw["entrypoint"], raw["format"])
    except (KeyError, TypeError) as error:
        raise Damaged(files.where("study.json"), f"no {error}") from error
    if study.format != FORMAT:
        raise BadInput(
            f"{files.where()} has format {study.format}, this version reads {FORMAT}: use a newer mops-helm"
        )
    return study


def begin(files: Files, spec: Spec, bundle_digest: str) -> Plan:
    """Make the store hold what the spec asks for, and return the plan.

    Creates study.json, appends sets that are new, replaces spec.json; the same spec again changes nothing.
    OtherStudy when the store belongs to another bundle or entrypoint, BadInput for a folder that cannot be.
    """
    mine = Study(bundle_digest, spec.entrypoint)
    try:
        new = files.create("study.json", _json(mine.__dict__))
    except StoreFailed as error:
        if files.folder is None or isinstance(error, NoSpace):
            raise
        raise BadInput(
            f"{files.where()} cannot be a store: {error.reason}. Name another by --store."
        ) from None
    if not new:
        check_same(files, mine)
    table, numbers = _add_sets(files, spec.table)
    request = Request(spec.replicates, _ranges(numbers), tuple(sorted(spec.resources.items())))
    wanted = _json({"spec": spec.source, "replicates": request.replicates, "sets": request.sets})
    try:
        changed = files.read("spec.json") != wanted
    except FileNotFoundError:
        changed = True
    if changed:
        files.put("spec.json", wanted)
    return Plan(spec.entrypoint, table, request)


def check_same(files: Files, mine: Study) -> None:
    """OtherStudy when the store belongs to another bundle or entrypoint; NoStudy."""
    theirs = read_study(files)
    for what in ("bundle", "entrypoint"):
        if getattr(theirs, what) != getattr(mine, what):
            raise OtherStudy(files.where(), what, getattr(theirs, what), getattr(mine, what))


def existing(files: Files, request: Request | None = None) -> Plan:
    """The plan of a store; NoStudy.

    Of the last request, or, for a worker, of the one that its driver goes by (`plan.request`), so that a run
    that extends the study meanwhile changes nothing for it.
    """
    study = read_study(files)
    if request is None:
        raw = _read_json(files, "spec.json")
        try:
            request = Request(int(raw["replicates"]), tuple((int(a), int(b)) for a, b in raw["sets"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(files.where("spec.json"), str(error)) from error
    table = read_sets(files)
    if request.sets and request.sets[-1][1] > table.num_rows:
        raise Damaged(
            files.where(SETS), f"{request.sets[-1][1]} sets were asked for, {table.num_rows} are there"
        )
    return Plan(study.entrypoint, table, request)


def read_sets(files: Files) -> pa.Table:
    """All parameter sets of a store: columns of SETS_SCHEMA, row number = set number."""
    return _read_sets(files, files.list(SETS))


def _read_sets(files: Files, names: list[str]) -> pa.Table:
    tables, known = [SETS_SCHEMA.empty_table()], 0
    for count, name in enumerate(names):
        if name != _set_file(count):
            raise Damaged(files.where(SETS), f"{name} where {_set_file(count)} should be")
        try:
            with files.open(f"{SETS}/{name}") as file:
                table = pq.read_table(file, columns=["set", *SETS_SCHEMA.names], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(files.where(f"{SETS}/{name}"), str(error).partition("\n")[0]) from error
        if not np.array_equal(table["set"].to_numpy(), np.arange(known, known + table.num_rows)):
            raise Damaged(files.where(f"{SETS}/{name}"), f"its sets are not those from {known} on")
        known += table.num_rows
        tables.append(_from_file(table))
    return pa.concat_tables(tables)


def _add_sets(files: Files, wanted: pa.Table) -> tuple[pa.Table, pa.Array]:
    """All sets of the store, the wanted ones among them, and the numbers of those."""
    wanted_keys = keys(wanted)
    while True:
        names = files.list(SETS)
        table = _read_sets(files, names)
        numbers = pc.index_in(wanted_keys, value_set=keys(table))
        if not numbers.null_count:
            return table, numbers
        new = wanted.filter(numbers.is_null())
        name = _set_file(len(names))
        files.create(
            f"{SETS}/{name}", _to_file(new, table.num_rows)
        )  # lost to another run: read its sets first


def _set_file(number: int) -> str:
    return f"{number:06}.parquet"


def _to_file(table: pa.Table, first: int) -> bytes:
    """The bytes of a sets file; param_id as the hex text that people look for."""
    numbers = pa.array(np.arange(first, first + table.num_rows, dtype=np.uint32))
    chunks = [[digest.hex() for digest in chunk.to_pylist()] for chunk in table["param_id"].chunks]
    ids = pa.chunked_array(chunks, pa.string())
    named = pa.table({"set": numbers, "param_id": ids, "params": table["params"], "seed": table["seed"]})
    sink = pa.BufferOutputStream()
    pq.write_table(
        named, sink, compression="zstd", use_dictionary=False, row_group_size=_ROWS, write_page_checksum=True
    )
    return sink.getvalue().to_pybytes()


def _from_file(table: pa.Table) -> pa.Table:
    batches = []
    for batch in table.to_batches(max_chunksize=_ROWS):
        ids = [bytes.fromhex(text) for text in batch["param_id"].to_pylist()]
        columns = [pa.array(ids, pa.binary(32)), batch["params"], batch["seed"]]
        batches.append(pa.record_batch(columns, schema=SETS_SCHEMA))
    return pa.Table.from_batches(batches, SETS_SCHEMA)


def _ranges(numbers: pa.Array) -> tuple[tuple[int, int], ...]:
    """Half-open ranges that cover the numbers."""
    values = np.unique(numbers.to_numpy())
    if not len(values):
        return ()
    breaks = np.flatnonzero(np.diff(values) != 1)
    starts, stops = values[np.r_[0, breaks + 1]], values[np.r_[breaks, len(values) - 1]] + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _read_json(files: Files, name: str) -> dict:
    try:
        data = files.read(name)
    except FileNotFoundError:
        if name == "study.json":
            raise NoStudy(files.where()) from None
        raise Damaged(files.where(name), "it is missing") from None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Damaged(files.where(name), str(error)) from error
    if not isinstance(value, dict):
        raise Damaged(files.where(name), "not an object")
    return value
