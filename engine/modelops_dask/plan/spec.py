"""A study as a person writes it: study.yaml, or ModelOps' study JSON unchanged.

file -> all findings, or a Spec -> (params, seed) of every set

The names are those of schemas/study.schema.yaml, which documents them for people and editors; rules that a
schema cannot express (order of bounds, repeated sets, sizes) are checked here, with line and column.

This module does not write or know stores: store/study.py numbers and stores the sets.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from modelops_dask.bundle.reference import anchor
from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import NodePath
from modelops_dask.documents.quoting import quote_path
from modelops_dask.errors import BadInput
from modelops_dask.plan import contract, document, explicit, modelops_files, program
from modelops_dask.plan.document import BadDocument
from modelops_dask.plan.duration import parse_duration
from modelops_dask.plan.fields import Fields
from modelops_dask.plan.plan import MAX_TASKS, Request, tabulate
from modelops_dask.plan.sampling import Explicit, Grid, Range, Sample, Sampling, SetRow

_INTERVAL = re.compile(r"\s*(-?\d{1,15})\s*\.{2,3}\s*(-?\d{1,15})\s*")  # as Ruby and shells write it
_SHORT_INTERVAL = 20  # numbers that are written out in advice
SAMPLING_KEYS = ("sets", "grid", "latin-hypercube", "sobol")
NAMES = (
    "name",
    "model",
    "scenario",
    "entrypoint",
    *program.NAMES,
    "bundle",
    "replicates",
    "resources",
    "deterministic",
    "volatile",
    "timeout",
    "fixed",
    *SAMPLING_KEYS,
    "metadata",
)
# values of the chart
_VALUES = ("workers", "executor", "scheduler", "pools", "preset", "dask", "image", "studies")
DEFAULT_SCENARIO = "baseline"
MAX_REPLICATES = 10**6
MAX_SETS = 10**7
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Spec:
    """The content of a study file. Its parameter sets stay a description until `table` is used."""

    path: Path
    name: str
    entrypoint: str  # MODEL/SCENARIO
    replicates: int  # seeds per set; 1 if every set has its own seed
    sampling: Sampling = field(repr=False)
    fixed: dict[str, object] = field(repr=False)  # parameters with the same value in every set
    source: dict[str, object] = field(repr=False)  # the content of the file
    bundle: str | None = None  # a reference (bundle/reference.py), with an absolute path
    metadata: dict[str, object] = field(default_factory=dict)
    # Dask resources that a task needs on its worker
    resources: dict[str, float] = field(default_factory=dict)
    deterministic: bool = False  # results are meant not to depend on the seed
    volatile: tuple[str, ...] = ()  # outputs that may differ from run to run
    program: str = field(default="", repr=False)  # the program to run instead of a model (program.py)
    names_scenario: bool = True  # False: the file has none, and the entrypoint has DEFAULT_SCENARIO
    outputs: tuple[str, ...] = ()  # the only outputs that are stored; (): all
    timeout_seconds: float = 0  # for each task; 0: the workers' settings apply
    warnings: tuple[Finding, ...] = ()  # possible mistakes, in the order of the file

    @property
    def model(self) -> str:
        """The MODEL of the entrypoint."""
        return self.entrypoint.partition("/")[0]

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

    def request(self, sets: tuple[tuple[int, int], ...]) -> Request:
        """The request of this study in a store whose set numbers are these half-open ranges."""
        return Request(
            replicates=self.replicates,
            sets=sets,
            resources=tuple(sorted(self.resources.items())),
            deterministic=self.deterministic,
            volatile=self.volatile,
            outputs=self.outputs,
            timeout_seconds=self.timeout_seconds,
        )

    def sets(self) -> Iterator[SetRow]:
        """(params, seed or None) of every set."""
        for chunk in self.sampling.chunks(self.fixed):
            for text, seed in chunk:
                yield json.loads(text), seed


def load(path: Path) -> Spec:
    """Read the spec of a file. Raises BadDocument with all its findings."""
    with document.without_garbage_collection():
        return _validate(Fields(document.read(path)))


def from_content(content: dict[str, object], folder: Path) -> Spec:
    """Make a spec from the content of a study.yaml in a folder. Raises BadDocument with all findings."""
    return _validate(Fields(document.from_plain_data(content, folder / "study.yaml")))


def _validate(fields: Fields) -> Spec:
    spec = _spec(fields)
    errors = _causes(fields.findings)
    error_places = {(finding.line, finding.column) for finding in errors if finding.line}
    warnings = sorted({f for f in fields.warnings if (f.line, f.column) not in error_places})
    if errors:
        raise BadDocument(fields.document.path, [*errors, *warnings])
    assert spec is not None  # present if there are no errors
    return replace(spec, warnings=tuple(warnings))


def _causes(findings: list[Finding]) -> list[Finding]:
    """Leave out findings that are only a consequence of a misread unquoted value, such as `seed: 0123`.

    A text with colons is none where a text is refused: in quotes it would be refused too.
    """
    others = {(f.line, f.column) for f in findings if not f.code.startswith("YAML_")}
    findings = [f for f in findings if f.code != "YAML_SEXAGESIMAL" or (f.line, f.column) not in others]
    traps = (f for f in findings if f.code.startswith("YAML_") and f.code != "YAML_KEY")
    places = {(f.line, f.column) for f in traps}  # except for a key, whose position is also that of its map
    return [f for f in findings if f.code.startswith("YAML_") or (f.line, f.column) not in places]


def _spec(fields: Fields) -> Spec | None:
    raw, path = fields.document.value, fields.document.path
    if not isinstance(raw, dict) or not raw:
        fields.note((), "EMPTY", "not a study; write model, scenario and one of " + ", ".join(SAMPLING_KEYS))
        return None
    if modelops_files.note_other_document(fields, raw):
        return None
    if not set(raw) & {*NAMES, *modelops_files.STUDY_NAMES} and set(raw) & set(_VALUES):
        message = (
            f"not a study but values of the chart; check them with mops-helm values check {quote_path(path)}"
        )
        fields.note((), "EMPTY", message)
        return None
    modelops = "parameter_sets" in raw or "sampling_method" in raw
    fields.check_names(raw, (), modelops_files.STUDY_NAMES if modelops else NAMES, closed=not modelops)
    name = _name(fields, raw, path)
    runs_program = not modelops and any(name in raw for name in program.OWN_NAMES)
    entrypoint = None if runs_program else _entrypoint(fields, raw, modelops)
    replicates = fields.integer(
        raw, (), "n_replicates" if modelops else "replicates", 1, MAX_REPLICATES, default=1
    )
    fixed = _fixed(fields, raw)
    sampling = explicit.read_sets(fields, raw, "parameter_sets") if modelops else _sampling(fields, raw)
    program_text = ""
    if runs_program:
        program_text, entrypoint = _program(fields, raw, sampling, fixed)
    bundle = _bundle(fields, raw, path.parent)
    metadata = _metadata(fields, raw, modelops)
    resources = {} if modelops else _resources(fields, raw)
    deterministic = False if modelops else fields.boolean(raw, (), "deterministic")
    volatile = () if modelops else _volatile(fields, raw)
    outputs = () if "command" in raw else _outputs(fields, raw)
    timeout_seconds = _timeout(fields, raw)
    if sampling:
        _check_sets(fields, raw, sampling, fixed, replicates or 1)
    if modelops:
        modelops_files.note_differences(fields, raw)
    if fields.findings or name is None or entrypoint is None or replicates is None or sampling is None:
        return None
    if sampling.seeded == sampling.count:
        replicates = 1
    return Spec(
        path=path,
        name=name,
        entrypoint=entrypoint,
        replicates=replicates,
        sampling=sampling,
        fixed=fixed,
        source=raw,
        bundle=bundle,
        metadata=metadata,
        resources=resources,
        deterministic=deterministic,
        volatile=volatile,
        program=program_text,
        names_scenario="scenario" in raw or "entrypoint" in raw,
        outputs=outputs,
        timeout_seconds=timeout_seconds,
    )


def _name(fields: Fields, raw: dict[str, object], path: Path) -> str | None:
    """The name as written, otherwise the file's, otherwise (for study.yaml) the folder's."""
    stem = path.stem if path.stem != "study" else path.resolve().parent.name
    name = fields.text(raw, (), "name", default=stem or "study")
    if "name" in raw and name is not None and not _NAME.fullmatch(name):
        fields.note(
            ("name",),
            "NAME",
            f"{name!r} cannot be the name of a folder; write 1 to 64 letters, digits, - _ .",
        )
    return name


def _bundle(fields: Fields, raw: dict[str, object], folder: Path) -> str | None:
    text = fields.text(raw, (), "bundle", default=None)
    try:
        return anchor(text, folder) if text else None
    except BadInput as error:
        fields.note(("bundle",), "REFERENCE", str(error))
        return None


def _entrypoint(fields: Fields, raw: dict[str, object], modelops: bool) -> str | None:
    if "entrypoint" in raw:
        for name in ("model", "scenario"):
            if name in raw:
                fields.note((name,), "CHOICE", f"entrypoint already includes {name}; remove one of them")
        return fields.checked_text(raw, "entrypoint", contract.check_entrypoint)
    model = fields.checked_text(raw, "model", contract.check_model)
    if "scenario" not in raw and not modelops:
        return f"{model}/{DEFAULT_SCENARIO}"
    scenario = fields.checked_text(raw, "scenario", contract.check_scenario)
    return f"{model}/{scenario}"


def _program(
    fields: Fields, raw: dict[str, object], sampling: Sampling | None, fixed: dict[str, object]
) -> tuple[str, str | None]:
    """The program to run instead of a model, and its entrypoint; None if it cannot be used."""
    if "command" not in raw:
        name = next(name for name in program.OWN_NAMES if name in raw)
        fields.note((name,), "CHOICE", f"{name} belongs to a command; add command, or remove {name}")
        return "", _entrypoint(fields, raw, False)
    for name in ("model", "entrypoint"):
        if name in raw:
            fields.note((name,), "CHOICE", f"command already says what to run; remove {name} or command")
    scenario: str | None = DEFAULT_SCENARIO
    if "scenario" in raw:
        scenario = fields.checked_text(raw, "scenario", contract.check_scenario)
    text = program.read_program(fields, raw, sampling, fixed)
    return text or "", program.make_entrypoint(text, scenario) if text and scenario else None


def _metadata(fields: Fields, raw: dict[str, object], modelops: bool) -> dict[str, object]:
    """`metadata`, together with fields of ModelOps' JSON that have no effect."""
    metadata = fields.mapping(raw, (), "metadata") or {}
    if not modelops:
        return metadata
    fields.text(raw, (), "sampling_method", default=None)
    return metadata | {key: raw[key] for key in ("sampling_method", "outputs", "targets") if raw.get(key)}


