"""The worker's side of a probe: tasks in their own process, which is inspected.

    run(bundle, settings, calls, request) -> a process that runs inside/main.py -> ProbeResult

The process is a runner like those of the executors (same interpreter, folder, variables, end): process.py.
polluter.py, sources.py and growth.py compare, judge and repeat probes.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.errors import BadInput
from modelops_dask.executors import mailbox, messages
from modelops_dask.executors.messages import Answer
from modelops_dask.executors.process import Call, Runner, RunnerLost
from modelops_dask.executors.wire import find_wire
from modelops_dask.settings import Settings
from modelops_dask.workers.local import environment as set_variables


@dataclass(frozen=True)
class ProbeRequest:
    """What to inspect while the tasks run. By default only results and memory are reported.

    Attributes:
        changes: Report the state that all tasks but the last leave in the process, and whether the last one's
            result depends on it.
        memory: Collect garbage before memory is read.
        trace: Report uses of sources of randomness.
        lines: With trace, report every line that draws from the global generators (slow).
        frozen: The sources answer the same in every process.
        shifted: A kind or KIND@FILE:LINE of a Use that has another answer.
        files: Contents of files before the start (None: no such file), as in ProbeResult.files_before.
        variables: Of the process, in addition to the usual ones.
        reverses_listings: Reverse directory listings.
        clears: Clear the folder before the start.
    """

    changes: bool = False
    memory: bool = False
    trace: bool = False
    lines: bool = False
    frozen: bool = False
    shifted: str = ""
    files: dict[str, bytes | None] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    reverses_listings: bool = False
    clears: bool = False


@dataclass(frozen=True)
class Change:
    """A value in the process that differs from its value before the first task; texts are short.

    `decides`: whether the last task's result depends on it; None if not known.
    """

    holder: str  # "module sir", "cwd", "os.environ", ...
    name: str  # "_cache"; "" if `holder` is sufficient
    before: str
    after: str
    decides: bool | None

    def __str__(self) -> str:
        subject = f"{self.holder}: {self.name}" if self.name else self.holder
        return f"{subject}: {self.before} -> {self.after}" if self.before or self.after else subject


@dataclass(frozen=True)
class Use:
    """A call of a source of randomness, and the nearest line of the bundle that led to it."""

    kind: str  # one of sources.KINDS
    call: str  # "time.time"
    file: str  # within the bundle
    line: int
    times: int


@dataclass(frozen=True)
class ProbeResult:
    """The report of a probe. If the process ended early, it is incomplete, with a `reason`, else "".

    Attributes:
        answers: One per task.
        resident_bytes: Of the process, after each task.
        reason: As Outcome.reason ("killed by signal 9", "TaskTimeout"), or the exception's type if importing
            the model raised.
        files_before: With trace, files that the model wrote, with their contents before (None: new).
    """

    answers: tuple[Answer, ...] = ()
    resident_bytes: tuple[int, ...] = ()
    changes: tuple[Change, ...] = ()
    uses: tuple[Use, ...] = ()
    files_before: dict[str, bytes | None] = field(default_factory=dict)
    reason: str = ""
    error: str = ""
    log: str = ""


def run(
    bundle: Bundle,
    settings: Settings,
    calls: Sequence[Call],
    request: ProbeRequest = ProbeRequest(),
    *,
    timeout_seconds: float,
    threads: int = 0,
) -> ProbeResult:
    """Run calls one after another in a new process, in the settings' cached environment of the bundle.

    After timeout_seconds, including the start, the process and all that it started are killed; earlier
    reports are kept. A failed task does not end the run. threads of native code: as in executors.Task. Global
    generators are seeded if settings.seed_globals is set, those of the model if bundle.reseeds is. Raises
    BadInput: no wire function, no environment.
    """
    deadline = time.monotonic() + timeout_seconds
    python = venv.environment(bundle, settings).python
    with set_variables(request.variables):
        probe = Probe(
            python,
            bundle.path,
            bundle.program or find_wire(bundle.path, calls[0][0]),
            seed_globals=settings.seed_globals,
            reseeds=bundle.reseeds,
            keep_pythonpath=settings.executor_environment == "image",
            threads=threads,
            numba_cache=Path(f"{bundle.path}.numba"),
        )
    return probe.execute(calls, request, deadline)


class Probe(Runner):
    """A process that runs inside/main.py."""

    SCRIPT = Path(__file__).parent / "inside" / "main.py"

    def execute(self, calls: Sequence[Call], request: ProbeRequest, deadline: float) -> ProbeResult:
        """Run the calls and return the requested report; the process has ended afterwards.

        Raises BadInput: no wire function.
        """
        seconds = deadline - time.monotonic()
        message = list(calls), asdict(request) | {"seconds": 0.8 * seconds}
        result = ProbeResult()
        ended = False
        try:
            self._send(message, max(0.001, seconds))
            while not ended:
                left = max(0.001, deadline - time.monotonic())
                match self._receive_message(left):
                    case (["again"], _):
                        self._send(message, left)
                    case (["changes", list(records)], _):
                        result = replace(result, changes=tuple(Change(*record) for record in records))
                    case (["answer", int(resident_bytes)], _):
                        result = replace(
                            result,
                            answers=(*result.answers, self._answer_after(left)),
                            resident_bytes=(*result.resident_bytes, resident_bytes),
                        )
                    case (["end", list(records), list(lengths)], contents):
                        uses = tuple(Use(*record) for record in records)
                        result = replace(result, uses=uses, files_before=_split_contents(lengths, contents))
                        ended = True
                    case (["failed"], _):
                        answer = self._answer_after(left)
                        if answer.reason == "WireNotFound":
                            raise BadInput(f"bundle: {answer.error.partition('WireNotFound: ')[2].strip()}")
                        return ProbeResult(reason=answer.reason, error=answer.error, log=self.log)
        except RunnerLost as lost:
            return replace(result, reason=lost.reason, error=lost.error, log=lost.log)
        finally:
            self._drain()
            self.kill()
        return replace(result, log=self.log)

    def _receive_message(self, seconds: float) -> tuple[Any, memoryview]:
        """The next message: its JSON, and the bytes after it."""
        try:
            return mailbox.open_frame(
                self._frame(messages.START, seconds, "TaskTimeout", "the tasks did not end")
            )
        except mailbox.OutOfTurn as misfit:
            raise self._ended(messages.OUT_OF_TURN, str(misfit)) from None

    def _answer_after(self, seconds: float) -> Answer:
        return self._receive(messages.START, seconds, "TaskTimeout", "the tasks did not end")


def _split_contents(lengths: list, contents: memoryview) -> dict[str, bytes | None]:
    """Contents by path, from pairs (path, length); a length of None: the file did not exist."""
    files: dict[str, bytes | None] = {}
    offset = 0
    for path, length in lengths:
        files[path] = None if length is None else bytes(contents[offset : offset + length])
        offset += length or 0
    return files
