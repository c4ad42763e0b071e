"""Whether a task ended for lack of memory: from its exception, its output, and its memory at a crash.

    an exception                      -> judge_exception() -> the Answer, possibly `died` of TaskOOM
    a process's end, its log, a Crash -> judge_end()       -> the evidence, "" for none

Native code sees the memory limit as a refused allocation and reacts in its own way: a C++ program aborts and
names std::bad_alloc, one in C crashes, R prints a line and exits. None of these is TaskOOM without evidence:
a crash with memory left stays a crash. Wrong evidence costs an attempt at most, because a task that died of
TaskOOM runs again alone with all its pod's memory. After that, common words ("out of memory") are no
longer evidence, unless the task came near that limit: retract().

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

    from modelops_dask.executors import Outcome
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


OUT_OF_MEMORY, MODEL, TRANSIENT = "TaskOOM", "model", "transient"  # runner.py and messages.py have them
ONLY_WORDS = (
    "; only its words tell "  # in the last line of an error, before the outcome without this evidence
)
FAR_BELOW, MOSTLY = 0.5, 0.75  # fractions of a limit
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
_SIZE = r"[\d.,]+ ?([KMGT]i?B|[KMGT]?bytes?)\b"
# The end of a phrase: no other words may follow.
_END = r"(?=\s*($|[][.:;,!?()'\"]|for\b|error\b|(while )?(trying to )?allocat))"
# Phrases of one runtime, or with the number of bytes that were requested.
CERTAIN = re.compile(
    r"std::bad_alloc|memory allocation of \d+ bytes failed|\b_?(Array)?MemoryError(?=[:(\"']|\s*$)"
    r"|\bOutOfMemory(Error|Exception)\b|\bcannot allocate vector of size\b"
    r"|(can ?not|can'?t|could not|unable to|failed to) allocate " + _SIZE + r"|LLVM ERROR: out of memory"
    r"|runtime: out of memory|\bcannot allocate memory(?=[.:\"')\]]*\s*$)|DefaultCPUAllocator"
    r"|error allocating \d+ bytes|malloc of size \d+ failed|OOM when allocating tensor"
    r"|insufficient memory for the Java Runtime|native memory allocation \(\w+\) failed"
    r"|could not reserve enough space for",
    re.IGNORECASE | re.MULTILINE,
)
# Common phrases: evidence for one attempt, and after that only if the task came near its limit.
VAGUE = re.compile(
    r"((can ?not|can'?t|could not|unable to|failed to) allocate memory"
    r"|(virtual )?memory exhausted|\bout of (virtual )?memory|insufficient virtual memory)" + _END,
    re.IGNORECASE | re.MULTILINE,
)
WITHOUT_EXCEPTION = re.compile(r"without (setting an exception|exception set)")
NOT_OURS = re.compile(
    r"cuda|\bgpu|\bhip\b|\bxpu\b|\bdevice\b(?!:CPU)|nccl|\bvram\b|opencl|\bcl::"
    r"|RESOURCE_EXHAUSTED: out of memory while trying to allocate",  # JAX on a GPU, which it does not name
    re.IGNORECASE,
)
# Their messages when a thread cannot start.
THREAD = re.compile(
    r"can'?t start new thread|pthread_create\b.*fail|fail\w* to (spawn|create|start)\b.*\bthread"
    r"|thread creation failed|unable to (allocate|create)\b.*\bthread",
    re.IGNORECASE,
)


def judge_exception(answer: Answer, error: BaseException, limit_bytes: int) -> Answer:
    """The answer of a task that raised: died of TaskOOM if the cause was a lack of memory.

    limit_bytes is the task's limit, 0 for no limit: nothing is TaskOOM then. If the limit on processes was
    the cause, the answer reports it, and the task may succeed next time.
    """
    evidence = note = ""
    is_vague = False
    for cause in _causes(error):
        if evidence or note:
            break
        if isinstance(cause, MemoryError):
            evidence, is_vague = _judge_memory_error(cause)
        elif isinstance(cause, SystemError) and WITHOUT_EXCEPTION.search(_words(cause)):
            # Python 3.11 ends a call so if it gets no memory for its frame: in an endless recursion.
            if 0 < MOSTLY * limit_bytes <= answer.peak_bytes:
                evidence = f"{_quote(_words(cause))}, when it held {answer.peak_bytes >> 20:,} MiB"
        elif isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            evidence = _quote(f"{type(cause).__name__}: {cause}")
        elif isinstance(cause, OSError) and cause.errno == errno.EAGAIN and _raised_by(cause) in FORKS:
            note = _process_count().explain("a process could not be started")
        elif isinstance(getattr(cause, "returncode", None), int):  # its text is the command's
            evidence = _judge_child(cause, limit_bytes)
        else:
            evidence, note, is_vague = _judge_text(_words(cause), limit_bytes)
    if evidence and limit_bytes:
        return out_of_memory(answer, f"{evidence}{_limit(limit_bytes)}", is_vague=is_vague)
    if note and answer.status == "failed":
        return answer._replace(error=f"{answer.error.rstrip()}\n{note}\n", failure=TRANSIENT)
    return answer


def judge_returned(answer: Answer, limit_bytes: int) -> Answer:
    """Like judge_exception(), for a task that returned an error as ModelOps does."""
    last_line = answer.error.rpartition("\n")[2]
    evidence, is_vague = _find_refusal(last_line)
    if evidence and limit_bytes:
        return out_of_memory(answer, f"{evidence}{_limit(limit_bytes)}", is_vague=is_vague)
    return answer


def judge_end(reason: str, log: str, limit_bytes: int, crash: Crash | None) -> tuple[str, bool]:
    """The evidence that a process ended for lack of memory, "" for none; and whether it is only vague words.

    Args:
        reason: How it ended, in a few words, or the type of an exception about a child's end.
        log: The task's output.
        limit_bytes: Its limit, 0 for no limit.
        crash: The last process that crashed, its own or a child's.
    """
    if not limit_bytes:
        return "", False
    lines = REPORT.split(log)[0].rstrip().splitlines()[-LINES:]
    for line in reversed(lines):
        quoted, is_vague = _find_refusal(line)
        if quoted:
            return f'{reason} after "{quoted}" was printed{_limit(limit_bytes)}', is_vague
        if quoted := _telling_line(line, THREAD):
            evidence, _ = _judge_thread(limit_bytes)
            if not evidence:
                return "", False
            return f'{reason} after "{quoted}" was printed: {evidence}{_limit(limit_bytes)}', False
    if crash and 0 < NEARLY * crash.data_limit_bytes <= crash.data_bytes:
        data, most = crash.data_bytes >> 20, crash.data_limit_bytes >> 20
        allocated = f"after {data:,} MiB of the {most:,} that can be allocated were used"
        return f"{reason} {allocated}{_limit(limit_bytes)}", False
    return "", False


def describe_room(limit_bytes: int, crash: Crash | None) -> str:
    """How much memory a process that crashed for another reason had; "" if not known."""
    if not limit_bytes or crash is None or not crash.data_limit_bytes:
        return ""
    allocated, most = crash.data_bytes >> 20, crash.data_limit_bytes >> 20
    return f"; it had allocated {allocated:,} of at most {most:,} MiB"


def out_of_memory(answer: Answer, evidence: str, *, is_vague: bool = False) -> Answer:
    """The answer of a task that died for lack of memory; the evidence is the last line of its error.

    Vague evidence is a phrase with other uses too; retract() withdraws it.
    """
    if is_vague:
        evidence += f"{ONLY_WORDS}({answer.status}, {answer.reason})"
    error = f"{answer.error.rstrip()}\n{OUT_OF_MEMORY}: {evidence}\n".lstrip()
    return answer._replace(status="died", outputs={}, reason=OUT_OF_MEMORY, error=error, failure="")


def retract(outcome: Outcome) -> Outcome:
    """Correct the answer of a task that ran alone: TaskOOM needs more evidence than a vague phrase.

    A peak near the limit is sufficient. Without it, the task ended as it would have without the phrase.
    """
    before, _, last_line = outcome.error.rstrip().rpartition(f"{OUT_OF_MEMORY}: ")
    _, is_vague, end = last_line.rpartition(ONLY_WORDS)
    if outcome.reason != OUT_OF_MEMORY or not is_vague or "\n" in last_line:
        return outcome
    if not 0 < outcome.peak_bytes < FAR_BELOW * outcome.limit_bytes:
        return outcome
    status, reason = end[1:-1].split(", ", 1)
    if status == "failed":
        return outcome._replace(status="failed", reason=reason, error=before, failure=MODEL)
    return outcome._replace(reason=reason, error=before)


def _limit(limit_bytes: int) -> str:
    return f"; the task's limit is {limit_bytes >> 20:,} MiB"


def _judge_memory_error(error: MemoryError) -> tuple[str, bool]:
    """(evidence, whether it is vague) from a MemoryError: libraries for GPUs have their own."""
    if NOT_OURS.search(_words(error)):
        return "", False
    is_own = type(error).__module__.partition(".")[0] in ("builtins", "numpy")
    return ("an allocation failed", False) if is_own else (_quote(_words(error)), True)


def _judge_text(text: str, limit_bytes: int) -> tuple[str, str, bool]:
    """(evidence for lack of memory, note on the limit on processes, whether the evidence is vague) from an
    exception's message.
    """
    evidence, is_vague = _find_refusal(text)
    if evidence:
        return evidence, "", is_vague
    return (*_judge_thread(limit_bytes), False) if _telling_line(text, THREAD) else ("", "", False)


def _find_refusal(text: str) -> tuple[str, bool]:
    """(a line that reports refused memory, "" for none; whether it is vague)."""
    if quoted := _telling_line(text, CERTAIN):
        return quoted, False
    quoted = _telling_line(text, VAGUE)
    return quoted, bool(quoted)


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
            if quoted := _find_refusal(line)[0]:
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
    """The type of an exception, with its module as in a traceback, and its message."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        return f"{name}: {error}"
    except Exception:  # a failing __str__ of the model
        return name


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
            member
            for member in (*members, cause.__context__, cause.__cause__)
            if isinstance(member, BaseException)
        ]


def _raised_by(error: BaseException) -> str:
    """The name of the function of the innermost frame."""
    frames = error.__traceback__
    while frames and frames.tb_next:
        frames = frames.tb_next
    return frames.tb_frame.f_code.co_name if frames else ""
