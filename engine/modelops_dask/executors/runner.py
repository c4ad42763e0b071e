"""The process that runs a bundle's wire function: standard library only, one file, started by path.

    python runner.py SOCKET LIFELINE BUNDLE WIRE SEED_GLOBALS SOURCE RESEEDS CRASHES LIMITS
    request -> wire(entrypoint, params, seed) -> Answer
    a request is a list of tasks; each has its own answer, and the first that is not ok is the last
    with a limit of memory: allocations beyond it are refused, and the task died of TaskOOM

It runs with the bundle's own Python, which need not have modelops_dask, and uses Python 3.9's language.
Messages (messages.py) use an inherited socket: stdout and stderr belong to the model. process.py holds the
other ends. wire.py has found the function of WIRE. direct.py and zygote.py use its functions, so that a model
behaves the same in all of them. Processes are started and timed in process.py, and warm.py decides when.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import importlib.util
import os
import resource
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from functools import reduce

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from io import TextIOWrapper
    from typing import Any

    from modelops_dask.executors.programs import PeakMeter
    from modelops_dask.executors.workspace import Workspace
    from modelops_dask.generators import ModelGenerators

    Wire = Callable[[str, dict[str, Any], int], object]  # of (entrypoint, params, seed)


try:
    from _pickle import loads  # pickle.loads; pickle itself imports more than this whole file
except ImportError:
    from pickle import loads

ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _sibling(name: str, folder: str = "executors") -> Any:
    """Load a module of the engine by path, under a name that no model uses: it is not on sys.path."""
    path = os.path.join(ENGINE, folder, f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_modelops_{name}", path)
    assert spec is not None and spec.loader is not None  # for mypy: a path that ends in .py has both
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __package__:  # in the worker
    from modelops_dask import seeding
    from modelops_dask.executors import functions, messages
    from modelops_dask.executors import outputs as outputs_of

    def _functions() -> Any:
        return functions

else:

    def _functions() -> Any:
        _sibling("values", "return_values")
        return _sibling("functions")

    messages, outputs_of, seeding = _sibling("messages"), _sibling("outputs"), _sibling("seeding", "")

Answer = messages.Answer

GROUP = "modelops.wire"
TEXT_LIMIT = 64 * 1024  # characters of a traceback that are stored, from its end
FRAMES = 10_000  # frames of a traceback that are read, from its end; a million take a minute
OUT_OF_MEMORY = "TaskOOM"
PAGE_BYTES = resource.getpagesize()
MARK = b"\0modelops: end of task %d\0\n"  # after the output of a task of a message, by its number
LOST_CONNECTION = messages.LOST_CONNECTION
PLAIN = frozenset((str, int, float, bool, type(None)))  # types of immutable values
_perf_counter = time.perf_counter  # a model may replace it, to freeze the time
NOT_PUT_BACK = 75  # exit status if files cannot be restored: no further task may see them


class WireNotFound(Exception):
    """The bundle does not name the function to call; str() is for the bundle's author."""


