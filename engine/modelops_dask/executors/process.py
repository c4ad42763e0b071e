"""The worker's side of one runner process: start, ping, call, close, kill.

    call(tasks) -> socket -> runner.py -> Answers         the model's output -> pipe -> the last 64 KiB

An answer that is not the awaited one, or not from the runner, ends the runner (mailbox.py). One thread at a
time uses a Runner. The code that starts one ends it with close() or kill(): both leave no process of its
group, no zombie and no descriptor. warm.py decides when to start or retire runners.
"""

import os
import re
import select
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelops_dask.executors import mailbox, messages, runner, shortage
from modelops_dask.executors.copies import Slot
from modelops_dask.executors.crash import Crash, CrashReports
from modelops_dask.limits import pod, worker_memory

LOG_BYTES = 64 * 1024  # of the model's output, from the end; also the size of a pipe
START_SECONDS = 120  # interpreter and model; starsim takes up to 19 s on a busy machine
PING_SECONDS = 5
GRACE_SECONDS = 1  # seconds between asking and killing
# interval in which output is not read; a task that prints more than a pipe holds waits that long
QUIET_SECONDS = 0.01
SHORT_SECONDS, PAUSE_SECONDS = 1e-4, 5e-4  # answers of shorter tasks are fetched several at a time
LOOK_SECONDS = 0.5  # interval of checks on a silent runner: one of its children may hold the socket open

START = Path(__file__).with_name("start.py")
# the value that Dask's nanny sets for its workers: the order of a set is then the same in `direct`
HASH_SEED = "6640"

# Native thread pools: their size changes the bytes of results, so it is fixed unless the user set it.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


Call = tuple[str, dict[str, Any], int]  # entrypoint, params, seed
_MARKS = re.compile(re.escape(runner.MARK).replace(b"%d", rb"\d+"))


class RunnerLost(Exception):
    """The runner ended, or was ended, before it answered. `reason` is short, and the same for each cause. If
    it ended at its start, the caller that knows the digest of the environment sets `environment`.
    """

    environment = ""

    def __init__(self, reason: str, error: str, log: str = "", peak_bytes: int = 0) -> None:
        super().__init__(reason, error, log, peak_bytes)
        self.reason, self.error, self.log, self.peak_bytes = reason, error, log, peak_bytes


class StartFailed(Exception):
    """Importing the model raised. `answer` has the exception's type and traceback, `log` the output. The
    caller that knows the digest of the environment sets `environment`.
    """

    environment = ""

    def __init__(self, answer: runner.Answer, log: str) -> None:
        super().__init__(answer.reason, answer.error)
        self.answer, self.log = answer, log


