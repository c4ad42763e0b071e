"""The process behind isolated_fork: it imports a bundle's model and forks a child for each task.

    python zygote.py SOCKET LIFELINE BUNDLE WIRE SEED_GLOBALS SOURCE RESEEDS CRASHES LIMITS
    (entrypoint, params, seed, limit_bytes) pickled, seconds -> a child -> Answer, passed on unchanged

It is started by path, like runner.py, whose functions and messages it uses: to the worker it is a runner
whose every task finds the memory as the import left it. The first successful task also reports what it
imported and compiled, and the zygote does both before the next task (replay.py).

From then on a child is forked while the previous one runs, because a new process waits longer for a processor
than one that is woken. Each child has its own process group, which ends with the task or with the zygote;
processes that a task starts in other groups end with the task (children.py). What to do if forking is unsafe
is decided in fork.py.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import importlib.util
import json
import math
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any


def _sibling(name: str) -> Any:
    """Load a module of this folder under a name that no model uses: the folder is not on sys.path."""
    spec = importlib.util.spec_from_file_location(f"_modelops_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None  # for mypy: a path that ends in .py has both
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from modelops_dask import seeding
    from modelops_dask.executors import children, inherited, mailbox, messages, replay, runner, workspace
    from modelops_dask.generators import ModelGenerators
else:
    runner = _sibling("runner")
    messages, seeding = runner.messages, runner.seeding
    mailbox = _sibling("mailbox")
    replay = _sibling("replay")
    children = _sibling("children")
    inherited = _sibling("inherited")

_monotonic = time.monotonic  # a model may replace it
REPORT_SECONDS = 20  # for a child to report its imports, after its answer
FORK_AWARE = {"jemalloc_bg_thd"}  # Arrow's allocator takes its locks for a fork and frees them after it
NATIVE = re.compile(
    r"/(lib(gomp|omp|iomp5|tbb|openblas|mkl|arrow|torch|grpc|zmq|tensorflow|duckdb)|_?polars)[^/\s]*\.so"
)


class ForkUnsafe(Exception):
    """Forking is unsafe for a model.

    A thread remained when the zygote had forked: a lock that it holds would stay locked in every child. Or
    children would share state that each task should have for itself.
    """


class ZygoteProcess:
    """The imported model, and the initial state of each task."""

    def __init__(
        self,
        wire: runner.Wire,
        seeds: bool,
        output: runner.OutputCapture,
        files: workspace.Workspace | None,
        lifeline_fd: int,
        *,
        own_folder: str,
        before: dict[int, os.stat_result],
        generators: ModelGenerators | None,
    ) -> None:
        """Prepare to fork. Raises ForkUnsafe.

        Args:
            files: None if tasks share files.
            lifeline_fd: The zygote's lifeline, which a child closes.
            own_folder: The folder of the bundle's own modules.
            before: The files that were open before the import.
            generators: The model's own, if they are seeded before each task.
        """
        self._own_folder, self._open_before = own_folder, before
        self._wire, self._seeds, self._output, self._lifeline_fd = wire, seeds, output, lifeline_fd
        self._files, self._generators = files, generators
        self._learns = True
        self._unsafe: ForkUnsafe | None = None
        self._shared_bytes = 0
        self._spare: children.Child | None = None  # forked ahead, while the previous child ran its task
        self._running: children.Child | None = None
        self._orphans = children.Orphans()
        self._settle()

    def run(
        self,
        connection: messages.Connection,
        its_turn: bytes,
        request: bytes,
        timeout_seconds: float | None,
    ) -> None:
        """Run a task in a child and pass on its answer; then clean up."""
        if self._unsafe:
            connection.send(its_turn, runner.failed_answer(self._unsafe))
            return
        child, started = self._child(), _monotonic()
        try:
            child.send(request, timeout_seconds)
            if not self._learns:
                self._running = child
                self._spare = self._fork(self._task)
            left = math.inf if timeout_seconds is None else started + timeout_seconds - _monotonic()
            answer = child.receive(its_turn, left)
        except children.Overdue:
            child.signal(signal.SIGTERM)
            child.wait(children.GRACE_SECONDS)
            error = f"the task did not end within {timeout_seconds:g} s"
            peak_bytes = self._end(child)[1]
            connection.send(its_turn, self._died("TaskTimeout", error, started, peak_bytes))
            return
        except mailbox.OutOfTurn as misfit:
            peak_bytes = self._end(child)[1]
            connection.send(its_turn, self._died(messages.OUT_OF_TURN, str(misfit), started, peak_bytes))
            return
        if answer is None:
            has_ended = child.wait(children.GRACE_SECONDS)
            status, peak_bytes = self._end(child)
            reason, error = runner.describe_end(status if has_ended else None)
            connection.send(its_turn, self._died(reason, error, started, peak_bytes))
            return
        connection.send_frame([answer])
        self._learn(child, its_turn)

    def _learn(self, child: children.Child, its_turn: bytes) -> None:
        """After its task: end a child. From the first successful one, prepare memory for later ones."""
        report = None
        if self._learns:
            with contextlib.suppress(children.Overdue, mailbox.OutOfTurn):
                report = child.receive(its_turn, REPORT_SECONDS)
        self._end(child)
        if report and (learned := replay.read(mailbox.open_frame(report)[0])):
            self._learns = False
            replay.replay(*learned)
            try:
                self._settle()
            except ForkUnsafe as error:
                self._unsafe = error

    def close(self) -> None:
        """End the spare child."""
        if self._spare:
            self._spare.end()

    def _child(self) -> children.Child:
        """The spare child, if it still runs, or a new one."""
        spare, self._spare, self._running = self._spare, None, None
        if spare and spare.has_ended():
            spare.end()
            spare = None
        return spare or self._fork(self._task)

    def _end(self, child: children.Child) -> tuple[int, int]:
        """End a child and all that it started: (exit status, or minus the signal; highest resident bytes)."""
        ended = child.end()
        self._orphans.end(self._spare.pid if self._spare else None)
        self._semaphores.put_back()
        if self._files:
            self._files.put_back()
        return ended

    def reset(self) -> None:
        """For runner.MemoryMeter: a child has no earlier peak."""

    def read(self) -> int:
        """For runner.MemoryMeter: the child's peak resident memory, without memory shared with the zygote."""
        return max(0, runner.maxrss_bytes() - self._shared_bytes)

    def _settle(self) -> None:
        """Make the current memory the initial state of each task. Raises ForkUnsafe."""
        if self._files:
            self._files.begin()
        self._note_shared()
        self._output.flush()  # otherwise each child would print the buffered rest
        fonts = sys.modules.get("matplotlib.font_manager")
        if clear := getattr(getattr(fonts, "_get_font", None), "cache_clear", None):
            clear()  # Matplotlib does so in each child, which would first copy the memory
        gc.collect()
        gc.freeze()  # a collection in a child then does not touch, and so copy, all of this
        # OpenBLAS's threads end in a first fork: the remaining ones stay.
        child = self._fork(_tell_size)
        size = None
        with contextlib.suppress(children.Overdue, mailbox.OutOfTurn):
            size = child.receive(messages.START, children.GRACE_SECONDS + REPORT_SECONDS)
        child.end()
        if size is None:
            raise ForkUnsafe("a child that does nothing did not survive")
        if left := _threads():
            raise ForkUnsafe(f"importing the model left {left}")
        self._shared_bytes = mailbox.answer_of(size).peak_bytes
        self._orphans.expect()

    def _note_shared(self) -> None:
        """Find what children would share besides copies of memory. Raises ForkUnsafe."""
        if memory := inherited.find_shared_memory():
            raise ForkUnsafe(f"importing the model left memory that its tasks would share: {memory}")
        put_back = None
        try:
            self._open_files = inherited.OpenFiles(self._open_before)
            self._semaphores = inherited.Semaphores()
            if self._files:
                held_inodes = self._files.hold(self._open_files.inodes() | inherited.mapped_inodes())
                device = Path(self._files.bundle).stat().st_dev
                put_back = {(device, inode) for inode in held_inodes}
        except OSError as error:
            raise ForkUnsafe(f"files left open by importing the model cannot be restored: {error}") from None
        if problem := self._open_files.problem(put_back):
            raise ForkUnsafe(f"importing the model left {problem}")

    def _fork(self, work: Callable[[messages.Connection], object]) -> children.Child:
        """Fork a child that does its work, which may write to its connection, and ends."""
        zygote_socket, child_socket = socket.socketpair()
        mail = mailbox.Mailbox(zygote_socket)
        lifeline, lifeline_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(self._lifeline_fd)
                zygote_socket.close()
                os.close(lifeline_end)
                if self._running:
                    self._running.forget()
                os.setpgid(0, 0)
                runner.end_with(lifeline)
                runner.set_oom_score(1000)
                work(messages.Connection(child_socket.detach()))
                os._exit(0)
            except BaseException:  # the child must never continue into the zygote's code
                traceback.print_exc()
            finally:
                os._exit(1)
        child_socket.close()
        os.close(lifeline)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # both do, whichever is first
        mail.expect(pid)
        return children.Child(pid, zygote_socket, mail, lifeline_end)

    def _task(self, connection: messages.Connection) -> None:
        """Run in a child. Signal handlers that the model installed stay, as in a new interpreter."""
        request = connection.receive()
        if request is None:
            return
        if self._files:
            self._files.enter()  # this was forked before the previous task ended
        self._open_files.reopen()
        its_turn, entrypoint, params, seed, limit_bytes = pickle.loads(request)
        if self._seeds:
            seeding.seed_globals(seed)
        elif numpy_random := sys.modules.get("numpy.random"):
            numpy_random.seed()  # as in a new interpreter; Python itself does so for `random`
        if self._generators:
            self._generators.seed(seed)
        loaded = set(sys.modules) if self._learns else set()
        memory = runner.make_meter(self._wire, self)
        answer = runner.call(self._wire, entrypoint, params, seed, memory, limit_bytes=limit_bytes)
        connection.hold()
        try:
            self._output.flush()
            connection.send(its_turn, answer)
            if self._learns:
                report = replay.report(loaded, self._own_folder) if answer.status == "ok" else None
                connection.send_frame(messages.pack(its_turn, json.dumps(report)))
        except OSError:
            os._exit(runner.LOST_CONNECTION)

    def _died(self, reason: str, error: str, started: float, peak_bytes: int) -> messages.Answer:
        return messages.Answer(
            status="died",
            outputs={},
            reason=reason,
            error=error,
            seconds=_monotonic() - started,
            peak_bytes=max(0, peak_bytes - self._shared_bytes),
        )