class ProgramDied(Exception):
    """The program of a study with a command was killed: its task has died, as if this process had."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(f"{reason}\n{error}")
        self.reason, self.error = reason, error


# The wire function


def load_wire(bundle: str, reference: str) -> Wire:
    """The function of a reference from wire.find_wire(), imported from the bundle.

    "" asks the installed packages. So does "package.module.function()", which otherwise is a function to call
    by its name. JSON is the program of a study with a command. Puts the bundle's tree and its src/ first on
    sys.path. Raises WireNotFound, or any error of the import.
    """
    if reference.startswith("{"):
        return _load_program(bundle, reference)
    for path in (bundle, os.path.join(bundle, "src")):
        if os.path.isdir(path) and path not in sys.path:
            sys.path.insert(0, path)
    importlib.invalidate_caches()
    if reference.endswith("()"):
        by_name = _functions()
        if not by_name.has_installed_wire():
            return _load_function(by_name, bundle, reference[:-2])
        reference = ""
    reference = reference or _installed()
    target, _, name = reference.partition(":")
    module = _import_file(bundle, target) if target.endswith(".py") else importlib.import_module(target)
    try:
        attribute: Any = reduce(getattr, name.split("."), module)
    except AttributeError:
        raise WireNotFound(f"{reference}: {target} has no {name}") from None
    if not callable(attribute):
        raise WireNotFound(f"{reference} is not a function")
    wire: Wire = attribute
    return wire


def _load_function(by_name: Any, bundle: str, path: str) -> Wire:
    """The wire function that calls the function package.module.function."""
    try:
        wire: Wire = by_name.make_wire(path, by_name.load(path, bundle))
    except by_name.NoFunction as problem:
        raise WireNotFound(str(problem)) from None
    return wire


def _load_program(bundle: str, text: str) -> Wire:
    """The program of a study, as a wire function."""
    if __package__:
        from modelops_dask.executors import programs
    else:
        _sibling("placeholders", "")
        _sibling("children")
        _sibling("values", "return_values")
        _sibling("program_outputs")
        _sibling("program_start")
        programs = _sibling("programs")
    program: Wire = programs.Program(text, bundle, ProgramDied)
    return program


def make_meter(wire: Wire, own: PeakMeter) -> MemoryMeter:
    """The meter of the memory of tasks: of this process and of a program that runs in another."""
    measure_peak = getattr(wire, "measure_peak", None)
    return MemoryMeter(measure_peak(own) if measure_peak else own)


def _installed() -> str:
    # imported here: few bundles need it, and every child of a zygote would pay for it
    import importlib.metadata

    points: Any = importlib.metadata.entry_points()
    has_select = hasattr(points, "select")  # not in Python 3.9
    group_points = points.select(group=GROUP) if has_select else points.get(GROUP, ())
    references: list[str] = sorted({point.value for point in group_points})
    if len(references) > 1:
        raise WireNotFound(f"the environment has several entry points of {GROUP}: {', '.join(references)}")
    if not references:
        raise WireNotFound(
            "no wire function found. Name a function in the study file (model: module.function), or give the "
            "bundle one of\n"
            '  pyproject.toml: [project.entry-points."modelops.wire"] with NAME = "module:function"\n'
            '  .modelops/manifest.json: {"wire": "module:function"}\n'
            '  .modelops/modelops.toml: [modelops] wire = "module:function"\n'
            "  wire.py: a function wire(entrypoint, params, seed)"
        )
    return references[0]


def _import_file(bundle: str, target: str) -> Any:
    """The module of a file of the bundle, named within its package if it has one, so that relative imports
    work.
    """
    parts = os.path.normpath(target.removesuffix(".py")).split("/")
    if parts[0] == "src":
        parts = parts[1:]
    if all(part.isidentifier() for part in parts):
        return importlib.import_module(".".join(parts))
    path = os.path.join(bundle, target)
    spec = importlib.util.spec_from_file_location("bundle_wire", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise WireNotFound(f"{target} is not in the bundle")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# One call


def call(
    wire: Wire,
    entrypoint: str,
    params: dict[str, object],
    seed: int,
    memory: MemoryMeter,
    *,
    limit_bytes: int = 0,
    let_through: tuple[type[BaseException], ...] = (),
) -> Answer:
    """Call the wire function with its own copy of the parameters, so that changes affect no other call.

    Exceptions, including SystemExit, and returned errors become failed Answers.

    Args:
        limit_bytes: Memory limit of this process during the call, 0 for no limit. A refused allocation
            (shortage.py) is then the death TaskOOM, because the interrupted work cannot be trusted.
        let_through: Exceptions that are not Answers: in direct KeyboardInterrupt, which may come from the
            user. In a runner, whose session has no terminal, it comes from the model.
    """
    memory.begin(limit_bytes)
    started = _perf_counter()
    try:
        outputs = outputs_of.check_outputs(wire(entrypoint, _copy_value(params), seed))
        failure = outputs_of.find_failure(outputs)
    except let_through:
        raise
    except BaseException as error:
        limited = memory.lift()  # first, and without allocating memory, because there may be none left
        seconds = _perf_counter() - started
        answer = failed_answer(error, seconds, memory.end(seconds))
        if isinstance(error, ProgramDied):
            answer = answer._replace(status="died", reason=error.reason, error=error.error, failure="")
        judged: Answer = _shortage().judge_exception(answer, error, limit_bytes if limited else 0)
        error.__traceback__ = None  # its frames hold the data that filled the memory
        return judged
    seconds = _perf_counter() - started
    if failure:
        reason, error_text = failure
        kind = messages.TRANSIENT if outputs_of.is_transient_name(reason) else messages.MODEL
        limited = memory.lift()
        answer = Answer("failed", {}, reason, error_text, seconds, memory.end(seconds), kind)
        returned: Answer = _shortage().judge_returned(answer, limit_bytes if limited else 0)
        return returned
    peak_bytes = memory.end(seconds)
    if seconds > memory.SHORT_SECONDS and 0 < outputs_of.limits[0] < outputs_of.total_bytes(outputs):
        error_text = outputs_of.explain_size(outputs, outputs_of.limits, is_received=False)
        return Answer("failed", {}, outputs_of.TOO_LARGE, error_text, seconds, peak_bytes, messages.MODEL)
    # By position: keywords would take 0.15 us more for every task. A test fails if a field is added.
    return Answer("ok", outputs, "", "", seconds, peak_bytes)


def _shortage() -> Any:
    """The module shortage.py, loaded on demand, because few tasks fail and every new interpreter would pay
    for it.

    By path: a probe of diagnosis, which has loaded this as part of the engine, must not find the model's.
    """
    return sys.modules.get("_modelops_shortage") or _sibling("shortage")


def _copy_value(value: Any) -> Any:
    """A copy of parameters, including nested values. For JSON's types ten times as fast as deepcopy()."""
    kind = type(value)
    if kind is dict:
        copied = value.copy()
        for item in copied.values():
            if type(item) not in PLAIN:
                return {name: _copy_value(item) for name, item in copied.items()}
        return copied
    if kind is list:
        return [item if type(item) in PLAIN else _copy_value(item) for item in value]
    if kind in PLAIN:
        return value
    import copy

    return copy.deepcopy(value)


