"""A study as a person writes it: study.yaml, or ModelOps' study JSON unchanged.

file -> findings, all at once, or a Spec -> (params, seed) of every set

The names are those of schemas/study.schema.yaml, which documents them for people and editors; what a schema
cannot say (bounds in order, sets that repeat, sizes) is said here, with line and column.

Does not write and knows no store: store/study.py numbers and keeps the sets.
"""

import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelops_dask.bundle.reference import anchored
from modelops_dask.errors import BadInput
from modelops_dask.study import contract, document, explicit
from modelops_dask.study.document import BadDocument, Finding, Where
from modelops_dask.study.fields import Fields
from modelops_dask.study.plan import MAX_TASKS, tabulate
from modelops_dask.study.sampling import Explicit, Grid, Range, Sample, Sampling, SetRow

WAYS = ("sets", "grid", "latin-hypercube", "sobol")
NAMES = (
    "name",
    "model",
    "scenario",
    "entrypoint",
    "bundle",
    "replicates",
    "resources",
    "fixed",
    *WAYS,
    "metadata",
)
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
_VALUES = ("workers", "executor", "scheduler", "pools", "preset", "dask", "image", "studies")  # of the chart
MAX_REPLICATES = 10**6
MAX_SETS = 10**7
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Spec:
    """What a study asks for. Its parameter sets are a description until `table` is wanted."""

    path: Path
    name: str
    entrypoint: str  # MODEL/SCENARIO
    replicates: int  # seeds per set; 1 when every set has a seed of its own
    sampling: Sampling = field(repr=False)
    fixed: dict[str, Any] = field(repr=False)  # parameters that are the same in every set
    source: dict[str, Any] = field(repr=False)  # the file's content
    bundle: str | None = None  # a reference (bundle/reference.py), with an absolute path
    metadata: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)  # Dask's: what a task needs of its worker
    warnings: tuple[Finding, ...] = ()  # what may not be meant, in the order of the file

    @property
    def n_sets(self) -> int:
        return self.sampling.count

    @property
    def n_tasks(self) -> int:
        return (self.n_sets - self.sampling.seeded) * self.replicates + self.sampling.seeded

    @cached_property
    def table(self) -> pa.Table:
        """A row per parameter set (plan.SETS_SCHEMA), in order."""
        return tabulate(self.sampling.chunks(self.fixed))

    def sets(self) -> Iterator[SetRow]:
        """(params, seed or None) of every set."""
        for chunk in self.sampling.chunks(self.fixed):
            for text, seed in chunk:
                yield json.loads(text), seed


def load(path: Path) -> Spec:
    """The spec of a file; BadDocument with all its findings, `file:line:col  CODE  message` each."""
    return _checked(Fields(document.read(path)))


def given(content: dict[str, Any], folder: Path) -> Spec:
    """The spec of a study.yaml's content, as if it stood in the folder; BadDocument with all its findings."""
    return _checked(Fields(document.given(content, folder / "study.yaml")))


def _checked(fields: Fields) -> Spec:
    spec = _spec(fields)
    errors = _causes(fields.findings)
    taken = {(finding.line, finding.column) for finding in errors if finding.line}
    warnings = sorted({f for f in fields.warnings if (f.line, f.column) not in taken})
    if errors:
        raise BadDocument(fields.document.path, [*errors, *warnings])
    return replace(spec, warnings=tuple(warnings))


def _causes(findings: list[Finding]) -> list[Finding]:
    """Without what follows from an unquoted value that was misread: `seed: 0123` is no other finding."""
    traps = (f for f in findings if f.code.startswith("YAML_") and f.code != "YAML_KEY")
    places = {(f.line, f.column) for f in traps}  # not of a key, where its map begins too
    return [f for f in findings if f.code.startswith("YAML_") or (f.line, f.column) not in places]


def _spec(read: Fields) -> Spec | None:
    raw, path = read.document.value, read.document.path
    if not isinstance(raw, dict) or not raw:
        read.note((), "EMPTY", "no study here; write model, scenario and one of " + ", ".join(WAYS))
        return None
    if not set(raw) & {*NAMES, *MODELOPS_NAMES} and set(raw) & set(_VALUES):
        message = f"no study here but values of the chart: mops-helm values check {shlex.quote(str(path))}"
        read.note((), "EMPTY", message)
        return None
    modelops = "parameter_sets" in raw or "sampling_method" in raw
    read.names(raw, (), MODELOPS_NAMES if modelops else NAMES, closed=not modelops)
    name = _name(read, raw, path)
    entrypoint = _entrypoint(read, raw)
    replicates = read.integer(
        raw, (), "n_replicates" if modelops else "replicates", 1, MAX_REPLICATES, default=1
    )
    fixed = _fixed(read, raw)
    sampling = explicit.read_sets(read, raw, "parameter_sets") if modelops else _sampling(read, raw)
    bundle = _bundle(read, raw, path.parent)
    metadata = _metadata(read, raw, modelops)
    resources = {} if modelops else _resources(read, raw)
    if sampling:
        _check_sets(read, sampling, fixed, replicates or 1)
    if read.findings or sampling is None:
        return None
    if sampling.seeded == sampling.count:
        replicates = 1
    return Spec(path, name, entrypoint, replicates, sampling, fixed, raw, bundle, metadata, resources)


def _name(read: Fields, raw: dict, path: Path) -> str | None:
    """The name as written, else the file's, else (for study.yaml) the folder's."""
    stem = path.stem if path.stem != "study" else path.resolve().parent.name
    name = read.text(raw, (), "name", default=stem or "study")
    if "name" in raw and name is not None and not _NAME.fullmatch(name):
        read.note(
            ("name",), "NAME", f"{name!r} cannot be a folder's name; write 1 to 64 letters, digits, - _ ."
        )
    return name


