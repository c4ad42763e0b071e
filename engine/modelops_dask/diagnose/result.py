"""The result of `diagnose`: a verdict, its proof, what to use until the bug is fixed, and what was not
excluded.

Plain data, for rendering and JSON. Decisions are made in verdict.py.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from modelops_dask.diagnose.verdict.verdict import Fact


@dataclass(frozen=True)
class TaskRef:
    """A task of the study: "SET/REPLICATE", and its arguments."""

    task: str
    params: dict
    seed: int


@dataclass(frozen=True)
class Example:
    """One difference: its location, the expected (reference) and the actual value, both as short text.

    kind: `rounding` (relative difference at most 1e-9), `different`, or `status`. column and row are of a
    table, `path` of JSON; byte is the first that differs in other outputs.
    """

    task: str
    output: str
    expected: str
    found: str
    kind: str
    column: str | None = None
    row: int | None = None
    path: str | None = None
    byte: int | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Evidence:
    """`differing` of `compared` results of arms[0] differ from those of arms[1]; `seen`: in how many
    repeats.
    """

    arms: tuple[str, ...] = ()
    differing: int = 0
    compared: int = 0
    seen: str = ""
    example: Example | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pollution:
    """The shortest known sequence of tasks after which the victim's result changes."""

    tasks: tuple[TaskRef, ...]
    victim: TaskRef
    changed: tuple[str, ...]
    script: str


@dataclass(frozen=True)
class SourceRef:
    """A source of the model's randomness; confirmed: without it, runs agree."""

    kind: str
    call: str
    file: str
    line: int
    confirmed: bool


@dataclass(frozen=True)
class Leak:
    """Growth of a process with its tasks; low and high bound the slope (99%)."""

    slope_bytes_per_task: float
    low: float
    high: float
    max_process_reuse: int


@dataclass(frozen=True)
class ArmReport:
    """The result of an arm: same, differs, not run, cannot be judged. It ran `lanes`, in total `tasks`
    tasks.
    """

    arm: str
    state: str
    why: str = ""
    tasks: int = 0
    lanes: int = 0
    differing: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Observation:
    """A run of a task, at `position` of a lane in a trial of an arm. outputs: digests in hex, by name."""

    arm: str
    trial: int
    lane: int
    position: int
    task: str
    seed: int
    status: str
    reason: str
    error: str
    seconds: float
    peak_bytes: int
    outputs: dict[str, str]


@dataclass(frozen=True)
class Diagnosis:
    """The result of the experiment. `preset` is what to use until the bug is fixed, `values` the same as
    chart values.

    confidence is that of confidence.py, in [0, 1]. `orders` are those of the tasks, as numbers of the sample.
    """

    verdict: str
    because: str
    confidence: float
    preset: str
    values: dict
    evidence: Evidence
    facts: dict[str, Fact] = field(default_factory=dict)
    polluter: Pollution | None = None
    sources: tuple[SourceRef, ...] = ()
    memory: Leak | None = None
    not_excluded: tuple[str, ...] = ()
    arms: tuple[ArmReport, ...] = ()
    tasks: int = 0
    orders: int = 0
    seed: int = 0
    budget_seconds: float = 0.0
    seconds: float = 0.0
    observations: tuple[Observation, ...] = field(default=(), repr=False)

    @property
    def needs_workaround(self) -> bool:
        """Whether a workaround is needed until the bug is fixed."""
        return self.verdict != "healthy"

    def as_json(self) -> dict:
        """Plain data: the contract of `diagnose -o json`. The observations are left out."""
        fields = asdict(replace(self, observations=()))
        del fields["observations"]
        return fields


def read(data: Mapping[str, Any]) -> Diagnosis:
    """The Diagnosis that asdict() or as_json() made into plain data, also by way of JSON."""
    return _read(Diagnosis, data)


def _read(kind: Any, value: Any) -> Any:
    """A value of an annotated type. Lists become tuples where the type is a tuple."""
    if value is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        kinds = get_type_hints(kind)
        names = [attribute.name for attribute in fields(kind) if attribute.name in value]
        return kind(**{name: _read(kinds[name], value[name]) for name in names})
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], element) for element in value)
    inner = next(filter(is_dataclass, get_args(kind)), None)  # of X | None
    return _read(inner, value) if inner else value
