"""The worker's side of a probe: tasks in one process of their own, with a look inside.

    run(bundle, settings, calls, ask) -> a process that runs inside.py -> Probed

The process is a runner like those of the executors (same interpreter, folder, variables, ends): process.py.
What it looks at is snapshot.py's and tracing.py's; they run inside, with the bundle's Python.
Does not compare, judge or repeat: polluter.py, sources.py and growth.py decide from what several probes say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelops_dask.bundle import Bundle
from modelops_dask.executors.process import Call
from modelops_dask.executors.runner import Answer
from modelops_dask.settings import Settings


@dataclass(frozen=True)
class Ask:
    """What to look at while the tasks run; with nothing asked for, only outputs and memory are reported.

    changes: what the tasks but the last left in the process, and for each change whether the last task's
    result differs without it. trace: calls of clocks and of sources of randomness and identity. frozen: kinds
    of sources (sources.KINDS) that answer the same in every process.
    """

    changes: bool = False
    trace: bool = False
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """Something that the process holds otherwise than before its first task; texts are short.

    `decides` is whether the last task's result is another once this is undone; None: it cannot be undone.
    """

    where: str  # "module sir", "cwd", "os.environ", ...
    name: str  # "_cache"; "" where `where` says it all
    before: str
    after: str
    decides: bool | None

    def __str__(self) -> str:
        what = f"{self.where}: {self.name}" if self.name else self.where
        return f"{what}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Use:
    """A call of a source, and the nearest line of the bundle that led to it (line 0: none did)."""

    kind: str  # one of sources.KINDS
    call: str  # "time.time"
    file: str  # within the bundle
    line: int
    times: int


@dataclass(frozen=True)
class Probed:
    """What a probe saw. Lists end early when the process did; `reason` then says how, else it is "".

    answers: one a task. resident_bytes: of the process, after each task. reason: as Outcome.reason
    ("killed by signal 9", "TaskTimeout"), or the exception's type when importing the model raised.
    """

    answers: tuple[Answer, ...]
    resident_bytes: tuple[int, ...]
    changes: tuple[Change, ...] = ()
    uses: tuple[Use, ...] = ()
    reason: str = ""
    error: str = ""
    log: str = ""


def run(
    bundle: Bundle,
    settings: Settings,
    calls: Sequence[Call],
    ask: Ask = Ask(),
    *,
    timeout_seconds: float,
    threads: int = 0,
) -> Probed:
    """Run calls one after another in a new process, where the settings' environment of the bundle is.

    After timeout_seconds, start and all tasks together, the process and all that it started are killed; what
    it said before is kept. A task that fails does not end the run. threads are those of native code, 0 as in
    executors.Task. Global generators are seeded if settings.seed_globals says so. Raises BadInput: no wire
    function, no environment.
    """
    raise NotImplementedError
