"""The part of verify.py that reads the finished work: every row and every byte of parts/.

    parts/ + Tasks -> StoredAttempts: the state of each task, and Defects for a Report

A file does not count if any of it cannot be read. Each part counts once, wherever it is stored. Among the
rows of a task those of its highest generation count, unless a redo of a higher one names it: then none does.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modelops_dask.store.verify_neutral import NotCanonical, is_neutral, read_neutral
from modelops_dask.store.verify_redo import RESTORE, Redos
from modelops_dask.store.verify_tasks import Report, StoreReader, Tasks, line

ATTEMPTS = 4
STATUSES = ("ok", "failed", "died", "poisoned")
AFFECTED = (
    "direct",
    "isolated_fork",
    "isolated_warm",
)  # in 0.1 tasks could change others
OPTIONAL = (
    "executor",
    "engine",
    "generation",
    "reason",
    "error",
    "error_digest",
    "output_digests",
    "left_out",
)
TYPES = {  # prefixes of the names of the types
    "set": "uint32",
    "replicate": "uint32",
    "seed": "uint64",
    "status": "dictionary<values=string, indices=int8, ordered=0>",
    "digest": "fixed_size_binary[16]",
    "outputs": "map<string, large_binary",
}


@dataclass
class StoredAttempts:
    """The contents of parts. Arrays are (n_sets, replicates); `repeated`: two attempts failed alike; `place`
    is file, row group and row of an ok row.
    """

    attempts: np.ndarray
    poisoned: np.ndarray
    repeated: np.ndarray
    place: np.ndarray  # int32 (n_sets, replicates, 3); -1: no ok row
    # generation of the rows that the other fields describe; at first that of the last redo
    generation: np.ndarray
    n_redos: int = 0
    files: list[str] = field(default_factory=list)
    digests: dict[tuple[int, int], bytes] = field(default_factory=dict)  # digest of all that a task returned
    conflicts: set[tuple[int, int]] = field(default_factory=set)
    errors: set[tuple[int, int, int, int]] = field(default_factory=set)  # set, replicate, generation, digest

    def state(self, number: int, replicate: int) -> str:
        if self.place[number, replicate, 0] >= 0:
            return "ok"
        if self.poisoned[number, replicate]:
            return "poisoned"
        has_ended = self.attempts[number, replicate] >= ATTEMPTS or self.repeated[number, replicate]
        return "failed" if has_ended else "pending"


@dataclass
class Membership:
    """Which parts belong to the study. Without a uuid, in format 1, parts have no mark."""

    uuid: str = ""
    upgraded: bool = False  # created in format 1: parts without a mark count
    bundles: set[str] = field(default_factory=set)  # digests
    format: int = 1

    def problem(self, metadata: dict[str, str]) -> str:
        """Why a part with this metadata does not belong; "" if it does."""
        text = metadata.get("modelops_dask.part")
        if text is None:
            return "" if self.upgraded or not self.uuid else "does not name the study that it belongs to"
        try:
            part = json.loads(text)
            uuid, bundle = part["study"], part["bundle"]
        except (ValueError, KeyError, TypeError):
            return "has a damaged mark of the study it belongs to"
        if self.uuid and uuid != self.uuid:
            return "belongs to another study"
        return (
            "" if bundle in self.bundles else f"was made by bundle {bundle}, which the store has not accepted"
        )


def read_parts(
    reader: StoreReader, tasks: Tasks, membership: Membership, redos: Redos, report: Report
) -> StoredAttempts:
    """Read every row of parts/, each part once, and compute every digest again."""
    shape = (len(tasks.ids), tasks.replicates)
    ledger = StoredAttempts(
        attempts=np.zeros(shape, np.int32),
        poisoned=np.zeros(shape, bool),
        repeated=np.zeros(shape, bool),
        place=np.full((*shape, 3), -1, np.int32),
        generation=redos.least,
        n_redos=redos.count,
    )
    row_digests: dict[str, str] = {}  # part -> a digest of its rows
    for name in reader.names("parts"):
        if name.startswith("."):
            continue  # left by a process that was killed: it is never read
        path = f"parts/{name}"
        advice = "nothing reads it: move it out of the store"
        if not name.endswith(".parquet"):
            report.add("FOREIGN", path, f"is not a part; {advice}")
            continue
        try:
            file = reader.parquet(path)
            schema = file.schema_arrow
            types = dict(zip(schema.names, map(str, schema.types), strict=True))
            missing_columns = [
                column for column, kind in TYPES.items() if not types.get(column, "").startswith(kind)
            ]
            if missing_columns:
                report.add("FOREIGN", path, f"has no column {missing_columns[0]} of a part; {advice}")
                continue
            _read_part(file, name, row_digests, tasks, membership, ledger, report)
        except FileNotFoundError:
            report.add(
                "CHANGING", path, "disappeared during the check: verify again when the study is not running"
            )
        except (ValueError, OSError) as error:
            kind = f"is incomplete ({line(error)}): move it out of the store and run the study again"
            report.add("TORN", path, kind)
    for number, replicate in sorted(ledger.conflicts):
        message = "has two different results: the model depends on more than parameters and seed"
        report.add("CONFLICT", f"{number}/{replicate}", f"{message} (mops-helm study try shows one)")
    return ledger


def _read_part(
    file: pq.ParquetFile,
    name: str,
    row_digests: dict[str, str],
    tasks: Tasks,
    membership: Membership,
    ledger: StoredAttempts,
    report: Report,
) -> None:
    spans = _spans(file, name)
    if spans is None:
        report.add("MERGED", f"parts/{name}", "lists rows that it does not have: restore it from a copy")
        return
    parts = [part for part, count, _ in spans for _ in range(count)]
    rows_by_part: dict[str, list[tuple[object, ...]]] = {part: [] for part in parts}
    problems = {part: problem for part, _, metadata in spans if (problem := membership.problem(metadata))}
    for (_, _, row), part in zip(_rows(file), parts, strict=True):
        rows_by_part[part].append((row["set"], row["replicate"], row["status"], row["digest"]))
        if part not in problems and (problem := _wrong_seed(row, tasks)):
            problems[part] = problem
    for part, problem in problems.items():
        part_clause = "" if f"{part}.parquet" == name else f", in its part {part},"
        report.add("FOREIGN", f"parts/{name}", f"{part_clause} {problem}; its rows do not count".lstrip(", "))
    ledger.files.append(name)  # all of it could be read: a damaged one does not count
    # Merged, but the original file still exists.
    repeated_parts = row_digests.keys() & rows_by_part.keys()
    for part in sorted(repeated_parts):
        if row_digests[part] != _digest(rows_by_part[part]):
            report.add("MERGED", f"parts/{name}", f"has rows of part {part} that differ from another file's")
    new_parts = rows_by_part.keys() - repeated_parts - problems.keys()
    row_digests.update((part, _digest(rows_by_part[part])) for part in new_parts)
    for (group, row_number, row), part in zip(_rows(file), parts, strict=True):
        if part in new_parts:
            _count_row(
                row, (len(ledger.files) - 1, group, row_number), f"parts/{name}", tasks, ledger, report
            )


def _spans(file: pq.ParquetFile, name: str) -> list[tuple[str, int, dict[str, str]]] | None:
    """The parts in a file: name, number of rows, metadata. None if the list does not match the rows."""
    raw = {key.decode("utf-8", "replace"): value for key, value in (file.metadata.metadata or {}).items()}
    metadata = {key: value.decode("utf-8", "replace") for key, value in raw.items()}
    try:
        if "modelops_dask.parts" not in metadata:
            return [(name.removesuffix(".parquet"), file.metadata.num_rows, metadata)]
        part_list = json.loads(metadata["modelops_dask.parts"])
        description = json.loads(metadata.get("modelops_dask.parts_metadata", "null"))
        metadata_list = (
            [description["distinct"][number] for number in description["of"]]
            if description
            else [{}] * len(part_list)
        )
        spans = [
            (str(part), int(count), part_metadata)
            for (part, count), part_metadata in zip(part_list, metadata_list, strict=True)
        ]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return spans if sum(count for _, count, _ in spans) == file.metadata.num_rows else None


def _wrong_seed(row: dict[str, Any], tasks: Tasks) -> str:
    """The problem with the seed of a row; "" if it is the task's own, or the task does not exist."""
    number, replicate = row["set"], row["replicate"]
    if not tasks.exists(number, replicate) or row["seed"] == tasks.seed(number, replicate):
        return ""
    return f"ran task {number}/{replicate} with seed {row['seed']}, which is not the task's seed"


