"""A study as a person writes it: study.yaml, or ModelOps' study JSON unchanged.

file -> findings, all at once, or a Spec -> (params, seed) of every set

The names are those of schemas/study.schema.yaml, which documents them for people and editors; what a schema
cannot say (bounds in order, sets that repeat, sizes) is said here, with line and column.

Does not write and knows no store: store/study.py numbers and keeps the sets.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.study import contract, document
from modelops_dask.study.document import BadDocument, Where
from modelops_dask.study.fields import Fields
from modelops_dask.study.plan import MAX_TASKS, keys, tabulate
from modelops_dask.study.sampling import Explicit, Grid, Range, Sample, Sampling, SetRow

WAYS = ("sets", "grid", "latin-hypercube", "sobol")
NAMES = ("name", "model", "scenario", "entrypoint", "bundle", "replicates", "fixed", *WAYS, "metadata")
MODELOPS_NAMES = (
    "model",
    "scenario",
    "parameter_sets",
    "sampling_method",
    "n_replicates",
    "outputs",
    "metadata",
    "targets",
)
MAX_REPLICATES = 10**6
MAX_SETS = 10**7
_REFERENCE = re.compile(r"(?:[^@\s]+@)?sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Spec:
    """What a study asks for. `table` has a row per parameter set (plan.SETS_SCHEMA), in order."""

    path: Path
    name: str
    entrypoint: str  # MODEL/SCENARIO
    replicates: int  # seeds per set; 1 when every set has a seed of its own
    table: pa.Table = field(repr=False)
    source: dict[str, Any] = field(repr=False)  # the file's content
    bundle: str | None = None  # a folder's absolute path, or [REPOSITORY@]sha256:DIGEST
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def n_sets(self) -> int:
        return self.table.num_rows

    def sets(self) -> Iterator[SetRow]:
        """(params, seed or None) of every set."""
        for batch in self.table.to_batches():
            columns = (batch[name].to_pylist() for name in ("params", "seed"))
            for text, seed in zip(*columns, strict=True):
                yield json.loads(text), seed


def load(path: Path) -> Spec:
    """The spec of a file; BadDocument with all its findings, `file:line:col  CODE  message` each."""
    fields = Fields(document.read(path))
    spec = _Reader(fields).spec()
    if fields.findings:
        raise BadDocument(path, fields.findings)
    return spec


class _Reader:
    """Reads the parts of a spec; what is wrong ends up in the findings of `fields`."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def spec(self) -> Spec | None:
        raw, path = self._fields.document.value, self._fields.document.path
        if not isinstance(raw, dict) or not raw:
            self._fields.note(
                (), "EMPTY", "no study here; write model, scenario and one of " + ", ".join(WAYS)
            )
            return None
        modelops = "parameter_sets" in raw or "n_replicates" in raw
        self._fields.names(raw, (), MODELOPS_NAMES if modelops else NAMES)
        name = self._name(raw, path)
        entrypoint = self._entrypoint(raw)
        replicates = self._fields.integer(
            raw, (), "n_replicates" if modelops else "replicates", 1, MAX_REPLICATES, default=1
        )
        fixed = self._fixed(raw)
        sampling = self._explicit(raw, "parameter_sets") if modelops else self._sampling(raw)
        bundle = self._fields.text(raw, (), "bundle", default=None)
        metadata = self._fields.mapping(raw, (), "metadata") or {}
        for key in ("outputs", "targets"):
            if key in raw and not (raw[key] is None or _is_texts(raw[key])):
                self._fields.note((key,), "TYPE", f"{key} must be a list of names, or null")
        if modelops:
            self._fields.text(raw, (), "sampling_method", default=None)
            metadata = {
                **metadata,
                **{k: raw[k] for k in ("sampling_method", "outputs", "targets") if raw.get(k)},
            }
        if self._fields.findings or sampling is None:
            return None
        table = self._table(sampling, fixed, replicates)
        if table is None:
            return None
        if table["seed"].null_count == 0:
            replicates = 1
        if bundle is not None and not _REFERENCE.fullmatch(bundle):
            bundle = str((path.parent / Path(bundle).expanduser()).resolve())
        return Spec(path, name, entrypoint, replicates, table, raw, bundle, metadata)

    # the parts of a spec

    def _name(self, raw: dict, path: Path) -> str | None:
        """The name as written, else the file's, else (for study.yaml) the folder's."""
        stem = path.stem if path.stem != "study" else path.resolve().parent.name
        name = self._fields.text(raw, (), "name", default=stem or "study")
        if "name" in raw and name is not None and not _NAME.fullmatch(name):
            self._fields.note(
                ("name",), "NAME", f"{name!r} cannot be a folder's name; write 1 to 64 letters, digits, - _ ."
            )
        return name

    def _entrypoint(self, raw: dict) -> str | None:
        if "entrypoint" in raw:
            for name in ("model", "scenario"):
                if name in raw:
                    self._fields.note(
                        (name,), "CHOICE", f"entrypoint says it already; remove {name} or entrypoint"
                    )
            return self._fields.checked(raw, "entrypoint", contract.check_entrypoint)
        model = self._fields.checked(raw, "model", contract.check_model)
        scenario = self._fields.checked(raw, "scenario", contract.check_scenario)
        return f"{model}/{scenario}"

    def _fixed(self, raw: dict) -> dict[str, Any]:
        fixed = self._fields.mapping(raw, (), "fixed") or {}
        for name, value in fixed.items():
            self._fields.parameter(("fixed", name), value)
        return fixed

    def _sampling(self, raw: dict) -> Sampling | None:
        ways = [way for way in WAYS if way in raw]
        if len(ways) != 1:
            where: Where = (ways[1],) if ways else ()
            found = f"{' and '.join(ways)} are there" if ways else "no parameter sets"
            self._fields.note(where, "CHOICE", f"{found}; write exactly one of {', '.join(WAYS)}")
            return None
        way = ways[0]
        if way == "sets":
            return self._explicit(raw, "sets")
        return self._grid(raw) if way == "grid" else self._sample(raw, way)

    def _explicit(self, raw: dict, key: str) -> Explicit | None:
        """Both forms: {name: value, …}, and {params: {name: value, …}, seed: …}."""
        items = raw.get(key)
        if not isinstance(items, list) or not items:
            code = "TYPE" if items and not isinstance(items, list) else "EMPTY"
            self._fields.note((key,), code, f"{key} must be a list of at least one parameter set")
            return None
        rows: list[SetRow] = []
        for number, item in enumerate(items):
            where: Where = (key, number)
            if not isinstance(item, dict):
                self._fields.note(where, "TYPE", "a parameter set must be a mapping of names to values")
                continue
            params, seed = item, None
            if isinstance(item.get("params"), dict) and set(item) <= {"params", "seed"}:
                params, seed, where = item["params"], item.get("seed"), (*where, "params")
                if seed is not None and not contract.is_seed(seed):
                    self._fields.note(
                        (key, number, "seed"), "SEED", "a seed must be a whole number from 0 to 2^64 - 1"
                    )
            for name, value in params.items():
                self._fields.parameter((*where, name), value)
            rows.append((params, seed))
        return Explicit(rows)

    def _grid(self, raw: dict) -> Grid | None:
        grid = self._fields.mapping(raw, (), "grid", filled=True)
        values: dict[str, list[Any]] = {}
        for name, axis in (grid or {}).items():
            where: Where = ("grid", name)
            if isinstance(axis, list) and axis:
                for number, value in enumerate(axis):
                    self._fields.parameter((*where, number), value)
                values[name] = axis
            elif isinstance(axis, dict):
                bounds = self._fields.range(axis, where, ("num",))
                num = self._fields.integer(axis, where, "num", 2, MAX_SETS)
                values[name] = bounds.spread(num) if bounds and num else [None]
            else:
                message = "write a list of values, or {low: …, high: …, num: …}"
                self._fields.note(where, "EMPTY" if axis == [] else "TYPE", message)
        return Grid(values) if values else None

    def _sample(self, raw: dict, way: str) -> Sample | None:
        sample = self._fields.mapping(raw, (), way, filled=True)
        if not sample:
            return None
        self._fields.names(sample, (way,), ("n", "seed", "parameters"))
        n = self._fields.integer(sample, (way,), "n", 1, MAX_SETS)
        seed = self._fields.integer(sample, (way,), "seed", 0, contract.UINT64_MAX, default=0)
        parameters = self._fields.mapping(sample, (way,), "parameters", filled=True) or {}
        ranges: dict[str, Range | None] = {}
        for name, bounds in parameters.items():
            where: Where = (way, "parameters", name)
            if isinstance(bounds, dict):
                ranges[name] = self._fields.range(bounds, where, ("integer",))
            else:
                self._fields.note(
                    where, "TYPE", "write {low: …, high: …}; a value that stays the same goes under fixed"
                )
        return Sample(way, n, seed, ranges) if n and ranges and all(ranges.values()) else None

    def _table(self, sampling: Sampling, fixed: dict[str, Any], replicates: int) -> pa.Table | None:
        """The sets as a table, unless they are too many or repeat."""
        way: Where = (next(key for key in (*WAYS, "parameter_sets") if key in self._fields.document.value),)
        count = sampling.count
        if count > MAX_SETS:
            self._fields.note(
                way, "TOO_LARGE", f"{count:,} parameter sets, and {MAX_SETS:,} is the most; split the study"
            )
            return None
        if count * replicates > MAX_TASKS:
            product = f"{count:,} sets x {replicates:,} replicates are {count * replicates:,} tasks"
            self._fields.note(way, "TOO_LARGE", f"{product}, and {MAX_TASKS:,} is the most; split the study")
            return None
        if fixed:
            first = next(iter(sampling.sets()))[0]
            for name in sorted(fixed.keys() & first.keys()):
                self._fields.note(("fixed", name), "CHOICE", f"{name} is also among the {way[0]}; keep one")
        table = tabulate((fixed | params, seed) for params, seed in sampling.sets())
        found = keys(table)
        repeated = len(found) - len(pc.unique(found))
        if repeated:
            if isinstance(sampling, Explicit):
                self._note_repeated(way[0], found)
            else:
                hint = (
                    "remove the value that repeats"
                    if isinstance(sampling, Grid)
                    else "ask for fewer, or widen a range"
                )
                self._fields.note(
                    way, "DUPLICATE_SET", f"{repeated:,} of {count:,} parameter sets repeat others; {hint}"
                )
        return table

    def _note_repeated(self, key: str, found: pa.Array) -> None:
        first: dict[bytes, int] = {}
        for number, value in enumerate(found.to_pylist()):
            if first.setdefault(value, number) != number:
                message = f"the same parameters and seed as set {first[value]}; remove it, or use replicates"
                self._fields.note((key, number), "DUPLICATE_SET", message)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
