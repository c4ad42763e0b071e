"""The tasks of a study: study.json, spec.json and sets/.

spec -> begin() -> the store -> read_plan() -> the same Plan, here or on a worker

    study.json           the identity of the results: identity.py
    spec.json            the last request: the spec as written, its replicates, and its sets
    sets/NNNNNN.parquet  parameter sets, numbered through the files in order; append-only, put-if-absent

A set is identified by its parameters and its seed and keeps its number, so more sets or more replicates only
add tasks. Tasks that a later request leaves out stay in the store, are not run and are not in the results.
Two runs that add sets at the same time both end with correct results: one creates the next file, the other
reads it and adds the sets that are still missing.

Finished work is not known here: parts.py and fold.py know it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelops_dask.errors import BadInput
from modelops_dask.plan.duration import parse_duration
from modelops_dask.plan.plan import SETS_SCHEMA, Plan, Request, keys
from modelops_dask.plan.program import describe_difference
from modelops_dask.plan.spec import Spec
from modelops_dask.store.files import NoSpace, Store, StoreFailed
from modelops_dask.store.identity import (
    FORMAT,
    Damaged,
    StudyIdentity,
    encode_json,
    new_study,
    read_json,
    read_study,
    study_json,
    upgrade,
)

SETS = "sets"
_ROWS = 65_536  # converted at a time, so that a million ids are not Python objects at the same time


class OtherStudy(BadInput):
    """The store belongs to another bundle or entrypoint.

    `changes` are the changed files, if known; `advice` says what the user can do about them.
    """

    def __init__(self, location: str, kind: str, stored_value: str, requested_value: str) -> None:
        self.location, self.kind = location, kind  # bundle, entrypoint or command
        self.stored_value, self.requested_value = stored_value, requested_value
        self.changes: list[str] = []
        self.advice = ""
        super().__init__(location, kind, stored_value, requested_value)

    def __str__(self) -> str:
        text = (
            f"{self.location} holds results of another {self.kind}: {self.stored_value}, "
            f"and this is {self.requested_value}. "
            f"Results of the two must not mix. To keep both, run this one with --store ANOTHER_FOLDER. "
            f"To start over, remove {self.location} first."
        )
        if self.changes:
            remainder = f" and {len(self.changes) - 10:,} more" if len(self.changes) > 10 else ""
            text += f"\nSince then: {', '.join(self.changes[:10])}{remainder}."
        return f"{text} {self.advice}".rstrip()


def begin(
    store: Store,
    spec: Spec,
    bundle_digest: str,
    note: Callable[[str], None] = lambda _: None,
    *,
    digest_rule: int = 1,
) -> Plan:
    """Add the tasks of a spec to the store, and return the plan.

    Creates study.json, appends new sets, replaces spec.json; the same spec again changes nothing. A store of
    mops-helm 0.1 gets the present format, which `note` receives a line about. `digest_rule` is the rule of
    the digest.

    Raises:
        OtherStudy: The store belongs to another bundle or entrypoint.
        BadInput: The folder cannot be a store, or its format is of a later version.
        NotExclusive: The object store replaces files although requests forbid it.
    """
    store.require_exclusive()
    study = new_study(bundle_digest, spec.entrypoint, spec.program, digest_rule=digest_rule)
    try:
        created = store.create("study.json", study_json(study))
    except StoreFailed as error:
        if store.folder is None or isinstance(error, NoSpace):
            raise
        raise BadInput(
            f"{store.location()} cannot be a store: {error.reason}. Name another with --store."
        ) from None
    if not created:
        study = check_same(store, bundle_digest, spec)
        if study.format < FORMAT:
            study = upgrade(store, study)
            note(
                f"{store.location()} was created by mops-helm 0.1. It now has format {FORMAT}, "
                "which mops-helm 0.1 refuses to read; nothing else in it has changed"
            )
    table, numbers = _add_sets(store, spec.table)
    request = spec.request(ranges(numbers.to_numpy()))
    spec_json = encode_json({"spec": spec.source, "replicates": request.replicates, "sets": request.sets})
    try:
        changed = store.read("spec.json") != spec_json
    except FileNotFoundError:
        changed = True
    if changed:
        store.put("spec.json", spec_json)
    return Plan(spec.entrypoint, table, request)


def check_same(store: Store, bundle_digest: str, spec: Spec) -> StudyIdentity:
    """Read the study of a store. Raises OtherStudy if it belongs to another bundle or entrypoint, and
    NoStudy.
    """
    study = read_study(store)
    if bundle_digest not in study.bundles:
        raise OtherStudy(store.location(), "bundle", study.bundle, bundle_digest)
    if spec.program != study.program:
        raise OtherStudy(store.location(), "command", *describe_difference(study.program, spec.program))
    if spec.entrypoint != study.entrypoint:
        raise OtherStudy(store.location(), "entrypoint", study.entrypoint, spec.entrypoint)
    return study


def read_plan(store: Store, request: Request | None = None) -> Plan:
    """Read the plan of a store. Raises NoStudy.

    The last request decides or, for a worker, of the one that its driver uses (`plan.request`), so that
    a concurrent run that extends the study does not affect it.
    """
    study = read_study(store)
    request = request or last_request(store)
    table = read_sets(store)
    if request.sets and request.sets[-1][1] > table.num_rows:
        raise Damaged(
            store.location(SETS), f"{request.sets[-1][1]} sets were requested, {table.num_rows} exist"
        )
    return Plan(study.entrypoint, table, request)


def last_request(store: Store) -> Request:
    """Read the request of the last run; spec.json does not store `resources` separately. Raises Damaged."""
    raw: Any = read_json(store, "spec.json")
    try:
        sets = tuple((int(start), int(stop)) for start, stop in raw["sets"])
        source = raw.get("spec", {})
        return Request(
            replicates=int(raw["replicates"]),
            sets=sets,
            deterministic=source.get("deterministic") is True,
            volatile=tuple(map(str, source.get("volatile", ()))),
            outputs=_stored_outputs(source),
            timeout_seconds=parse_duration(source["timeout"]) if source.get("timeout") is not None else 0,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(store.location("spec.json"), str(error)) from error


def _stored_outputs(source: dict[str, Any]) -> tuple[str, ...]:
    """The outputs that a study file stores, () for all; a mapping declares the files of a program."""
    outputs = source.get("outputs")
    return tuple(dict.fromkeys(map(str, outputs))) if isinstance(outputs, list) else ()


def read_sets(store: Store) -> pa.Table:
    """Read all parameter sets of a store: columns of SETS_SCHEMA, row number = set number."""
    return _read_sets(store, store.list(SETS))


def _read_sets(store: Store, names: list[str]) -> pa.Table:
    tables, n_sets = [SETS_SCHEMA.empty_table()], 0
    for count, name in enumerate(names):
        if name != _set_file(count):
            raise Damaged(store.location(SETS), f"{name} in place of {_set_file(count)}")
        try:
            with store.open(f"{SETS}/{name}") as file:
                table = pq.read_table(file, columns=["set", *SETS_SCHEMA.names], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(store.location(f"{SETS}/{name}"), str(error).partition("\n")[0]) from error
        if not np.array_equal(table["set"].to_numpy(), np.arange(n_sets, n_sets + table.num_rows)):
            raise Damaged(store.location(f"{SETS}/{name}"), f"its sets do not begin at {n_sets}")
        n_sets += table.num_rows
        tables.append(_from_file(table))
    return pa.concat_tables(tables)


def _add_sets(store: Store, spec_sets: pa.Table) -> tuple[pa.Table, pa.Array]:
    """Add the sets that the store lacks, and return all of its sets and the numbers of `spec_sets`."""
    spec_keys = keys(spec_sets)
    while True:
        names = store.list(SETS)
        table = _read_sets(store, names)
        numbers = pc.index_in(spec_keys, value_set=keys(table))
        if not numbers.null_count:
            return table, numbers
        new_sets = spec_sets.filter(numbers.is_null())
        name = _set_file(len(names))
        store.create(
            f"{SETS}/{name}", _to_file(new_sets, table.num_rows)
        )  # lost to another run: read its sets first


def _set_file(number: int) -> str:
    return f"{number:06}.parquet"


def _to_file(table: pa.Table, first: int) -> bytes:
    """The bytes of a sets file; param_id as the hex text that people search for."""
    numbers = pa.array(np.arange(first, first + table.num_rows, dtype=np.uint32))
    chunks = [[digest.hex() for digest in chunk.to_pylist()] for chunk in table["param_id"].chunks]
    ids = pa.chunked_array(chunks, pa.string())
    sets_table = pa.table({"set": numbers, "param_id": ids, "params": table["params"], "seed": table["seed"]})
    sink = pa.BufferOutputStream()
    pq.write_table(
        sets_table,
        sink,
        compression="zstd",
        use_dictionary=False,
        row_group_size=_ROWS,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _from_file(table: pa.Table) -> pa.Table:
    batches = []
    for batch in table.to_batches(max_chunksize=_ROWS):
        ids = [bytes.fromhex(text) for text in batch["param_id"].to_pylist()]
        columns = [pa.array(ids, pa.binary(32)), batch["params"], batch["seed"]]
        batches.append(pa.record_batch(columns, schema=SETS_SCHEMA))
    return pa.Table.from_batches(batches, SETS_SCHEMA)


def ranges(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Half-open ranges that cover the numbers."""
    values = np.unique(numbers)
    if not len(values):
        return ()
    breaks = np.flatnonzero(np.diff(values) != 1)
    starts, stops = values[np.r_[0, breaks + 1]], values[np.r_[breaks, len(values) - 1]] + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))