def limit_memory(limit_bytes: int) -> tuple[int, int] | None:
    """Limit this process to limit_bytes of private memory, by RLIMIT_DATA.

    Returns the arguments of setrlimit to undo it; None if there is no such limit. The kernel counts mappings,
    so memory that is already mapped but unused (stacks, arenas) is granted on top. Shared memory (mmap,
    /dev/shm) is not counted.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = file.read().split()
    except OSError:  # no Linux
        return None
    _, resident, shared, _, _, data, _ = (int(field) * PAGE_BYTES for field in pages)
    soft = data + max(0, limit_bytes - (resident - shared))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    least = min((value for value in before if value >= 0), default=soft)  # -1: no limit
    resource.setrlimit(resource.RLIMIT_DATA, (min(soft, least), before[1]))
    return before


def failed_answer(error: BaseException, seconds: float = 0.0, peak_bytes: int = 0) -> Answer:
    """A failed Answer: the exception's type, and its traceback without the engine's frames before it."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename.startswith(ENGINE + os.sep):
        frames = frames.tb_next
    try:
        # Imported here: tasks seldom fail, and every process's start would take 4 ms more.
        traceback = messages.import_standard("traceback")
        text = "".join(traceback.format_exception(type(error), error, frames, limit=-FRAMES))
    except Exception as second:  # a failing __str__ or __cause__ of the model
        text = f"{type(error).__name__}, and its traceback cannot be printed: {type(second).__name__}"
    text = text[-TEXT_LIMIT:].encode("utf-8", "backslashreplace").decode()  # file names may not be text
    kind = messages.START_FAILURE if isinstance(error, messages.CannotCall) else messages.MODEL
    with contextlib.suppress(Exception):  # a failing attribute of the model's exception
        kind = messages.TRANSIENT if outputs_of.is_transient(error) else kind
    return Answer("failed", {}, type(error).__name__, text, seconds, peak_bytes, kind)


def describe_end(status: int | None) -> tuple[str, str]:
    """(reason, error) of a process that ended without an answer.

    status is its exit status, or minus the signal that killed it; None if it still runs with its connection
    closed.
    """
    if status is None or status == LOST_CONNECTION:
        return "connection closed", "the model closed the descriptors of its process"
    if status < 0:
        return f"killed by signal {-status}", signal.strsignal(-status) or ""
    return f"exited with status {status}", "the model ended its process"


