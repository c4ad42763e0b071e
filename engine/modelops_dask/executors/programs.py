"""The program of a study with a command, as a wire function that starts it for each task.

    (entrypoint, params, seed) -> arguments, environment, parameters file -> the program, in the runner's copy
    of the bundle -> exit status 0 -> its output files (program_outputs.py) -> outputs
                  -> another        -> ProgramFailed, with the end of its standard error

It is in the process group of its runner, so that a time limit, or the end of the worker, ends it and all that
it started; processes that it leaves running end with the task. It inherits the runner's memory limits. This
module uses only the standard library and Python 3.9's language, because runner.py loads it by path.
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
        """The peak resident memory since reset(), in bytes."""

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

TAIL_BYTES = 16 * 1024  # of a program's output, from the end, for the error
TAIL_LINES = 40  # lines of it that an error shows
LOOK_MS = 50  # interval of checks on a silent program: its children may hold its output open
# retries of a start while another process still has the file open for writing
BUSY_TRIES, BUSY_SECONDS = 50, 0.02
STDOUT = "-"
# signals that end programs without being sent to them on purpose
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
NEARLY = 0.8  # fraction of its limit that a program held when it crashed: memory was the cause


class ProgramFailed(Exception):
    """The program ended with a nonzero exit status."""

    __module__ = "builtins"


class Program:
    """A study's program: called like a wire function, it runs once."""

    def __init__(self, text: str, folder: str, died: Callable[[str, str], BaseException]) -> None:
        """Prepare a program.

        Args:
            text: JSON, as in study.json.
            folder: The copy of the bundle in which it works.
            died: Makes the exception for a killed program, from (reason, error).
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
        self._pid = 0  # of the process that adopts the orphans
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
        """The peak resident memory in bytes of the last program; 0 before the next one."""
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
                    f"the command has {{{name}}}, but the task has no parameter of that name"
                )
            try:
                values[name] = own[name] if name in own else placeholders.format_value(params[name])
            except ValueError as error:
                raise program_start.ProgramError(f"{name}: {error}") from None
        return values

    def _run(self, arguments: list[str], values: dict[str, str], printed: BinaryIO | None) -> None:
        """Run the program to its end. Raises an error that depends on its end."""
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
        raise program_start.ProgramNotExecutable(
            f"{arguments[0]} is still open for writing in another process"
        )

    def _explain_end(self, arguments: list[str], status: int, said: str) -> BaseException:
        """The exception for the status of a program, negative for a signal."""
        number = -status if status < 0 else status - 128 if status == 128 + signal.SIGKILL else 0
        how = f"was killed by signal {number}" if number else f"ended with exit status {status}"
        limit_bytes = resource.getrlimit(resource.RLIMIT_DATA)[0]
        held_much = number in CRASHES and self._peak_bytes >= NEARLY * limit_bytes
        lines = said.splitlines()
        text = "\n".join([f"command: {arguments!r}", *lines[-TAIL_LINES:]])
        if held_much and limit_bytes != resource.RLIM_INFINITY:  # the runner reads messages about memory
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
        """Peak memory of both, in bytes."""
        return self._own.read() + self._program.take_peak()


class Tail:
    """The end of a program's output, which is passed on to a descriptor of this process immediately."""

    def __init__(self, target: int) -> None:
        self._target, self._data = target, b""

    def add(self, data: bytes) -> None:
        """Pass on output."""
        self._data = (self._data + data)[-TAIL_BYTES:]
        while data:
            data = data[os.write(self._target, data) :]

    def text(self) -> str:
        """The stored end, as text."""
        return self._data.decode("utf-8", "replace").replace("\0", "\\0").strip()


def _follow(process: subprocess.Popen[bytes], tails: dict[int, Tail]) -> tuple[int, resource.struct_rusage]:
    """Pass on a program's output until it ends: (exit status, or minus the signal; its resource usage)."""
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
    """Pass on available output; False at the end."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return True
    tail.add(data)
    return bool(data)


def count_threads(text: str) -> int:
    """The threads of a task from OMP_NUM_THREADS, which may be a list with one number per level."""
    first = text.partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else 1
