"""Whether results vary between replicates. If none does, randomness does not come from the seed.

rows of parts -> outputs of ok replicates of one set, with different seeds, two at a time -> Variation

Digests show equal outputs. Different ones are read until the output is known to vary: a number that is only
the task's own seed or replicate, as a column or in JSON, is ignored, because it varies anyway.

The consequences for a study are decided in study/summary.py.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.plan.plan import ABSENT, Plan
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import counting_rows
from modelops_dask.store.generations import Generations
from modelops_dask.store.tables import as_table

MANY_SETS, SOME_SEEDS = 3, 3  # sets that must be equal for a statement on the study
MANY_SEEDS = 10  # replicates in one set that are as convincing
_CACHED_ROWS = 256
_ROWS_AT_ONCE = 1024


@dataclass
class OutputVariation:
    """How one output varies between replicates with different seeds.

    Attributes:
        n_sets: Sets of which at least two replicates were compared.
        constant_sets: Sets in which all of them were equal: set -> number of replicates.
    """

    n_sets: int = 0
    constant_sets: dict[int, int] = field(default_factory=dict)

    @property
    def varies(self) -> bool:
        """Whether replicates differ in at least one set."""
        return len(self.constant_sets) < self.n_sets


@dataclass(frozen=True)
class Variation:
    """How the outputs of a study vary, by name. `complete` is false if the comparison ended early,
    `others_vary` is true if outputs that the study does not request differ between replicates.
    """

    outputs: Mapping[str, OutputVariation]
    complete: bool = True
    others_vary: bool = False

    @property
    def is_seed_unused(self) -> bool:
        """Whether no output varies in any set, with enough sets and seeds to be sure."""
        if not self.complete or not self.outputs or self.others_vary:
            return False
        if any(output.varies for output in self.outputs.values()):
            return False
        counts: dict[int, int] = {}
        for output in self.outputs.values():
            for number, n_replicates in output.constant_sets.items():
                counts[number] = max(counts.get(number, 0), n_replicates)
        n_sets = sum(count >= SOME_SEEDS for count in counts.values())
        return n_sets >= MANY_SETS or max(counts.values(), default=0) >= MANY_SEEDS


class SeededTask(Protocol):
    """A task, or a row of one."""

    @property
    def seed(self) -> int: ...
    @property
    def replicate(self) -> int: ...


@dataclass(frozen=True)
class _Row:
    """An ok row: its task, and the location of its outputs."""

    set: int
    replicate: int
    seed: int
    digest: bytes
    output_digests: Mapping[str, bytes] | None
    left_out: Mapping[str, bytes]  # digests of the other outputs that it returned
    file: str
    number: int


def compare_replicates(
    store: Store,
    plan: Plan,
    generations: Generations | None,
    *,
    ignored: Collection[str] = (),
    until_varied: bool = False,
) -> Variation:
    """Compare the ok replicates of every set of a plan, output by output.

    Args:
        store: The store of the study.
        plan: The tasks that count.
        generations: As fold.read_generations() returned them for this plan; a State has them.
        ignored: Outputs that vary for other reasons, such as time stamps.
        until_varied: Stop at the first output that varies; that is nearly always the first pair of rows.
    """
    comparison = _Comparison(store, frozenset(ignored), frozenset(plan.request.outputs))
    for row in _ok_rows(store, plan, generations):
        comparison.add(row)
        if until_varied and comparison.has_varied:
            return Variation(comparison.variations(), complete=False)
    return Variation(comparison.variations(), others_vary=comparison.others_vary)


def _ok_rows(store: Store, plan: Plan, generations: Generations | None) -> Iterator[_Row]:
    """One ok row that counts of each task of the plan."""
    codes = plan.blank()
    is_first = np.ones(codes.shape, bool)
    columns = ["set", "replicate", "seed", "status", "digest", "output_digests"]
    columns += ["left_out"] if plan.request.outputs else []
    for file_rows in counting_rows(store, plan, generations, parts.scan(store, columns)):
        is_ok = pc.equal(file_rows.table["status"], "ok").to_numpy(zero_copy_only=False).astype(bool)
        for start in range(0, len(is_ok), _ROWS_AT_ONCE):  # the first may be enough
            ok = start + np.flatnonzero(is_ok[start : start + _ROWS_AT_ONCE])
            rows = file_rows.table.take(pa.array(ok)).to_pylist()
            for number, row in zip(file_rows.row_numbers[ok].tolist(), rows, strict=True):
                task = row["set"], row["replicate"]
                if task[0] >= plan.n_sets or task[1] >= plan.replicates or codes[task] == ABSENT:
                    continue
                if is_first[task]:
                    is_first[task] = False
                    digests = row["output_digests"]
                    yield _Row(
                        set=row["set"],
                        replicate=row["replicate"],
                        seed=row["seed"],
                        digest=row["digest"],
                        output_digests=None if digests is None else dict(digests),
                        left_out=dict(row.get("left_out") or ()),
                        file=file_rows.file,
                        number=number,
                    )


class _Comparison:
    """The state of the comparison: the first row of each set, and the outputs that vary."""

    def __init__(self, store: Store, ignored: frozenset[str], requested: frozenset[str]) -> None:
        """Start a comparison.

        Args:
            requested: The only outputs that are compared; empty: all.
        """
        self._ignored, self._requested = ignored, requested
        self._first: dict[int, _Row] = {}
        self._seeds: dict[int, set[int]] = {}
        self._varied: dict[int, set[str]] = {}  # set -> outputs
        self._names: set[str] = set()
        self.others_vary = False  # whether outputs that are not requested vary
        self._trusted: set[str] = set()  # outputs whose digests differ for more reasons than their seed
        self._read = lru_cache(_CACHED_ROWS)(partial(_read_outputs, store))

    @property
    def has_varied(self) -> bool:
        return self.others_vary or any(self._varied.values())

    def add(self, row: _Row) -> None:
        first = self._first.setdefault(row.set, row)
        seeds = self._seeds.setdefault(row.set, set())
        is_new_seed = row.seed not in seeds
        seeds.add(row.seed)
        if first is row or not is_new_seed:
            return
        if self._requested and not self.others_vary:
            others, first_others = self._others(row), self._others(first)
            self.others_vary = any(
                others[name] != first_others[name] for name in others.keys() & first_others.keys()
            )
        if row.digest == first.digest:
            return
        varied = self._varied.setdefault(row.set, set())
        for name in self._differing(first, row) - varied:
            if name in self._trusted or self._differs(first, row, name):
                varied.add(name)

    def variations(self) -> dict[str, OutputVariation]:
        sets = {number: len(seeds) for number, seeds in self._seeds.items() if len(seeds) > 1}
        for number in list(sets)[:1]:
            self._names |= self._compared(self._outputs(self._first[number]))
        return {
            name: OutputVariation(
                n_sets=len(sets),
                constant_sets={
                    number: n_seeds
                    for number, n_seeds in sets.items()
                    if name not in self._varied.get(number, ())
                },
            )
            for name in sorted(self._names)
        }

    def _differing(self, first: _Row, other: _Row) -> set[str]:
        """Outputs whose bytes differ."""
        if first.output_digests is not None and other.output_digests is not None:
            digests, others = first.output_digests, other.output_digests
        else:
            digests, others = self._outputs(first), self._outputs(other)
        names = self._compared(digests) | self._compared(others)
        self._names |= names
        return {name for name in names if digests.get(name) != others.get(name)}

    def _compared(self, names: Iterable[str]) -> set[str]:
        compared = set(names) - self._ignored
        return compared & self._requested if self._requested else compared

    def _others(self, row: _Row) -> dict[str, bytes]:
        """Digests of outputs that are not requested, stored or not, by name."""
        digests = {**(row.output_digests or {}), **row.left_out}
        return {name: digests[name] for name in digests.keys() - self._requested - self._ignored}

    def _differs(self, first: _Row, other: _Row, name: str) -> bool:
        """Whether an output differs by more than the seeds and replicates of its tasks."""
        contents = [read_content(self._outputs(row).get(name, b"")) for row in (first, other)]
        if is_same_result(contents[0], contents[1], first, other):
            return False
        self._trusted.add(name)
        return True

    def _outputs(self, row: _Row) -> Mapping[str, bytes]:
        return self._read(row.file, row.number)


def _read_outputs(store: Store, name: str, row_number: int) -> Mapping[str, bytes]:
    """The outputs of a row; {} if its file was merged into another since it was listed."""
    try:
        with parts.open_part_file(store, name) as file:
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                if row_number < stop:
                    column = parts.read_columns(file, ["outputs"], group)["outputs"]
                    return dict(column[row_number - start].as_py())
                start = stop
    except FileNotFoundError:
        pass
    return {}


def read_content(data: bytes) -> object:
    """An output as values: a table by its columns, JSON as parsed, anything else as bytes."""
    table = as_table(data)
    if table is not None:
        return table.to_pydict()
    try:
        content: object = json.loads(data)
        return content
    except (ValueError, RecursionError):
        return data


def is_same_result(value: object, other: object, row: SeededTask, other_row: SeededTask) -> bool:
    """Whether values are equal, or both are their task's own seed, or their own replicate."""
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(
            is_same_result(value[key], other[key], row, other_row) for key in value
        )
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(
            is_same_result(item, other_item, row, other_row)
            for item, other_item in zip(value, other, strict=True)
        )
    if value == other or (value != value and other != other):  # NaN
        return type(value) is type(other)
    own, other_own = (
        (str(row.seed), str(other_row.seed)) if isinstance(value, str) else (row.seed, other_row.seed)
    )
    if type(value) is not type(own) or type(other) is not type(own):  # False is 0, but not a replicate
        return False
    return (value, other) in ((own, other_own), (row.replicate, other_row.replicate))
