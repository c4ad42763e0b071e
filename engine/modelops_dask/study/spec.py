"""A study as a person writes it: study.yaml, or ModelOps' study JSON unchanged.

file -> findings, all at once, or a Spec -> (params, seed) of every set

The names are those of schemas/study.schema.yaml, which documents them for people and editors; what a schema cannot
say (bounds in order, sets that repeat, sizes) is said here, with line and column.

Does not write and knows no store: store/study.py numbers and keeps the sets.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.study import contract, document
from modelops_dask.study.document import BadDocument, Document, Finding, Where
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
        import json

        for batch in self.table.to_batches():
            columns = (batch[name].to_pylist() for name in ("params", "seed"))
            for text, seed in zip(*columns, strict=True):
                yield json.loads(text), seed


def load(path: Path) -> Spec:
    """The spec of a file; BadDocument with all its findings, `file:line:col  CODE  message` each."""
    read = document.read(path)
    checker = _Checker(read)
    spec = checker.spec()
    if checker.findings:
        raise BadDocument(path, checker.findings)
    return spec


class _Checker:
    """Reads a document's values, noting what is wrong; a value that is wrong is None, and reading goes on."""

    def __init__(self, read: Document) -> None:
        self._document = read
        self.findings: list[Finding] = list(read.findings)

    def note(self, where: Where, code: str, message: str) -> None:
        self.findings.append(self._document.finding(where, code, message))

    def spec(self) -> Spec | None:
        raw, path = self._document.value, self._document.path
        if not isinstance(raw, dict) or not raw:
            self.note((), "EMPTY", "no study here; write model, scenario and one of " + ", ".join(WAYS))
            return None
        modelops = "parameter_sets" in raw or "n_replicates" in raw
        self.names(raw, (), MODELOPS_NAMES if modelops else NAMES)
        name = self._name(raw, path)
        entrypoint = self._entrypoint(raw)
        replicates = self.integer(
            raw, (), "n_replicates" if modelops else "replicates", 1, MAX_REPLICATES, default=1
        )
        fixed = self._fixed(raw)
        sampling = self._explicit(raw, "parameter_sets") if modelops else self._sampling(raw)
        bundle = self.text(raw, (), "bundle", default=None)
        metadata = self.mapping(raw, (), "metadata") or {}
        for key in ("outputs", "targets"):
            if key in raw and not (raw[key] is None or _is_texts(raw[key])):
                self.note((key,), "TYPE", f"{key} must be a list of names, or null")
        if modelops:
            self.text(raw, (), "sampling_method", default=None)
            metadata = {
                **metadata,
                **{k: raw[k] for k in ("sampling_method", "outputs", "targets") if raw.get(k)},
            }
        if self.findings or sampling is None:
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
        name = self.text(raw, (), "name", default=stem or "study")
        if "name" in raw and name is not None and not _NAME.fullmatch(name):
            self.note(
                ("name",), "NAME", f"{name!r} cannot be a folder's name; write 1 to 64 letters, digits, - _ ."
            )
        return name

    def _entrypoint(self, raw: dict) -> str | None:
        if "entrypoint" in raw:
            for name in ("model", "scenario"):
                if name in raw:
                    self.note((name,), "CHOICE", f"entrypoint says it already; remove {name} or entrypoint")
            return self.checked(raw, "entrypoint", contract.check_entrypoint)
        model = self.checked(raw, "model", contract.check_model)
        scenario = self.checked(raw, "scenario", contract.check_scenario)
        return f"{model}/{scenario}"

    def _fixed(self, raw: dict) -> dict[str, Any]:
        fixed = self.mapping(raw, (), "fixed") or {}
        for name, value in fixed.items():
            self.parameter(("fixed", name), value)
        return fixed

    def _sampling(self, raw: dict) -> Sampling | None:
        ways = [way for way in WAYS if way in raw]
        if len(ways) != 1:
            where: Where = (ways[1],) if ways else ()
            found = f"{' and '.join(ways)} are there" if ways else "no parameter sets"
            self.note(where, "CHOICE", f"{found}; write exactly one of {', '.join(WAYS)}")
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
            self.note((key,), code, f"{key} must be a list of at least one parameter set")
            return None
        rows: list[SetRow] = []
        for number, item in enumerate(items):
            where: Where = (key, number)
            if not isinstance(item, dict):
                self.note(where, "TYPE", "a parameter set must be a mapping of names to values")
                continue
            params, seed = item, None
            if isinstance(item.get("params"), dict) and set(item) <= {"params", "seed"}:
                params, seed, where = item["params"], item.get("seed"), (*where, "params")
                if seed is not None and not contract.is_seed(seed):
                    self.note(
                        (key, number, "seed"), "SEED", "a seed must be a whole number from 0 to 2^64 - 1"
                    )
            for name, value in params.items():
                self.parameter((*where, name), value)
            rows.append((params, seed))
        return Explicit(rows)

    def _grid(self, raw: dict) -> Grid | None:
        grid = self.mapping(raw, (), "grid", filled=True)
        values: dict[str, list[Any]] = {}
        for name, axis in (grid or {}).items():
            where: Where = ("grid", name)
            if isinstance(axis, list) and axis:
                for number, value in enumerate(axis):
                    self.parameter((*where, number), value)
                values[name] = axis
            elif isinstance(axis, dict):
                bounds = self.range(axis, where, ("num",))
                num = self.integer(axis, where, "num", 2, MAX_SETS)
                values[name] = bounds.spread(num) if bounds and num else [None]
            else:
                message = "write a list of values, or {low: …, high: …, num: …}"
                self.note(where, "EMPTY" if axis == [] else "TYPE", message)
        return Grid(values) if values else None

    def _sample(self, raw: dict, way: str) -> Sample | None:
        sample = self.mapping(raw, (), way, filled=True)
        if not sample:
            return None
        self.names(sample, (way,), ("n", "seed", "parameters"))
        n = self.integer(sample, (way,), "n", 1, MAX_SETS)
        seed = self.integer(sample, (way,), "seed", 0, contract.UINT64_MAX, default=0)
        parameters = self.mapping(sample, (way,), "parameters", filled=True) or {}
        ranges: dict[str, Range | None] = {}
        for name, bounds in parameters.items():
            where: Where = (way, "parameters", name)
            if isinstance(bounds, dict):
                ranges[name] = self.range(bounds, where, ("integer",))
            else:
                self.note(
                    where, "TYPE", "write {low: …, high: …}; a value that stays the same goes under fixed"
                )
        return Sample(way, n, seed, ranges) if n and ranges and all(ranges.values()) else None

    def _table(self, sampling: Sampling, fixed: dict[str, Any], replicates: int) -> pa.Table | None:
        """The sets as a table, unless they are too many or repeat."""
        way: Where = (next(key for key in (*WAYS, "parameter_sets") if key in self._document.value),)
        count = sampling.count
        if count > MAX_SETS:
            self.note(
                way, "TOO_LARGE", f"{count:,} parameter sets, and {MAX_SETS:,} is the most; split the study"
            )
            return None
        if count * replicates > MAX_TASKS:
            message = f"{count:,} sets x {replicates:,} replicates are {count * replicates:,} tasks, and {MAX_TASKS:,} is the most"
            self.note(way, "TOO_LARGE", f"{message}; split the study")
            return None
        if fixed:
            first = next(iter(sampling.sets()))[0]
            for name in sorted(fixed.keys() & first.keys()):
                self.note(("fixed", name), "CHOICE", f"{name} is also among the {way[0]}; keep one")
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
                self.note(
                    way, "DUPLICATE_SET", f"{repeated:,} of {count:,} parameter sets repeat others; {hint}"
                )
        return table

    def _note_repeated(self, key: str, found: pa.Array) -> None:
        first: dict[bytes, int] = {}
        for number, value in enumerate(found.to_pylist()):
            if first.setdefault(value, number) != number:
                message = f"the same parameters and seed as set {first[value]}; remove it, or use replicates"
                self.note((key, number), "DUPLICATE_SET", message)

    # values

    def names(self, mapping: dict, where: Where, known: tuple[str, ...]) -> None:
        for name in mapping:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                self.note((*where, name), "UNKNOWN", f"{name} means nothing here; {hint}")

    def parameter(self, where: Where, value: object) -> None:
        try:
            contract.check_value(value)
            contract.check_value({where[-1]: None} if isinstance(where[-1], str) else None)
        except ValueError as error:
            self.note(where, "PARAMETER", str(error))

    def checked(self, raw: dict, key: str, check: Any) -> str | None:
        text = self.text(raw, (), key)
        try:
            if text is not None:
                check(text)
        except ValueError as error:
            self.note((key,), "ENTRYPOINT", str(error))
        return text

    def text(self, mapping: dict, where: Where, key: str, default: Any = ...) -> Any:
        value = mapping.get(key, default)
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif value is not default and (not isinstance(value, str) or not value):
            self.note((*where, key), "TYPE", f"{key} must be text, not {value!r}")
        else:
            return value
        return None

    def mapping(self, mapping: dict, where: Where, key: str, filled: bool = False) -> dict | None:
        value = mapping.get(key, ... if filled else {})
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif not isinstance(value, dict):
            self.note((*where, key), "TYPE", f"{key} must be a mapping of names to values")
        elif filled and not value:
            self.note((*where, key), "EMPTY", f"{key} names no parameter; write at least one")
        else:
            return value
        return None

    def integer(
        self, mapping: dict, where: Where, key: str, low: int, high: int, default: int | None = None
    ) -> int | None:
        value = mapping.get(key, default)
        if value is None and key not in mapping:
            self.note(where, "MISSING", f"{key} is missing; write a whole number, {low:,} or more")
        elif type(value) is not int:
            self.note((*where, key), "TYPE", f"{key} must be a whole number, not {value!r}")
        elif not low <= value <= high:
            self.note((*where, key), "RANGE", f"{key} is {value:,}; it must be from {low:,} to {high:,}")
        else:
            return value
        return None

    def range(self, mapping: dict, where: Where, extra: tuple[str, ...]) -> Range | None:
        """{low, high[, scale][, …]}."""
        before = len(self.findings)
        self.names(mapping, where, ("low", "high", "scale", *extra))
        low, high = (self._bound(mapping, where, key) for key in ("low", "high"))
        log, integer = mapping.get("scale", "linear") == "log", mapping.get("integer", False)
        if mapping.get("scale", "linear") not in ("linear", "log"):
            self.note((*where, "scale"), "VALUE", f"scale is {mapping['scale']!r}; write linear or log")
        if not isinstance(integer, bool) and "integer" in extra:
            self.note((*where, "integer"), "TYPE", f"integer must be true or false, not {integer!r}")
        if low is not None and high is not None:
            if low >= high:
                self.note(
                    (*where, "low"), "BOUNDS", f"low {low} is not below high {high}; exchange or mend them"
                )
            if log and low <= 0:
                self.note((*where, "low"), "BOUNDS", f"low is {low}; a logarithmic scale begins above 0")
            if integer is True and (low % 1 or high % 1):
                self.note(
                    (*where, "low"), "BOUNDS", f"low {low} and high {high} must be whole numbers with integer"
                )
        if len(self.findings) > before:
            return None
        return Range(int(low), int(high), log, True) if integer is True else Range(low, high, log)

    def _bound(self, mapping: dict, where: Where, key: str) -> float | None:
        value = mapping.get(key, ...)
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.note((*where, key), "TYPE", f"{key} must be a number, not {value!r}")
        elif not abs(value) < 1e300:  # also refuses NaN; more would overflow when it is scaled
            self.note((*where, key), "BOUNDS", f"{key} is {value}; write a finite number")
        else:
            return value
        return None


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
