"""The program of a study with a command, as a wire function: it is started anew for each task.

    (entrypoint, params, seed) -> arguments, environment, parameters file -> the program, in the runner's copy
    of the bundle -> exit status 0 -> its output files (program_outputs.py) -> outputs
                  -> another        -> ProgramFailed, with the end of what it printed on standard error

It is in the process group of its runner, so that a time limit, or the end of the worker, ends it and all that
it started; what it leaves running is ended with the task. Memory limits of the runner are inherited.
Standard library only, in Python 3.9's language: runner.py loads it by path.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Protocol

    class PeakMeter(Protocol):
        """The most memory that was resident since reset(), in bytes."""

        def reset(self) -> None: ...

        def read(self) -> int: ...


if __package__:
    from modelops_dask import placeholders
    from modelops_dask.executors import children, program_outputs, program_start
    from modelops_dask.executors import outputs as outputs_of
else:  # runner.py has loaded them by path
    children, placeholders = sys.modules["_modelops_children"], sys.modules["_modelops_placeholders"]
    program_outputs = sys.modules["_modelops_program_outputs"]
    program_start = sys.modules["_modelops_program_start"]
    outputs_of = sys.modules["_modelops_outputs"]

TAIL_BYTES = 16 * 1024  # of what a program printed, kept from the end for the error
TAIL_LINES = 40  # of them that an error shows
LOOK_MS = 50  # how often a silent program is looked after: what it started may hold its output open
BUSY_TRIES, BUSY_SECONDS = 50, 0.02  # of a start while another process still has the file open for writing
STDOUT = "-"
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)  # how programs end that do not expect to get none
NEARLY = 0.8  # of its limit that a program held when it crashed: memory was the cause


class ProgramFailed(Exception):
    """The program ended with an exit status that is not 0."""

    __module__ = "builtins"


class Program:
    """A study's program: called like a wire function, it runs once."""

    def __init__(self, text: str, folder: str, died: Callable[[str, str], BaseException]) -> None:
        """text is JSON, as in study.json; folder the copy of the bundle in which it works; died makes the
        exception for a program that was killed, of (reason, error).
        """
        program: dict[str, Any] = json.loads(text)
        self._command: list[str] = program["command"]
        self._variables: dict[str, str] = program.get("environment", {})
        self._parameters_file: str = program.get("parameters_file", "")
        self._outputs: dict[str, dict[str, str]] = program["outputs"]
        self._folder, self._died = folder, died
        texts = (*self._command, *self._variables.values(), *(out["file"] for out in self._outputs.values()))
        self._names = {name for each in texts for name in placeholders.list_names(each)}
        self._threads = count_threads(os.environ.get("OMP_NUM_THREADS", ""))
        self._orphans: children.Orphans | None = None
        self._pid = 0  # of the process that the orphans fall to
        self._peak_bytes = 0  # of the program that ran last

    def __call__(self, entrypoint: str, params: dict[str, Any], seed: int) -> outputs_of.NamedOutputs:
        """Run the program for one task, and read its outputs. Raises ProgramError, MemoryError, OSError."""
        if self._pid != os.getpid():  # also in a child that a zygote forked
            self._pid, self._orphans = os.getpid(), children.Orphans()
        values = self._fill_values(entrypoint, params, seed)
        files = {name: placeholders.fill(each["file"], values) for name, each in self._outputs.items()}
        made = program_outputs.Files(self._folder, [file for file in files.values() if file != STDOUT])
        try:
            made.prepare()
            if self._parameters_file:
                made.write(self._parameters_file, json.dumps(params, ensure_ascii=False).encode() + b"\n")
            with contextlib.ExitStack() as stack:
                printed = stack.enter_context(tempfile.TemporaryFile()) if STDOUT in files.values() else None
                self._run([placeholders.fill(text, values) for text in self._command], values, printed)
                return outputs_of.NamedOutputs(
                    program_outputs.read_outputs(
                        {name: (file, self._outputs[name]["format"]) for name, file in files.items()},
                        self._folder,
                        printed,
                        made.present,
                    )
                )
        finally:
            made.remove()

    def measure_peak(self, own: PeakMeter) -> PeakMeter:
        """A meter of the memory of this process and of the program that it runs."""
        return ProgramPeak(self, own)

    def take_peak(self) -> int:
        """The most memory in bytes that the program which ran last had resident; 0 before the next one."""
        peak_bytes, self._peak_bytes = self._peak_bytes, 0
        return peak_bytes

    def _fill_values(self, entrypoint: str, params: dict[str, Any], seed: int) -> dict[str, str]:
        own = {
            "seed": str(seed),
            "scenario": entrypoint.partition("/")[2],
            "threads": str(self._threads),
            "parameters_file": self._parameters_file,
        }
        values = {}
        for name in self._names:
            if name not in own and name not in params:
                raise program_start.ProgramError(
                    f"the command has {{{name}}}, and the task has no parameter of that name"
                )
            try:
                values[name] = own[name] if name in own else placeholders.format_value(params[name])
            except ValueError as error:
                raise program_start.ProgramError(f"{name}: {error}") from None
        return values

    def _run(self, arguments: list[str], values: dict[str, str], printed: BinaryIO | None) -> None:
        """Run the program to its end. Raises what its end means."""
        variables = {name: placeholders.fill(text, values) for name, text in self._variables.items()}
        environment = {**os.environ, "PWD": self._folder, **variables}
        path = program_start.find_program(arguments[0], self._folder, environment.get("PATH", os.defpath))
        process = self._start(path, arguments, environment, printed)
        tails = {"stderr": Tail(2), "stdout": Tail(1)}
        streams = {process.stderr: tails["stderr"], process.stdout: tails["stdout"]}
        try:
            status, usage = _follow(process, {each.fileno(): tail for each, tail in streams.items() if each})
        finally:
            for stream in streams:
                if stream:
                    stream.close()
        assert self._orphans is not None, "__call__ made it"
        self._orphans.end(spare=None)
        self._peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if status:
            said = tails["stderr"].text() or tails["stdout"].text()
            raise self._explain_end(arguments, status, said)

    def _start(
        self, path: str, arguments: list[str], environment: dict[str, str], printed: BinaryIO | None
    ) -> subprocess.Popen[bytes]:
        for _ in range(BUSY_TRIES):
            try:
                return subprocess.Popen(
                    arguments,
                    executable=path,
                    bufsize=0,
                    stdin=subprocess.DEVNULL,
                    stdout=printed or subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._folder,
                    env=environment,
                )
            except OSError as error:
                if not program_start.is_busy(error):
                    problem = program_start.explain_start(path, arguments[0], error)
                    raise problem or error from None
            time.sleep(BUSY_SECONDS)
        raise program_start.ProgramNotExecutable(f"{arguments[0]} stays open for writing in another process")

    def _explain_end(self, arguments: list[str], status: int, said: str) -> BaseException:
        """The exception for the status of a program, less than 0 for a signal."""
        number = -status if status < 0 else status - 128 if status == 128 + signal.SIGKILL else 0
        how = f"was killed by signal {number}" if number else f"ended with exit status {status}"
        limit_bytes = resource.getrlimit(resource.RLIMIT_DATA)[0]
        held_much = number in CRASHES and self._peak_bytes >= NEARLY * limit_bytes
        lines = said.splitlines()
        text = "\n".join([f"command: {arguments!r}", *lines[-TAIL_LINES:]])
        if held_much and limit_bytes != resource.RLIM_INFINITY:  # what it said of memory the runner reads
            return MemoryError(f"the program {how}, with {self._peak_bytes >> 20:,} MiB resident\n{text}")
        if number:
            return self._died(f"killed by signal {number}", f"{signal.strsignal(number)}\n{text}")
        last_line = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
        return ProgramFailed(f"exit status {status}{last_line}\n{text}")


