"""The part of verify.py that reads the tasks: sets/ and spec.json, with ids and seeds derived again.

study.json, spec.json, sets/ -> Tasks, and Defects for a Report
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Request = tuple[int, tuple[tuple[int, int], ...]]  # replicates, and half-open ranges of set numbers
SHOWN = 20  # findings of a code that are listed individually


@dataclass(frozen=True)
class Defect:
    """One problem: a stable code, a file or task, and a description with advice."""

    code: str
    location: str
    message: str

    def as_json(self) -> dict[str, str]:
        """The defect as commands print it; its keys are an interface."""
        return {"code": self.code, "where": self.location, "message": self.message}


def show_names(names: Iterable[str]) -> str:
    """Names of outputs for a message: the model chooses them, and they may have control characters."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names)


@dataclass
class Report:
    """What was checked, and the problems."""

    store: str
    bundle: str = ""
    entrypoint: str = ""
    tasks: dict[str, int] = field(default_factory=dict)  # by state
    rows: int = 0  # parts whose digests were computed again
    rerun: int = 0  # number of tasks that ran again
    not_comparable: list[tuple[str, str]] = field(default_factory=list)  # those not comparable: task, and why
    changed: Counter[str] = field(default_factory=Counter)  # executor -> tasks whose results others change
    equal_alone: bool = False  # whether replicates of such a task are equal if each runs alone
    # whether results/ belongs to these tasks, and was checked; otherwise it belongs to another request
    tables: bool = True
    findings: list[Defect] = field(default_factory=list)
    warning: str = ""  # on replicates that are equal in the whole study, or contradict the study file
    notes: list[str] = field(default_factory=list)  # not wrong, but worth knowing
    # For outputs: the sets in which all seeds, three or more, have given the same.
    equal_replicates: dict[str, list[int]] = field(default_factory=dict)
    affected: Counter[str] = field(default_factory=Counter)  # executor -> ok rows of mops-helm 0.1
    _counted: Counter[str] = field(default_factory=Counter)

    def add(self, code: str, location: str, message: str) -> None:
        self._counted[code] += 1
        if self._counted[code] <= SHOWN:
            self.findings.append(Defect(code, location, message))
        elif self._counted[code] == SHOWN + 1:
            self.findings.append(Defect(code, "", f"and more findings of kind {code}"))


class StoreReader:
    """The files of a store, to be read."""

    def __init__(self, url: str) -> None:
        self.filesystem, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)

    def names(self, folder: str) -> list[str]:
        try:
            entries = self.filesystem.ls(f"{self.root}/{folder}", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in (entry.rstrip("/").rpartition("/")[2] for entry in entries) if name)

    def is_folder(self, name: str) -> bool:
        return self.filesystem.isdir(f"{self.root}/{name}")

    def read(self, name: str) -> bytes:
        return self.filesystem.cat_file(f"{self.root}/{name}")

    def parquet(self, name: str) -> pq.ParquetFile:
        """A file, completely in memory. Raises ValueError or OSError if it is incomplete."""
        return pq.ParquetFile(pa.BufferReader(self.read(name)), page_checksum_verification=True)


@dataclass
class Tasks:
    """The tasks to run. `seeds` has None for a set whose seeds are derived."""

    params: list[str]
    ids: list[str]
    seeds: list[int | None]
    in_request: np.ndarray  # bool (n_sets,): requested by the last request
    replicates: int
    deterministic: bool = False  # as the study file declares its model
    volatile: frozenset[str] = frozenset()  # outputs that are never compared
    outputs: frozenset[str] = frozenset()  # outputs that the study stores; empty: all

    def stores(self, output: str) -> bool:
        """Whether the study stores an output of this name."""
        return not self.outputs or output in self.outputs

    def exists(self, number: int, replicate: int) -> bool:
        """Whether any request can include the task."""
        return number < len(self.ids) and (replicate == 0 or self.seeds[number] is None)

    def is_requested(self, number: int, replicate: int) -> bool:
        return bool(self.in_request[number]) and replicate < self.replicates

    def seed(self, number: int, replicate: int) -> int:
        set_seed = self.seeds[number]
        if set_seed is not None:
            return set_seed
        digest = hashlib.blake2b(f"{self.ids[number]}:{replicate}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % 2**32

    def all(self) -> Iterator[tuple[int, int]]:
        for number in np.flatnonzero(self.in_request).tolist():
            count = self.replicates if self.seeds[number] is None else 1
            yield from ((number, replicate) for replicate in range(count))


def read_tasks(reader: StoreReader, report: Report, request: Request | None = None) -> Tasks | None:
    """Read sets/ and spec.json; None if they cannot be read. `request` replaces the last one."""
    tasks = Tasks(params=[], ids=[], seeds=[], in_request=np.empty(0, bool), replicates=0)
    keys: dict[tuple[str, int | None], int] = {}
    names = [name for name in reader.names("sets") if not name.startswith(".")]
    for count, name in enumerate(names):
        path = f"sets/{name}"
        if name != f"{count:06}.parquet":
            report.add("SETS", path, f"is in place of sets/{count:06}.parquet: restore that file from a copy")
            return None
        try:
            rows = reader.parquet(path).read(columns=["set", "param_id", "params", "seed"]).to_pylist()
        except (ValueError, OSError, KeyError) as error:
            report.add("SETS", path, f"is damaged ({line(error)}): restore it from a copy")
            return None
        for row in rows:
            number = len(tasks.ids)
            _check_set(row, number, keys, path, report)
            tasks.params.append(row["params"])
            tasks.ids.append(row["param_id"])
            tasks.seeds.append(row["seed"])
    try:
        last = _last_request(reader, len(tasks.ids))
        source = json.loads(reader.read("spec.json")).get("spec") or {}
        tasks.deterministic = source.get("deterministic") is True
        tasks.volatile = frozenset(map(str, source.get("volatile") or ()))
        stored_outputs = source.get("outputs")  # a mapping declares the files of a program
        tasks.outputs = frozenset(map(str, stored_outputs if isinstance(stored_outputs, list) else ()))
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
        report.add("SPEC", "spec.json", f"is damaged ({line(error)}): run the study again, which writes it")
        return None
    report.tables = request in (None, last)
    tasks.replicates, ranges = request or last
    tasks.in_request = np.zeros(len(tasks.ids), bool)
    for start, stop in ranges:
        tasks.in_request[start:stop] = True
    return tasks


def _last_request(reader: StoreReader, n_sets: int) -> Request:
    spec = json.loads(reader.read("spec.json"))
    replicates = int(spec["replicates"])
    ranges = tuple((int(start), int(stop)) for start, stop in spec["sets"])
    flat = [bound for pair in ranges for bound in pair]
    if replicates < 1 or flat != sorted(flat) or n_sets < max(flat, default=0):
        raise ValueError(f"asks for sets {ranges} of {n_sets}, {replicates} replicates")
    return replicates, ranges


def _check_set(
    row: dict[str, Any], number: int, keys: dict[tuple[str, int | None], int], path: str, report: Report
) -> None:
    params = json.loads(row["params"])
    text = json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.blake2b(f"contracts:param:v1|{text}".encode(), digest_size=32).hexdigest()
    restore = "restore it from a copy"
    if row["set"] != number:
        report.add("SETS", path, f"gives number {row['set']} to set {number}: {restore}")
    if text != row["params"] or digest != row["param_id"]:
        report.add("PARAM_ID", path, f"the param_id of set {number} does not match its parameters: {restore}")
    if (first := keys.setdefault((text, row["seed"]), number)) != number:
        report.add("SETS", path, f"set {number} repeats set {first}: {restore}")


def line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
