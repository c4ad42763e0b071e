"""Whether a task ended for lack of memory: from its exception, its output, and its memory at a crash.

    an exception                      -> judge_exception() -> the Answer, possibly `died` of TaskOOM
    a process's end, its log, a Crash -> judge_end()       -> the evidence, "" for none

Native code sees the memory limit as a refused allocation and reacts in its own way: a C++ program aborts and
names std::bad_alloc, one in C crashes, R prints a line and exits. None of these is TaskOOM without evidence:
a crash with memory left stays a crash. Wrong evidence costs an attempt at most, because a task that died of
TaskOOM runs again alone with all the memory of its pod, where it would be wrong again only near that limit.

A thread failed to start for lack of memory if the limit has room for fewer stacks than the system allows
threads. Otherwise the limit on processes is the cause, which is named and is not TaskOOM.

This module uses only the standard library and Python 3.9's language, because runner.py loads it by path when
a task fails.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from modelops_dask.executors.crash import Crash
    from modelops_dask.executors.messages import Answer

ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

if __package__:  # in the worker

    def _process_count() -> Any:
        from modelops_dask.limits import process_count

        return process_count

else:

    def _process_count() -> Any:
        import importlib.util  # imported here: most failures do not need it

        for name in ("cgroup", "process_count"):
            if f"_modelops_{name}" not in sys.modules:
                path = os.path.join(ENGINE, "limits", f"{name}.py")
                spec = importlib.util.spec_from_file_location(f"_modelops_{name}", path)
                assert spec is not None and spec.loader is not None  # for mypy
                module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
        return sys.modules["_modelops_process_count"]


OUT_OF_MEMORY, TRANSIENT = "TaskOOM", "transient"  # runner.py and messages.py have them
NEARLY = 0.9  # fraction of a limit: growth by less than a tenth at a time has then used it up
STACK_BYTES = 2 << 20  # of a thread, if stacks are unlimited
LINES = 30  # of the end of a log that are read, without the report of a crash
LINE_LIMIT = 200  # characters of a line that are quoted
CAUSES = 100  # exceptions of a chain that are examined
FORKS = frozenset(
    ("_execute_child", "_fork_exec", "_launch", "fork", "forkpty")
)  # functions that start a process
# Exceptions about the end of a child process, whose own messages are in the log.
CHILD_ENDED = re.compile(r"\b(CalledProcessError|BrokenProcessPool|TerminatedWorkerError)\b")
REPORT = re.compile(r"^Fatal Python error: ", re.MULTILINE)  # of faulthandler
# Messages of runtimes when memory is refused, except that of a GPU.
MEMORY = re.compile(
    r"std::bad_alloc|memory allocation of \d+ bytes failed|\bMemoryError\b|\bOutOfMemory(Error|Exception)\b"
    r"|(can ?not|can'?t|could not|unable to|failed to) allocate (memory|vector of size|[\d.,]+ ?([KMGT]i?)?B)"
    r"|(virtual )?memory exhausted|\bout of (virtual )?memory\b|insufficient virtual memory"
    r"|error allocating \d+ bytes|malloc of size \d+ failed",
    re.IGNORECASE,
)
NOT_OURS = re.compile(r"cuda|\bgpu|\bhip\b|\bxpu\b|\bdevice\b|nccl|\bvram\b", re.IGNORECASE)
# Their messages when a thread cannot start.
THREAD = re.compile(
    r"can'?t start new thread|pthread_create\b.*fail|fail\w* to (spawn|create|start)\b.*\bthread"
    r"|thread creation failed|unable to (allocate|create)\b.*\bthread",
    re.IGNORECASE,
)


def judge_exception(answer: Answer, error: BaseException, limit_bytes: int) -> Answer:
    """The answer of a task that raised: died of TaskOOM if the cause was a lack of memory.

    limit_bytes is the task's limit, 0 for no limit: nothing is TaskOOM then. If the limit on processes was
    the cause, the answer says so, and may be better next time.
    """
    evidence = note = ""
    for cause in _causes(error):
        if evidence or note:
            break
        if isinstance(cause, MemoryError):
            evidence = "an allocation failed"
        elif isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            evidence = _quote(f"{type(cause).__name__}: {cause}")
        elif isinstance(cause, OSError) and cause.errno == errno.EAGAIN and _raised_by(cause) in FORKS:
            note = _process_count().explain("a process could not be started")
        elif isinstance(getattr(cause, "returncode", None), int):  # its text is the command's
            evidence = _judge_child(cause, limit_bytes)
        else:
            evidence, note = _judge_text(_words(cause), limit_bytes)
    if evidence and limit_bytes:
        return out_of_memory(answer, f"{evidence}{_limit(limit_bytes)}")
    if note:
        return answer._replace(error=f"{answer.error.rstrip()}\n{note}\n", failure=TRANSIENT)
    return answer


def judge_returned(answer: Answer, limit_bytes: int) -> Answer:
    """Like judge_exception(), for a task that returned an error as ModelOps does."""
    last_line = answer.error.rpartition("\n")[2]
    evidence = limit_bytes and _telling_line(last_line, MEMORY)
    return out_of_memory(answer, f"{evidence}{_limit(limit_bytes)}") if evidence else answer


def judge_end(reason: str, log: str, limit_bytes: int, crash: Crash | None) -> str:
    """The evidence that a process ended for lack of memory; "" for none.

    Args:
        reason: How it ended, in a few words, or the traceback of an exception about a child's end.
        log: The task's output.
        limit_bytes: Its limit, 0 for no limit.
        crash: The last process that crashed, its own or a child's.
    """
    if not limit_bytes:
        return ""
    lines = REPORT.split(log)[0].rstrip().splitlines()[-LINES:]
    for line in reversed(lines):
        if quoted := _telling_line(line, MEMORY):
            return f'{reason} after "{quoted}" was printed{_limit(limit_bytes)}'
        if quoted := _telling_line(line, THREAD):
            evidence, _ = _judge_thread(limit_bytes)
            return evidence and f'{reason} after "{quoted}" was printed: {evidence}{_limit(limit_bytes)}'
    if crash and 0 < NEARLY * crash.data_limit_bytes <= crash.data_bytes:
        data, most = crash.data_bytes >> 20, crash.data_limit_bytes >> 20
        return (
            f"{reason} after {data:,} MiB of the {most:,} that can be allocated were "
            f"used{_limit(limit_bytes)}"
        )
    return ""


def describe_room(limit_bytes: int, crash: Crash | None) -> str:
    """How much memory a process that crashed for another reason had; "" if not known."""
    if not limit_bytes or crash is None or not crash.data_limit_bytes:
        return ""
    allocated, most = crash.data_bytes >> 20, crash.data_limit_bytes >> 20
    return f"; it had allocated {allocated:,} of at most {most:,} MiB"


def out_of_memory(answer: Answer, evidence: str) -> Answer:
    """The answer of a task that died for lack of memory; the evidence is the last line of its error."""
    error = f"{answer.error.rstrip()}\n{OUT_OF_MEMORY}: {evidence}\n".lstrip()
    return answer._replace(status="died", outputs={}, reason=OUT_OF_MEMORY, error=error, failure="")


def _limit(limit_bytes: int) -> str:
    return f"; the task's limit is {limit_bytes >> 20:,} MiB"


def _judge_text(text: str, limit_bytes: int) -> tuple[str, str]:
    """(evidence for lack of memory, note on the limit on processes) from an exception's message."""
    if quoted := _telling_line(text, MEMORY):
        return quoted, ""
    return _judge_thread(limit_bytes) if _telling_line(text, THREAD) else ("", "")