def _rows(file: pq.ParquetFile) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Row group, row in it, and columns, of every row."""
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)  # every column, because any may be damaged
        outputs = table["outputs"]
        names = [name for name in (*TYPES, *OPTIONAL) if name in table.column_names]
        for row_number, row in enumerate(
            table.select([name for name in names if name != "outputs"]).to_pylist()
        ):
            yield group, row_number, row | {"outputs": outputs[row_number].as_py()}


def _digest(rows: list[tuple[object, ...]]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _count_row(
    row: dict[str, Any],
    place: tuple[int, int, int],
    path: str,
    tasks: Tasks,
    ledger: StoredAttempts,
    report: Report,
) -> None:
    number, replicate, status = row["set"], row["replicate"], row["status"]
    task = f"{number}/{replicate}"
    advice = "move that file out of the store and run the study again"
    report.rows += 1
    if not tasks.exists(number, replicate):
        report.add("ORPHAN", path, f"has a row of task {task}, which no request includes: {advice}")
        return
    if status not in STATUSES:
        report.add("STATUS", path, f"gives task {task} the status {status!r}: {advice}")
        return
    outputs = dict(row["outputs"] or [])
    if status == "ok" and not _has_own_digests(row, outputs):
        report.add("DIGEST", path, f"has outputs of task {task} that do not match its digest: {advice}")
    if status == "ok":
        _check_tables(row["outputs"] or [], task, path, report)
    error = row.get("error_digest")
    if error is not None and error != failure_digest(row.get("reason") or "", row.get("error") or ""):
        report.add("DIGEST", path, f"has an error of task {task} that does not match its digest: {advice}")
    if not tasks.is_requested(number, replicate):
        return  # from an earlier, larger request
    generation = row.get("generation") or 0
    if generation > ledger.n_redos:
        name = f"redo/{generation:06}.json"
        report.add("REDO", path, f"has rows of generation {generation}, but {name} is missing: {RESTORE}")
        return
    if generation < ledger.generation[number, replicate]:
        return  # results that were replaced
    if generation > ledger.generation[number, replicate]:
        _forget(ledger, number, replicate, generation)
    if status == "ok":
        returned = _digest_of_all(outputs, dict(row.get("left_out") or []), tasks.volatile)
        if ledger.digests.setdefault((number, replicate), returned) != returned:
            ledger.conflicts.add((number, replicate))
        if any(map(tasks.stores, dict(row.get("left_out") or []))):
            return  # it left out a requested output, and does not count
    ledger.attempts[number, replicate] += 1
    ledger.poisoned[number, replicate] |= status == "poisoned"
    if status != "ok":
        if error is not None:
            failure = (number, replicate, generation, error)
            ledger.repeated[number, replicate] |= failure in ledger.errors
            ledger.errors.add(failure)
        return
    if row.get("engine") is None and row.get("executor") in AFFECTED:
        report.affected[row["executor"]] += 1
    if ledger.place[number, replicate, 0] < 0:
        ledger.place[number, replicate] = place


def _check_tables(outputs: list[tuple[str, bytes]], task: str, path: str, report: Report) -> None:
    """Check that tables in the neutral form are canonical: equal ones must have equal digests."""
    for name, data in outputs:
        if not is_neutral(data):
            continue
        try:
            read_neutral(data)
        except NotCanonical as problem:
            text = f"has a table as output {name} of task {task} that is not in the neutral form: {problem}"
            report.add("TABLE", path, text)


def _forget(ledger: StoredAttempts, number: int, replicate: int, generation: int) -> None:
    """Start a task again with rows of a higher generation."""
    task = number, replicate
    ledger.generation[task] = generation
    ledger.attempts[task], ledger.poisoned[task], ledger.repeated[task] = 0, False, False
    ledger.place[task] = -1
    ledger.digests.pop(task, None)
    ledger.conflicts.discard(task)


def _has_own_digests(row: dict[str, Any], outputs: dict[str, bytes]) -> bool:
    """Whether the digests in an ok row, of all outputs and of each, match its outputs."""
    each = row.get("output_digests")
    return row["digest"] == outputs_digest(outputs) and (
        each is None or dict(each) == {name: outputs_digest({name: data}) for name, data in outputs.items()}
    )


def _digest_of_all(outputs: dict[str, bytes], left_out: dict[str, bytes], volatile: Collection[str]) -> bytes:
    """A digest of all that a task returned, without volatile outputs and with those that are not stored."""
    digests = {outputs_digest({name: data}) for name, data in outputs.items() if name not in volatile}
    digests |= {digest for name, digest in left_out.items() if name not in volatile}
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).digest()


def failure_digest(reason: str, error: str) -> int:
    """64 bits of BLAKE2b over REASON, a line feed and ERROR, big-endian."""
    text = (reason + "\n" + error).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def outputs_digest(outputs: dict[str, bytes]) -> bytes:
    """16 bytes of BLAKE2b over LENGTH:NAME LENGTH:DATA, names in order."""
    pieces = []
    for name in sorted(outputs):
        text = name.encode()
        pieces.append(str(len(text)).encode() + b":" + text + str(len(outputs[name])).encode() + b":")
        pieces.append(outputs[name])
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()