def _bundle(read: Fields, raw: dict, folder: Path) -> str | None:
    text = read.text(raw, (), "bundle", default=None)
    try:
        return anchored(text, folder) if text else None
    except BadInput as error:
        read.note(("bundle",), "REFERENCE", str(error))
        return None


def _entrypoint(read: Fields, raw: dict) -> str | None:
    if "entrypoint" in raw:
        for name in ("model", "scenario"):
            if name in raw:
                read.note((name,), "CHOICE", f"entrypoint says it already; remove {name} or entrypoint")
        return read.checked(raw, "entrypoint", contract.check_entrypoint)
    model = read.checked(raw, "model", contract.check_model)
    scenario = read.checked(raw, "scenario", contract.check_scenario)
    return f"{model}/{scenario}"


def _metadata(read: Fields, raw: dict, modelops: bool) -> dict[str, Any]:
    """`metadata`, and with it what ModelOps' JSON says that nothing here acts on."""
    metadata = read.mapping(raw, (), "metadata") or {}
    if not modelops:
        return metadata
    read.text(raw, (), "sampling_method", default=None)
    for key in ("outputs", "targets"):
        value = raw.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(x, str) for x in value)):
            read.note((key,), "TYPE", f"{key} must be a list of names, or null")
    return metadata | {key: raw[key] for key in ("sampling_method", "outputs", "targets") if raw.get(key)}


def _resources(read: Fields, raw: dict) -> dict[str, float]:
    resources = read.mapping(raw, (), "resources") or {}
    for name, amount in resources.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not 0 < amount < math.inf:
            read.note(
                ("resources", name), "RANGE", f"{name} is {amount!r}; write a number above 0, such as 1"
            )
    return resources


def _fixed(read: Fields, raw: dict) -> dict[str, Any]:
    fixed = read.mapping(raw, (), "fixed") or {}
    for name, value in fixed.items():
        read.parameter(("fixed", name), value)
    return fixed


def _sampling(read: Fields, raw: dict) -> Sampling | None:
    ways = [way for way in WAYS if way in raw]
    if len(ways) != 1:
        where: Where = (ways[1],) if ways else ()
        found = f"{' and '.join(ways)} are there" if ways else "no parameter sets"
        read.note(where, "CHOICE", f"{found}; write exactly one of {', '.join(WAYS)}")
        return None
    way = ways[0]
    if way == "sets":
        return explicit.read_sets(read, raw, "sets")
    return _grid(read, raw) if way == "grid" else _sample(read, raw, way)


def _grid(read: Fields, raw: dict) -> Grid | None:
    grid = read.mapping(raw, (), "grid", filled=True)
    values: dict[str, list[Any]] = {}
    for name, axis in (grid or {}).items():
        where: Where = ("grid", name)
        if isinstance(axis, list) and axis:
            values[name] = [
                value for number, value in enumerate(axis) if read.parameter((*where, number), value)
            ]
        elif isinstance(axis, dict):
            bounds = read.range(axis, where, ("num",))
            num = read.integer(axis, where, "num", 2, MAX_SETS)
            if bounds and num:
                values[name] = bounds.spread(num)
        else:
            message = "write a list of values, or {low: …, high: …, num: …}"
            read.note(where, "EMPTY" if axis == [] else "TYPE", message)
    return Grid(values) if values else None


def _sample(read: Fields, raw: dict, way: str) -> Sample | None:
    sample = read.mapping(raw, (), way, filled=True)
    if not sample:
        return None
    read.names(sample, (way,), ("n", "seed", "parameters"))
    n = read.integer(sample, (way,), "n", 1, MAX_SETS)
    seed = read.integer(sample, (way,), "seed", 0, contract.UINT64_MAX, default=0)
    parameters = read.mapping(sample, (way,), "parameters", filled=True) or {}
    ranges: dict[str, Range | None] = {}
    for name, bounds in parameters.items():
        where: Where = (way, "parameters", name)
        if isinstance(bounds, dict):
            ranges[name] = read.range(bounds, where, ("integer",))
        else:
            read.note(where, "TYPE", "write {low: …, high: …}; a value that stays the same goes under fixed")
    return Sample(way, n, seed, ranges) if n and ranges and all(ranges.values()) else None


def _check_sets(read: Fields, sampling: Sampling, fixed: dict[str, Any], replicates: int) -> None:
    """Note what is wrong with the sets together: too many, or like others."""
    way: Where = (next(key for key in (*WAYS, "parameter_sets") if key in read.document.value),)
    count = sampling.count
    if count > MAX_SETS:
        read.note(
            way, "TOO_LARGE", f"{count:,} parameter sets, and {MAX_SETS:,} is the most; split the study"
        )
        return
    if count * replicates >= MAX_TASKS:
        product = f"{count:,} sets x {replicates:,} replicates are {count * replicates:,} tasks"
        read.note(way, "TOO_LARGE", f"{product}, and a study must have fewer than {MAX_TASKS:,}; split it")
        return
    for name in sorted(fixed.keys() & sampling.names):
        read.note(("fixed", name), "CHOICE", f"{name} is also among the {way[0]}; keep one")
    if not isinstance(sampling, Explicit) and (repeats := sampling.repeats()):
        grid = isinstance(sampling, Grid)
        hint = "remove the value that repeats" if grid else "ask for fewer, or widen a range"
        read.note(way, "DUPLICATE_SET", f"{repeats:,} of {count:,} parameter sets repeat others; {hint}")