class ProgramPeak:
    """For runner.MemoryMeter: the peak of this process, and of the program beside it."""

    def __init__(self, program: Program, own: PeakMeter) -> None:
        self._program, self._own = program, own

    def reset(self) -> None:
        """Forget earlier peaks."""
        self._program.take_peak()
        self._own.reset()

    def read(self) -> int:
        """The most that both held, in bytes."""
        return self._own.read() + self._program.take_peak()


class Tail:
    """The end of what a program printed, passed on to a descriptor of this process as it comes."""

    def __init__(self, target: int) -> None:
        self._target, self._data = target, b""

    def add(self, data: bytes) -> None:
        """Pass on what was printed."""
        self._data = (self._data + data)[-TAIL_BYTES:]
        while data:
            data = data[os.write(self._target, data) :]

    def text(self) -> str:
        """What is kept, as text."""
        return self._data.decode("utf-8", "replace").replace("\0", "\\0").strip()


def _follow(process: subprocess.Popen[bytes], tails: dict[int, Tail]) -> tuple[int, resource.struct_rusage]:
    """Pass on what a program prints until it ends: (exit status, or less the signal; what it used)."""
    poll = select.poll()
    for descriptor in tails:
        poll.register(descriptor, select.POLLIN)
        os.set_blocking(descriptor, False)
    n_open = len(tails)
    while n_open:
        for descriptor, _ in poll.poll(LOOK_MS):
            if not _pass_on(descriptor, tails[descriptor]):
                poll.unregister(descriptor)
                n_open -= 1
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            for descriptor, tail in tails.items():
                _pass_on(descriptor, tail)  # what a pipe holds at most
            break
    else:
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _pass_on(descriptor: int, tail: Tail) -> bool:
    """Pass on what there is to read; False at the end."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return True
    tail.add(data)
    return bool(data)


def count_threads(text: str) -> int:
    """The threads that a task owns, from OMP_NUM_THREADS, which may be a list, one for each level."""
    first = text.partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else 1