def _judge_thread(limit_bytes: int) -> tuple[str, str]:
    """Like _judge_text(), for a thread that could not start."""
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack_bytes = threading.stack_size() or (soft if soft > 0 else STACK_BYTES)
    n_stacks = limit_bytes // stack_bytes
    room = _process_count().room()
    if not limit_bytes or (room is not None and room < n_stacks):
        return "", _process_count().explain("a thread could not be started")
    return (
        f"a thread could not start: each reserves {stack_bytes / 2**20:g} MiB for its stack, which counts, "
        f"so fewer than {n_stacks:,} fit"
    ), ""


def _judge_child(error: BaseException, limit_bytes: int) -> str:
    """Evidence of a child process that ended at the inherited limit, from subprocess's exception."""
    status: int = error.returncode  # type: ignore[attr-defined]  # of CalledProcessError, and those like it
    for stream in ("stderr", "output"):
        text = getattr(error, stream, None)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        for line in reversed(text.splitlines()[-LINES:] if isinstance(text, str) else []):
            if quoted := _telling_line(line, MEMORY):
                return f'a program that it started printed "{quoted}"'
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # A new process counts its parent's resident memory until it executes its own program.
    if status < 0 and _peak_kib() < children and NEARLY * limit_bytes <= children * 1024:
        return (
            f"a program that it started was killed by signal {-status} while it held {children >> 10:,} MiB"
        )
    return ""


def _peak_kib() -> int:
    """Peak resident memory of this process; ru_maxrss is at least that of its parent."""
    try:
        with open("/proc/self/status") as file:
            return int(file.read().partition("VmHWM:")[2].split()[0])
    except (OSError, ValueError, IndexError):  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _telling_line(text: str, pattern: re.Pattern[str]) -> str:
    """The line with a match, shortened for quoting; "" if there is none, or if it concerns a GPU."""
    match = pattern.search(text)
    if not match:
        return ""
    start = text.rfind("\n", 0, match.start()) + 1
    line = text[start:].partition("\n")[0].strip()
    return "" if NOT_OURS.search(line) else _quote(line)


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}…"


def _words(error: BaseException) -> str:
    """The type of an exception and its message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a failing __str__ of the model
        return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes and contexts, and the members of groups."""
    errors, seen = [error], set[int]()
    while errors and len(seen) < CAUSES:
        cause = errors.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        members = getattr(cause, "exceptions", ())
        members = members if isinstance(members, tuple) else ()
        errors += [
            each for each in (*members, cause.__context__, cause.__cause__) if isinstance(each, BaseException)
        ]


def _raised_by(error: BaseException) -> str:
    """The name of the function of the innermost frame."""
    frames = error.__traceback__
    while frames and frames.tb_next:
        frames = frames.tb_next
    return frames.tb_frame.f_code.co_name if frames else ""