def _tell_size(connection: messages.Connection) -> None:
    """In a child that does nothing else: report its peak resident memory."""
    connection.send(messages.START, messages.READY._replace(peak_bytes=runner.maxrss_bytes()))


def _threads() -> str:
    """The threads of this process besides the main one, and their likely libraries; "" for none."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        owners = [getattr(thread, "_target", None) or type(thread) for thread in threads]
        thread_names = [f"{thread.name} of {owner.__module__}" for thread, owner in zip(threads, owners)]  # noqa: B905 (Python 3.9)
        return f"threads running: {', '.join(thread_names)}"
    names = []
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with contextlib.suppress(OSError):  # it has just ended
                names.append((task / "comm").read_text().strip())
    numbered = collections.Counter(
        re.sub(r"[-_ ]?\d+$", "", name) for name in names if name not in FORK_AWARE
    )
    if not numbered:
        return ""
    names = [f"{name} ({count})" if count > 1 else name for name, count in sorted(numbered.items())]
    libraries = sorted({match[0][1:] for match in NATIVE.finditer(Path("/proc/self/maps").read_text())})
    return (
        f"native threads running, named {', '.join(names)}; "
        f"loaded libraries that are known to start threads: {', '.join(libraries) or 'none'}"
    )


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
    """Import the model, then fork a child for each request until the worker closes the socket.

    source, reseeds, crash_fd and output_limits: as in runner.py.
    """
    connection, output = runner.begin(
        socket_fd,
        lifeline_fd,
        bundle,
        oom_score=500,  # its children: 1000
        crash_fd=crash_fd,
        output_limits=output_limits,
    )
    before = inherited.list_open_files()
    try:
        wire, generators = runner.load_model(bundle, reference, seeds, reseeds)
        prepare = getattr(sys.modules.get(getattr(wire, "__module__", "")), "prepare", None)
        if callable(prepare):
            prepare()
        files: workspace.Workspace | None = None
        if source:
            files = _sibling("workspace").begin_workspace(bundle, source)
        own_folder = str(Path(bundle).parent) if source else bundle  # its TMPDIR is next to its copy
        zygote = ZygoteProcess(
            wire,
            seeds,
            output,
            files,
            lifeline_fd,
            own_folder=own_folder,
            before=before,
            generators=generators,
        )
    except BaseException as error:
        output.flush()
        connection.send(messages.START, runner.failed_answer(error))
        return 1
    connection.send(messages.START, messages.READY)
    while (body := connection.receive()) is not None:
        nonce, number, task = pickle.loads(body)
        if task:
            zygote.run(connection, messages.turn(nonce, number), *task)
            if files and files.problem:
                return runner.NOT_PUT_BACK
        else:
            connection.send(messages.turn(nonce, number), messages.PONG)
    zygote.close()
    return 0


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