class Peak:
    """The highest resident memory of this process since reset(), in bytes.

    Linux: writing 5 to clear_refs resets VmHWM. ru_maxrss then follows it at a tenth of the cost of reading
    /proc/self/status, but never falls below the peak of the process that spawned this one, so below that
    value the file is read. On other systems, or if /proc is read-only: the peak since the process started.
    """

    def __init__(self, resets: bool = True) -> None:
        self._clear = self._status = -1
        self._inherited_bytes = 0
        with contextlib.suppress(OSError):
            self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY) if resets else -1
            self._status = os.open("/proc/self/status", os.O_RDONLY)
            self.reset()
            floor = maxrss_bytes()
            self._inherited_bytes = floor if floor > self._from_status() + (1 << 20) else 0

    def reset(self) -> None:
        if self._clear >= 0:
            with contextlib.suppress(OSError):  # the model may have closed it
                os.write(self._clear, b"5")

    def read(self) -> int:
        peak = maxrss_bytes()
        if peak > self._inherited_bytes or self._status < 0:
            return peak
        try:
            return self._from_status()
        except (OSError, ValueError):
            return peak

    def _from_status(self) -> int:
        text = os.pread(self._status, 4096, 0)
        start = text.index(b"VmHWM:") + 6
        return int(text[start : text.index(b"kB", start)]) * 1024


class MemoryMeter:
    """The memory limits of tasks in this process, and the peak of each.

    Between two calls of lift(), one in IN_A_ROW successive short tasks is measured and has its limit set; the
    others share both: in SHORT_SECONDS a task can use no more than a few MiB.
    """

    SHORT_SECONDS, IN_A_ROW = 1e-4, 256

    def __init__(self, peak: PeakMeter) -> None:
        self._peak = peak
        self._last_bytes = self._sharing = 0  # tasks that may still share
        self._before: tuple[int, int] | None = None

    def begin(self, limit_bytes: int) -> None:
        """Call it before a task: limit_bytes is the new limit of the process, 0 for no limit."""
        if not self._sharing:
            self.lift()
            self._peak.reset()
            self._before = limit_memory(limit_bytes) if limit_bytes else None

    def end(self, seconds: float) -> int:
        """Call it after a task with its duration: returns the peak memory of the process in bytes."""
        short = seconds < self.SHORT_SECONDS
        if short and self._sharing:
            self._sharing -= 1
            return self._last_bytes
        if not short:
            self.lift()
        self._last_bytes = self._peak.read()
        self._sharing = self.IN_A_ROW - 1 if short else 0
        return self._last_bytes

    def lift(self) -> bool:
        """Remove the limit and stop sharing; return whether there was one."""
        self._sharing = 0
        if self._before is None:
            return False
        resource.setrlimit(resource.RLIMIT_DATA, self._before)
        self._before = None
        return True


def maxrss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# The process


def main(
    socket_fd: int,
    lifeline_fd: int,
    bundle: str,
    reference: str,
    *,
    seeds: bool,
    source: str,
    reseeds: bool,
    crash_fd: int,
    output_limits: str,
) -> int:
    """Import the model, then answer requests until the worker closes the socket.

    Args:
        source: The checked copy of the bundle, from which tasks' changes are reverted; "" leaves them to
            others.
        seeds: Whether to seed the global generators.
        reseeds: Whether to seed those that the model keeps at module level.
        crash_fd: As in begin().
        output_limits: As in begin().
    """
    connection, output = begin(socket_fd, lifeline_fd, bundle, crash_fd=crash_fd, output_limits=output_limits)
    try:
        wire, generators = load_model(bundle, reference, seeds, reseeds)
        memory = make_meter(wire, Peak())
        files: Workspace | None = None
        if source:
            is_program = reference.startswith("{")  # checking is fast compared with its start
            begin_workspace = _sibling("workspace").begin_workspace
            files = begin_workspace(bundle, source, stays=True, always_looks=is_program)
    except BaseException as error:
        output.flush()
        connection.send(messages.START, failed_answer(error))
        return 1
    output.flush()
    connection.send(messages.START, messages.READY)
    while (body := connection.receive()) is not None:
        nonce, first, calls = loads(body)
        try:
            if not calls:
                connection.send(messages.turn(nonce, first), messages.PONG)
            for number, (entrypoint, params, seed, limit_bytes) in enumerate(calls, first):
                if seeds:
                    seeding.seed_globals(seed)
                if generators:
                    generators.seed(seed)
                answer = call(wire, entrypoint, params, seed, memory, limit_bytes=limit_bytes)
                goes_on = answer.status == "ok" and number < first + len(calls) - 1
                connection.hold()
                if files:
                    files.after_task(answer.seconds, not goes_on, memory.lift)
                output.flush()
                if goes_on:
                    output.mark(number)
                connection.send(messages.turn(nonce, number), answer)
                if not goes_on:
                    break
                if files and files.problem:
                    return NOT_PUT_BACK
            memory.lift()
        except OSError:
            return LOST_CONNECTION
    return 0