def _volatile(fields: Fields, raw: dict[str, object]) -> tuple[str, ...]:
    names = raw.get("volatile", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        fields.note(("volatile",), "TYPE", "volatile must be a list of names of outputs, such as [metadata]")
        return ()
    return tuple(dict.fromkeys(names))


def _outputs(fields: Fields, raw: dict[str, object]) -> tuple[str, ...]:
    """The names under `outputs`, the only ones to be stored; () for all."""
    names = raw.get("outputs")
    if names is None:
        return ()
    if isinstance(names, list) and all(isinstance(name, str) and name for name in names):
        if not names:
            fields.note(("outputs",), "EMPTY", "outputs is empty; name the outputs to store, or remove it")
        return tuple(dict.fromkeys(names))
    message = (
        "outputs must be a list of the outputs to store, such as [incidence]; "
        "only a command maps names to files"
    )
    fields.note(("outputs",), "TYPE", message)
    return ()


def _timeout(fields: Fields, raw: dict[str, object]) -> float:
    if raw.get("timeout") is None:
        return 0
    try:
        return parse_duration(raw["timeout"])
    except ValueError as error:
        fields.note(("timeout",), "DURATION", f"timeout: {error}")
        return 0


def _resources(fields: Fields, raw: dict[str, object]) -> dict[str, float]:
    resources: dict[str, float] = {}
    for name, amount in (fields.mapping(raw, (), "resources") or {}).items():
        if isinstance(amount, int | float) and not isinstance(amount, bool) and 0 < amount < math.inf:
            resources[name] = amount
        else:
            fields.note(
                ("resources", name), "RANGE", f"{name} is {amount!r}; write a number above 0, such as 1"
            )
    return resources


def _fixed(fields: Fields, raw: dict[str, object]) -> dict[str, object]:
    fixed = fields.mapping(raw, (), "fixed") or {}
    for name, value in fixed.items():
        fields.parameter(("fixed", name), value)
    return fixed


def _sampling(fields: Fields, raw: dict[str, object]) -> Sampling | None:
    methods = [method for method in SAMPLING_KEYS if method in raw]
    if len(methods) != 1:
        node_path: NodePath = (methods[1],) if methods else ()
        problem = f"{' and '.join(methods)} are both present" if methods else "no parameter sets"
        fields.note(node_path, "CHOICE", f"{problem}; write exactly one of {', '.join(SAMPLING_KEYS)}")
        return None
    way = methods[0]
    if way == "sets":
        return explicit.read_sets(fields, raw, "sets")
    return _grid(fields, raw) if way == "grid" else _sample(fields, raw, way)


def _grid(fields: Fields, raw: dict[str, object]) -> Grid | None:
    grid = fields.mapping(raw, (), "grid", filled=True)
    values: dict[str, list[object]] = {}
    for name, axis in (grid or {}).items():
        node_path: NodePath = ("grid", name)
        if isinstance(axis, list) and axis:
            if advice := _describe_interval(axis):
                fields.note((*node_path, 0), "TYPE", advice)
            values[name] = [
                value for number, value in enumerate(axis) if fields.parameter((*node_path, number), value)
            ]
        elif isinstance(axis, dict):
            bounds = fields.range(axis, node_path, ("num",))
            num = fields.integer(axis, node_path, "num", 2, MAX_SETS)
            if bounds and num:
                values[name] = list(bounds.spread(num))
        else:
            message = "write a list of values, or {low: …, high: …, num: …}"
            fields.note(node_path, "EMPTY" if axis == [] else "TYPE", message)
    return Grid(values) if values else None


def _describe_interval(axis: list[object]) -> str:
    """Advice on a lone text such as 1..5, which means a range in other languages; "" for other values."""
    text = axis[0] if len(axis) == 1 else None
    if not isinstance(text, str) or not (match := _INTERVAL.fullmatch(text)):
        return ""
    low, high = (int(number) for number in match.groups())
    example = f"{{low: {low}, high: {high}, num: …}}"
    if low < high < low + _SHORT_INTERVAL:
        example = f"[{', '.join(str(number) for number in range(low, high + 1))}]"
    return f"{text} is a text, not a range; write {example}, or put it under fixed if the text is meant"


def _sample(fields: Fields, raw: dict[str, object], method: str) -> Sample | None:
    sample = fields.mapping(raw, (), method, filled=True)
    if not sample:
        return None
    fields.check_names(sample, (method,), ("n", "seed", "parameters"))
    n = fields.integer(sample, (method,), "n", 1, MAX_SETS)
    seed = fields.integer(sample, (method,), "seed", 0, contract.UINT64_MAX, default=0)
    parameters = fields.mapping(sample, (method,), "parameters", filled=True) or {}
    ranges: dict[str, Range] = {}
    are_valid = True
    for name, bounds in parameters.items():
        node_path: NodePath = (method, "parameters", name)
        if isinstance(bounds, dict):
            if value_range := fields.range(bounds, node_path, ("integer",)):
                ranges[name] = value_range
            else:
                are_valid = False
        else:
            fields.note(
                node_path, "TYPE", "write {low: …, high: …}; a value that stays the same goes under fixed"
            )
    # Without a valid seed the study is refused, but other problems of the sets are still reported.
    return Sample(method, n, seed or 0, ranges) if n and ranges and are_valid else None


def _check_sets(
    fields: Fields,
    raw: dict[str, object],
    sampling: Sampling,
    fixed: dict[str, object],
    replicates: int,
) -> None:
    """Record problems of all sets together: too many, or repeated."""
    sampling_path: NodePath = (next(key for key in (*SAMPLING_KEYS, "parameter_sets") if key in raw),)
    count = sampling.count
    if count > MAX_SETS:
        fields.note(
            sampling_path,
            "TOO_LARGE",
            f"{count:,} parameter sets exceed the limit of {MAX_SETS:,}; split the study",
        )
        return
    if count * replicates >= MAX_TASKS:
        product = f"{count:,} sets x {replicates:,} replicates are {count * replicates:,} tasks"
        fields.note(
            sampling_path, "TOO_LARGE", f"{product}, and a study must have fewer than {MAX_TASKS:,}; split it"
        )
        return
    for name in sorted(fixed.keys() & sampling.names):
        fields.note(("fixed", name), "CHOICE", f"{name} is also in {sampling_path[0]}; keep one")
    if not isinstance(sampling, Explicit) and (repeats := sampling.repeats()):
        grid = isinstance(sampling, Grid)
        hint = "remove the repeated value" if grid else "request fewer, or widen a range"
        fields.note(
            sampling_path, "DUPLICATE_SET", f"{repeats:,} of {count:,} parameter sets repeat others; {hint}"
        )