class Runner:
    """A runner process for one bundle. `tasks` counts calls; times are seconds of time.monotonic()."""

    SCRIPT = Path(runner.__file__)  # the script that the process runs
    TAKES_MANY = True  # whether call() accepts more than one task
    VARIABLES: Mapping[str, str] = os.environ  # the size of its environment's start
    UMASK = -1  # that it starts with; -1: that of this process

    def __init__(
        self,
        python: Path,
        bundle: Path,
        wire: str,
        *,
        seed_globals: bool = True,
        reseeds: bool = False,
        keep_pythonpath: bool = False,
        threads: int = 0,
        numba_cache: Path | None = None,
        slot: Slot | None = None,
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        """Start the process; ready() waits for it.

        Args:
            echo: Receives the model's output immediately.
            threads: Its own native threads; 0: as the worker's variables say, else one.
            numba_cache: Folder of numba's compiled code; None: next to the code's source.
            slot: This runner's own copy of the bundle, in which it works; None: the bundle itself.
            seed_globals: Which generators are seeded before each task, as in runner.main().
            reseeds: Likewise.
        """
        self.id = uuid.uuid4().hex[:8]
        self.tasks = 0
        self.started_at = self.used_at = time.monotonic()
        self.ready_at: float | None = None
        self.runner_limit_bytes = 0  # of its latest task
        self.mark = pod.new_mark()
        self.peak_seen_bytes = 0
        self._out_of_memory: RunnerLost | None = None
        self._echo = echo
        self._log = b""
        self._nonce = bytes(8)  # of the latest request
        self._socket, runner_socket = socket.socketpair()
        self._mail = mailbox.Mailbox(self._socket)
        self._crashes = CrashReports()
        self._output, output = os.pipe()
        lifeline, self._lifeline = os.pipe()
        try:
            works_in = slot.bundle if slot else bundle
            source = bundle if slot and slot.tells else ""
            arguments = (
                runner_socket.fileno(),
                lifeline,
                works_in,
                wire,
                int(seed_globals),
                source,
                int(reseeds),
                self._crashes.runner_descriptor,
                ",".join(map(str, worker_memory.output_limits())),
            )
            descriptors = (runner_socket.fileno(), lifeline, self._crashes.runner_descriptor)
            variables = {pod.MARK: self.mark, **({"TMPDIR": str(slot.temporary)} if slot else {})}
            self._process = subprocess.Popen(
                [python, "-s", START, self.SCRIPT, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[
                    descriptor
                    for descriptor in (*descriptors, slot.lock_fd if slot else -1)
                    if descriptor >= 0
                ],
                cwd=works_in,
                env=_environment(self.VARIABLES, Path(python), keep_pythonpath, threads, numba_cache)
                | variables,
                umask=self.UMASK,
                start_new_session=True,  # its own group, so that processes started by the model end with it
            )
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            runner_socket.close()
            os.close(output)
            os.close(lifeline)
        self._mail.expect(self._process.pid)
        pod.brand(self._process.pid, self.mark)
        os.set_blocking(self._output, False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._output, select.POLLIN)
        self._quiet = select.poll()
        self._quiet.register(self._socket, select.POLLIN)
        self._answers = self._socket.fileno()
        if self._crashes.descriptor >= 0:
            self._poll.register(self._crashes.descriptor, select.POLLIN)
            self._quiet.register(self._crashes.descriptor, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def start_seconds(self) -> float:
        """Seconds that the start took, including the import of the model; 0 before it is ready."""
        return 0.0 if self.ready_at is None else self.ready_at - self.started_at

    @property
    def life(self) -> tuple[str, int]:
        """A short id of the process of its latest task, and the task's number in that process, from 1."""
        return self.id, self.tasks

    def ready(self) -> None:
        """Wait until the model is imported. Raises StartFailed, or RunnerLost; the process has then ended."""
        answer = self._receive(messages.START, START_SECONDS, "StartTimeout", "the model was not imported")
        self._drain()
        if answer.status != "ready":
            log = self.log
            self.kill()
            raise StartFailed(answer, log)
        self.ready_at = self.used_at = time.monotonic()

    def ping(self) -> None:
        """Check that the runner answers. Raises RunnerLost; the process has then ended."""
        self._request(self.tasks, [], PING_SECONDS)
        its_turn = messages.turn(self._nonce, self.tasks)
        self._receive(its_turn, PING_SECONDS, "PingTimeout", "an idle runner did not answer")

    def call(
        self, calls: Sequence[Call], timeout_seconds: float | None, limit_bytes: int = 0
    ) -> Iterator[runner.Answer]:
        """Run tasks one after another; the first that is not ok is the last that runs.

        timeout None waits without a limit, limit_bytes 0 does not limit memory: both apply to each task.
        Raises RunnerLost, for the running task; the process has then ended.
        """
        self.runner_limit_bytes = limit_bytes
        self._log = b""
        self._crashes.forget()
        first, last = self.tasks + 1, self.tasks + len(calls)
        self.tasks = first
        self._request(first, [(*call, limit_bytes) for call in calls], timeout_seconds)
        short = False
        for number in range(first, last + 1):
            self.tasks = number
            answer = self._answer(timeout_seconds, short)
            short = answer.seconds < SHORT_SECONDS
            if answer.status == "died":  # an allocation failed: the process must not run another task
                self._drain()
                self.kill()
                raise RunnerLost(answer.reason, answer.error, self.log, answer.peak_bytes)
            if answer.status != "ok" or number == last:
                self._drain()
                yield self._judge_children(answer)
                return
            yield answer
            # Output read before this answer, and without a mark, came from this task or an earlier one.
            self._log = self._log.partition(runner.MARK % number)[2]

    def _answer(self, timeout_seconds: float | None, several: bool = False) -> runner.Answer:
        """The answer of the next task; with `several`, more may follow soon."""
        if several and self._mail.is_empty:
            # otherwise each would wake this thread, which costs more than a short task
            time.sleep(PAUSE_SECONDS)
        its_turn = messages.turn(self._nonce, self.tasks)
        answer = self._receive(its_turn, timeout_seconds, "TaskTimeout", "the task did not end")
        if answer.status not in messages.ENDS:
            raise self._ended(messages.OUT_OF_TURN, mailbox.STRAY)
        self.used_at = time.monotonic()
        return answer

    @property
    def log(self) -> str:
        """The end of the model's output in its last task, at most 64 KiB."""
        return _MARKS.split(self._log)[-1].decode("utf-8", errors="replace")

    @property
    def broken(self) -> bool:
        """Whether an idle runner has ended, or sent an unexpected message."""
        unasked = not self._mail.is_empty or self._quiet.poll(0)
        return bool(unasked) or self._process.poll() is not None

    def hang_up(self) -> None:
        """Ask an idle runner to end, so that close() waits less."""
        self._socket.close()
        self._crashes.close()

    def close(self) -> None:
        """End an idle runner: its model's exit handlers run, for at most a second."""
        self.hang_up()
        self._wait(GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process and all processes that it started, and free its resources. May be repeated."""
        if self._output < 0:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        pod.kill_marked(self.mark)  # processes that have left the group
        self._close_descriptors()

    def interrupt(self) -> None:
        """Kill the process from another thread; the thread in call() gets RunnerLost and frees the rest."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)

    def end_for_memory(
        self, pids: list[int], peak_bytes: int, error: str, reason: str = runner.OUT_OF_MEMORY
    ) -> None:
        """Called by the guard's thread: end the task whose processes these are, for that reason."""
        self._out_of_memory = RunnerLost(reason, error, "", peak_bytes)
        pod.kill(pids)

    def _request(
        self,
        number: int,
        calls: Sequence[tuple[str, dict[str, Any], int, int]],
        timeout_seconds: float | None,
    ) -> None:
        """Request the answers of tasks, the first of which is number `number`; without tasks, a ping."""
        self._nonce = os.urandom(8)
        self._send((self._nonce, number, calls), timeout_seconds)

    def _send(self, message: object, timeout_seconds: float | None) -> None:
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.sendall(mailbox.pack_request(message))
        except OSError:
            raise self._lost() from None

    def _receive(
        self, its_turn: bytes, timeout_seconds: float | None, reason: str, problem: str
    ) -> messages.Answer:
        """The answer of a turn, reading the model's output while waiting."""
        try:
            return mailbox.answer_of(self._frame(its_turn, timeout_seconds, reason, problem))
        except mailbox.OutOfTurn as misfit:
            raise self._ended(messages.OUT_OF_TURN, str(misfit)) from None

    def _frame(self, its_turn: bytes, timeout_seconds: float | None, reason: str, problem: str) -> bytes:
        """The next unparsed answer. Raises OutOfTurn; the process still runs."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        quiet = True  # output is left in the pipe for a moment: runner.py separates what has not been read
        while (frame := self._mail.frame(its_turn)) is None:
            wait = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
            if wait <= 0:
                raise self._overdue(reason, f"{problem} within {timeout_seconds:g} s")
            ready = self._quiet.poll(QUIET_SECONDS * 1000) if quiet else self._poll.poll(wait * 1000)
            if not ready and quiet:
                quiet = False
                continue
            if not ready:
                if self._process.poll() is not None:
                    raise self._lost()
                # it cannot be determined once the process has ended
                self.peak_seen_bytes = self._peak_bytes()
            if all(descriptor != self._answers for descriptor, _ in ready):
                self._drain()
                self._read_crash()
                continue
            # Read both: an answer comes before the output of the next task.
            try:
                is_open = self._mail.read()
            except OSError:
                is_open = False
            if not is_open:
                raise self._lost()
        return frame

    def _drain(self) -> None:
        """Read the output once: a pipe holds no more, and a child that keeps printing must not block."""
        try:
            text = os.read(self._output, LOG_BYTES)
        except OSError:  # no data
            return
        if not text:  # every holder of the pipe has closed it
            with suppress(KeyError):
                self._poll.unregister(self._output)
        self._log = (self._log + text)[-LOG_BYTES:]
        if self._echo and text:
            self._echo(text)

    def _read_crash(self) -> None:
        """Read the available report of a crash, after examining its process, which waits."""
        if report := self._crashes.read():
            self._log = (self._log + report)[-LOG_BYTES:]
            if self._echo:
                self._echo(report)

    def _overdue(self, reason: str, error: str) -> RunnerLost:
        self.peak_seen_bytes = self._peak_bytes()
        self._signal(signal.SIGTERM)
        self._wait(GRACE_SECONDS)
        return self._ended(reason, error)

    def _ended(self, reason: str, error: str) -> RunnerLost:
        """End the process because of its behaviour."""
        peak_bytes = self._peak_bytes() or self.peak_seen_bytes
        self._drain()
        self.kill()
        return RunnerLost(reason, error, self.log, peak_bytes)

    def _lost(self) -> RunnerLost:
        """Why the connection ended, from how the process ended."""
        status = self._wait(GRACE_SECONDS)
        self._drain()
        self._read_crash()
        self.kill()
        if memory_end := self._out_of_memory:
            return RunnerLost(memory_end.reason, memory_end.error, self.log, memory_end.peak_bytes)
        reason, error = runner.describe_end(status)
        crash = self._crashes.crash
        own_crash = crash if crash and crash.pid == self.pid else None
        peak_bytes = own_crash.peak_bytes if own_crash else self.peak_seen_bytes
        answer = messages.Answer("died", {}, reason, error, 0.0, peak_bytes)
        answer = self._judge_end(answer, own_crash)
        return RunnerLost(answer.reason, answer.error, self.log, peak_bytes)

    def _judge_end(
        self, answer: messages.Answer, crash: Crash | None, *, is_child: bool = False
    ) -> messages.Answer:
        """The answer of a task whose process ended: TaskOOM if there is evidence of it.

        The task's peak may not include a child's memory, so a low peak does not contradict what the child
        printed.
        """
        evidence, is_vague = shortage.judge_end(answer.reason, self.log, self.runner_limit_bytes, crash)
        if evidence:
            return shortage.out_of_memory(answer, evidence, is_vague=is_vague and not is_child)
        return answer._replace(error=answer.error + shortage.describe_room(self.runner_limit_bytes, crash))

    def _judge_children(self, answer: messages.Answer) -> messages.Answer:
        """Like _judge_end(), for a task that raised because a process that it had started ended."""
        if answer.status == "failed" and shortage.CHILD_ENDED.search(answer.error):
            self._read_crash()
            judged = self._judge_end(answer, self._crashes.crash, is_child=True)
            return judged if judged.status == "died" else answer
        return answer

    def _wait(self, timeout_seconds: float) -> int | None:
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # all ended; macOS reports this by the latter
            os.killpg(self._process.pid, number)

    def _peak_bytes(self) -> int:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) * 1024
        except (OSError, IndexError):
            return 0

    def _close_descriptors(self) -> None:
        self._socket.close()
        self._crashes.close()
        descriptors = self._output, self._lifeline
        self._output = self._lifeline = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


def _environment(
    inherited: Mapping[str, str], python: Path, keep_pythonpath: bool, threads: int, numba_cache: Path | None
) -> dict[str, str]:
    """The worker's variables without those for its own packages, with those that results depend on.

    Programs that a model starts are those of its interpreter, as if its environment were activated.
    """
    dropped = ["PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"]
    if not keep_pythonpath:
        dropped.append("PYTHONPATH")
    environment = {name: value for name, value in inherited.items() if name not in dropped}
    programs = python.parent
    environment["PATH"] = os.pathsep.join((str(programs), inherited.get("PATH", os.defpath)))
    if (programs.parent / "pyvenv.cfg").is_file():
        environment["VIRTUAL_ENV"] = str(programs.parent)
    for name in THREAD_VARIABLES:
        environment[name] = str(threads) if threads else environment.get(name, "1")
    environment.setdefault("PYTHONHASHSEED", HASH_SEED)
    if numba_cache:
        environment.setdefault("NUMBA_CACHE_DIR", str(numba_cache))
    return environment