def begin(
    socket_fd: int,
    lifeline_fd: int,
    bundle: str,
    oom_score: int = 1000,
    *,
    crash_fd: int = -1,
    output_limits: str = "0,0,0",
) -> tuple[messages.Connection, OutputCapture]:
    """Make this process a runner: set up its connection to the worker, and the model's output.

    Args:
        oom_score: How soon the kernel ends it when memory runs out: 1000 before everything else.
        crash_fd: Receives reports of crashes in C (crash.py); -1: stderr.
        output_limits: Those of outputs.limits.
    """
    received, stored, process = map(int, output_limits.split(","))
    outputs_of.limits = received, stored, process
    os.set_inheritable(socket_fd, False)
    os.set_inheritable(lifeline_fd, False)
    end_with(lifeline_fd)
    set_oom_score(oom_score)
    if crash_fd >= 0:
        os.set_inheritable(crash_fd, False)
    faulthandler.enable(
        crash_fd if crash_fd >= 0 else 2
    )  # a crash in C leaves its Python stack in the task's log
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the folder of this file: its modules would shadow the model's
    sys.argv[:] = [bundle]
    return messages.Connection(socket_fd), OutputCapture()


def set_oom_score(score: int) -> None:
    """Raise oom_score_adj of this process: raising needs no privileges."""
    with contextlib.suppress(OSError):
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)  # open() costs a new child 0.3 ms
        try:
            os.write(file, b"%d" % score)
        finally:
            os.close(file)


def load_model(
    bundle: str, reference: str, seeds: bool, reseeds: bool
) -> tuple[Wire, ModelGenerators | None]:
    """Like load_wire(), with seeding prepared.

    NumPy's global generator is also seeded if a task is the first to import it, and the model's own
    generators are collected if the study has them seeded.
    """
    if seeds:
        seeding.expect_numpy()
    generators = seeding.watch_model(bundle) if reseeds else None
    wire = load_wire(bundle, reference)
    if generators:
        generators.collect()
    return wire, generators


class OutputCapture:
    """The model's stdout and stderr, restored after each task: a model may have closed or replaced them."""

    def __init__(self) -> None:
        self._saved = [os.dup(1), os.dup(2)]
        self._open()

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os.dup2(self._saved[0], 1)
        os.dup2(self._saved[1], 2)
        out, err = self._streams
        if sys.stdout is not out or sys.stderr is not err or out.closed or err.closed:
            self._open()

    def mark(self, number: int) -> None:
        """Separate a task's output from that of the next one, if the worker has not read it yet."""
        if fcntl.ioctl(1, termios.FIONREAD, bytes(4)) != bytes(4):
            os.write(1, MARK % number)

    def _open(self) -> None:
        self._streams = _text_writer(1), _text_writer(2)
        sys.stdout, sys.stderr = self._streams
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]  # Final, but closed by models


def _text_writer(descriptor: int) -> TextIOWrapper:
    """A stream that writes line by line, so that output before a crash has left the process."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)


def end_with(lifeline_fd: int) -> None:
    """Kill this process's group when the worker has ended, whatever the model is doing.

    The worker holds the other end of the lifeline and never writes. On Linux the kernel sends the group
    SIGKILL when that end closes: no thread is needed, and a model that holds the interpreter's lock does not
    delay it. (PR_SET_PDEATHSIG follows the thread that spawned us, which ends long before the worker does.)
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC)
        if is_readable(lifeline_fd):  # it ended before the signal was set up
            os._exit(1)
        return

    def watch() -> None:
        os.read(lifeline_fd, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def is_readable(descriptor: int) -> bool:
    """Whether there is data or the end of the stream. poll(): select() supports no number of 1024 or more."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]),
            int(sys.argv[2]),
            sys.argv[3],
            sys.argv[4],
            seeds=sys.argv[5] == "1",
            source=sys.argv[6],
            reseeds=sys.argv[7] == "1",
            crash_fd=int(sys.argv[8]),
            output_limits=sys.argv[9],
        )
    )
