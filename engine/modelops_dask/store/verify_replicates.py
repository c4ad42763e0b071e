"""The part of verify.py that compares replicates: if all seeds give the same, randomness does not come from
them.

Tasks + StoredAttempts -> for each output, the sets in which it varies and those in which it does not -> notes

Digests show equal outputs. If they differ, contents are read until an output is known to vary by more than
its task's own seed and replicate, as a column or in JSON.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store.verify_neutral import NotCanonical, is_neutral, read_neutral
from modelops_dask.store.verify_parts import StoredAttempts
from modelops_dask.store.verify_tasks import Report, StoreReader, Tasks, show_names

MANY_SETS, SOME_SEEDS, MANY_SEEDS = (
    3,
    3,
    10,
)  # three sets of three seeds, or ten seeds in one: see docs/checks.md


@dataclass(frozen=True)
class _Row:
    """The row of an ok task without its outputs, and its location."""

    seed: int
    replicate: int
    digest: bytes
    output_digests: dict[str, bytes] | None
    left_out: dict[str, bytes]  # digests of the other outputs that it returned
    place: tuple[int, int, int]  # file, row group, row


@dataclass
class _Sets:
    """For an output: seeds of each compared set, and the sets in which it varies."""

    seeds: dict[int, int] = field(default_factory=dict)
    varying: set[int] = field(default_factory=set)


def compare_replicates(reader: StoreReader, tasks: Tasks, ledger: StoredAttempts, report: Report) -> None:
    """Note in the report which outputs are equal for all seeds of a set, and warn if that is all of them.

    A study that is declared deterministic causes a warning if it is not.
    """
    comparison = _Comparison(reader, ledger, tasks)
    sets_by_output = comparison.compare(tasks)
    constant = {
        name: {number: seeds for number, seeds in sets.seeds.items() if number not in sets.varying}
        for name, sets in sets_by_output.items()
    }
    varying = [name for name, sets in sets_by_output.items() if sets.varying]
    if tasks.deterministic:
        if varying:
            report.warning = (
                "Warning: the study file states deterministic: true, but replicates differ in "
                f"{show_names(varying)}. Remove that line, or list outputs such as time stamps under "
                "`volatile`."
            )
        return
    report.equal_replicates = {
        name: sorted(n for n, seeds in sets.items() if seeds >= SOME_SEEDS) for name, sets in constant.items()
    }
    if not varying and comparison.others_vary:
        return
    if not varying:
        counts: dict[int, int] = defaultdict(int)
        for sets in constant.values():
            for number, seeds in sets.items():
                counts[number] = max(counts[number], seeds)
        many = sum(seeds >= SOME_SEEDS for seeds in counts.values()) >= MANY_SETS
        if many or max(counts.values(), default=0) >= MANY_SEEDS:
            report.warning = (
                f"Warning: replicates are equal. Each of {len(counts):,} parameter sets has the same "
                f"{show_names(constant)} for all of its seeds, so randomness does not come from the seed: "
                "see Replicates that are equal in docs/checks.md"
            )
        return
    for name, numbers in report.equal_replicates.items():
        if not numbers:
            continue
        where = f"in {len(numbers):,} of {len(sets_by_output[name].seeds):,} sets, such as {numbers[0]}"
        report.notes.append(
            f"output {show_names([name])} is the same for all seeds {where}, while others vary"
        )


class _Comparison:
    """Compares each ok task of a set with the first one."""

    def __init__(self, reader: StoreReader, ledger: StoredAttempts, tasks: Tasks) -> None:
        self._reader, self._ledger, self._tasks = reader, ledger, tasks
        self.others_vary = False  # whether outputs that the study does not request vary
        self._proven: set[str] = set()  # outputs that vary by more than seeds and replicates
        self._file: tuple[int, pq.ParquetFile] | None = None
        self._group: tuple[tuple[int, int], pa.Table] | None = None

    def compare(self, tasks: Tasks) -> dict[str, _Sets]:
        """By name of output, in order."""
        first: dict[int, _Row] = {}
        seeds: dict[int, set[int]] = defaultdict(set)
        varying: dict[int, set[str]] = defaultdict(set)
        names: set[str] = set()
        for number, row in self._rows(tasks):
            one = first.setdefault(number, row)
            is_new = row.seed not in seeds[number]
            seeds[number].add(row.seed)
            if one is row or not is_new:
                continue
            others, first_others = self._others(row), self._others(one)
            self.others_vary |= any(others[n] != first_others[n] for n in others.keys() & first_others.keys())
            if one.digest == row.digest:
                continue
            differing = self._find_differing(one, row, names)
            varying[number] |= {
                name
                for name in differing - varying[number]
                if name in self._proven or self._differs(one, row, name)
            }
        compared = {number: len(seen) for number, seen in seeds.items() if len(seen) > 1}
        if compared and not names:
            names |= self._compared(self._read(first[min(compared)]))
        return {
            name: _Sets(dict(compared), {n for n, of_set in varying.items() if name in of_set})
            for name in sorted(names)
        }

    def _rows(self, tasks: Tasks) -> Iterator[tuple[int, _Row]]:
        """The ok row that counts of each task, file by file, without its outputs."""
        places: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for number, replicate in tasks.all():
            file, group, row_number = self._ledger.place[number, replicate].tolist()
            if file >= 0:
                places[file, group].append((row_number, number, replicate))
        for (file, group), entries in sorted(places.items()):
            parquet = self._open(file)
            wanted = ["seed", "digest", "output_digests", *(["left_out"] if tasks.outputs else [])]
            columns = [name for name in wanted if name in parquet.schema_arrow.names]
            rows = parquet.read_row_group(group, columns=columns, use_threads=False).to_pylist()
            for row_number, number, replicate in sorted(entries):
                row = rows[row_number]
                digests = row.get("output_digests")
                yield (
                    number,
                    _Row(
                        seed=row["seed"],
                        replicate=replicate,
                        digest=row["digest"],
                        output_digests=None if digests is None else dict(digests),
                        left_out=dict(row.get("left_out") or ()),
                        place=(file, group, row_number),
                    ),
                )

    def _find_differing(self, one: _Row, other: _Row, names: set[str]) -> set[str]:
        """The outputs whose bytes differ; all names are added to `names`."""
        if one.output_digests is None or other.output_digests is None:
            contents, others = self._read(one), self._read(other)
        else:
            contents, others = one.output_digests, other.output_digests
        all_names = self._compared(contents) | self._compared(others)
        names |= all_names
        return {name for name in all_names if contents.get(name) != others.get(name)}

    def _compared(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if self._tasks.stores(name)} - self._tasks.volatile

    def _others(self, row: _Row) -> dict[str, bytes]:
        """Digests of outputs that the study does not request, stored or not."""
        digests = {**(row.output_digests or {}), **row.left_out} if self._tasks.outputs else {}
        return {name: digests[name] for name in digests.keys() - self._tasks.outputs - self._tasks.volatile}

    def _differs(self, one: _Row, other: _Row, name: str) -> bool:
        """Whether an output differs by more than the identity of its tasks."""
        values = [_parse(self._read(row).get(name, b"")) for row in (one, other)]
        if _is_same(values[0], values[1], one, other):
            return False
        self._proven.add(name)
        return True

    def _read(self, row: _Row) -> dict[str, bytes]:
        file, group, row_number = row.place
        if self._group is None or self._group[0] != (file, group):
            table = self._open(file).read_row_group(group, columns=["outputs"], use_threads=False)
            self._group = (file, group), table
        return dict(self._group[1]["outputs"][row_number].as_py())

    def _open(self, file: int) -> pq.ParquetFile:
        if self._file is None or self._file[0] != file:
            self._file = file, self._reader.parquet(f"parts/{self._ledger.files[file]}")
        return self._file[1]


def _parse(data: bytes) -> Any:
    """A table by its columns, JSON as values, anything else unchanged."""
    if is_neutral(data):
        try:
            return read_neutral(data).to_pydict()
        except NotCanonical:
            return data
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    for read in (pq.read_table, lambda source: pa.ipc.open_stream(source).read_all(), _read_ipc_file):
        try:
            return read(pa.BufferReader(data)).to_pydict()
        except (pa.ArrowException, OSError, ValueError):
            continue
    return data


def _read_ipc_file(source: pa.BufferReader) -> pa.Table:
    return pa.ipc.open_file(source).read_all()


def _is_same(value: Any, other: Any, row: _Row, other_row: _Row) -> bool:
    """Whether two values are equal, or each is its own task's seed, or each its own replicate."""
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(
            _is_same(value[key], other[key], row, other_row) for key in value
        )
    if isinstance(value, list) and isinstance(other, list):
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(_is_same(*pair, row, other_row) for pair in pairs)
    if type(value) is type(other) and (value == other or (value != value and other != other)):
        return True
    is_seed = [str(item) == str(of.seed) for item, of in ((value, row), (other, other_row))]
    is_replicate = type(value) is int and (value, other) == (row.replicate, other_row.replicate)
    return type(value) is type(other) and (all(is_seed) or is_replicate)
