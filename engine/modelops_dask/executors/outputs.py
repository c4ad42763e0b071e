"""Interpret what a wire function returned: outputs, or an error as ModelOps returns it.

    {name: bytes or text} -> check_outputs() -> {name: bytes}
    {name: bytes} -> find_failure() -> (reason, error) of a failed task
    an exception -> is_transient() -> whether another attempt may end differently

ModelOps' bridges catch exceptions and return them. docs/modelops.md describes which results count as
failures. This module uses only the standard library and Python 3.9's language, because runner.py loads it by
path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for this import: see messages.py
    from typing import Any

if TYPE_CHECKING or __package__:
    from modelops_dask.executors import messages
else:  # runner.py has loaded it by path
    messages = sys.modules["_modelops_messages"]

ERROR, METADATA = "error", "metadata"  # names of outputs with a meaning in ModelOps
MODEL_ERROR, NO_OUTPUTS, EMPTY_OUTPUTS = "ModelError", "NoOutputs", "EmptyOutputs"
TOO_LARGE = "OutputsTooLarge"
EXCEPTION = r"(?:\w+\.)*([A-Z]\w{0,79})"  # a class, possibly with its module
READABLE = rb"[\t\n\r\x20-\x7e]{4,}"
TEXT_LIMIT = 16 * 1024  # characters of the returned text that are stored
MOST_NAMES, NAME_LIMIT = 3, 24  # outputs, and characters of each, in a sentence
STEP_BYTES = 64 << 20  # steps of suggested memory
TRANSIENT_NAMES = {
    "ConnectionError",
    "TimeoutError",
}  # libraries have classes of these names that are not OSErrors
# Errors of a disk about a name: the same again next time.
OF_NAMES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
MOST_CAUSES = 100  # exceptions of a chain that are examined

# The bytes of a task's outputs that the worker can receive and store, and its own memory; 0: no limits.
limits = (0, 0, 0)


class NamedOutputs(dict):  # type: ignore[type-arg]  # of str and bytes; Python 3.9 would make that at run time
    """Outputs of other than wire functions: they are checked, and an output named `error` has no special
    meaning.
    """

    __slots__ = ()


def check_outputs(outputs: object) -> dict[str, bytes]:
    """The wire function's result as {str: bytes}; text becomes UTF-8, as in ModelOps' own runner.

    Raises TypeError, also for a name that cannot be stored.
    """
    if type(outputs) is NamedOutputs:
        return outputs
    # the fast path for a dict, the usual case
    if type(outputs) is not dict and not isinstance(outputs, Mapping):
        raise TypeError(f"wire returned {type(outputs).__name__}; expected a dict of bytes")
    copy = {}  # a model may return the same dict every time
    for name, data in outputs.items():
        if not isinstance(name, str):
            raise TypeError(f"wire returned a name that is not text: {name!r}")
        if type(name) is not str:  # for example a member of an Enum, which JSON would write by its value
            name = str.__str__(name)
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise TypeError(
                f"wire returned an output with the name {name!a}, which cannot be stored: {error.reason}"
            ) from None
        if type(data) is not bytes:
            data = _as_bytes(name, data)
        copy[name] = data
    return copy


def total_bytes(outputs: Mapping[str, bytes]) -> int:
    """The bytes of all outputs together."""
    return sum(map(len, outputs.values()))


def explain_size(outputs: Mapping[str, bytes], limits: tuple[int, int, int], is_received: bool) -> str:
    """Explain that outputs are larger than a worker process can hold, with remedies.

    limits are the bytes of a task that it can receive and store, and its own: limits/worker_memory.py.
    is_received: whether they were received and cannot be stored.
    """
    most_received, most_stored, process_bytes = limits
    sizes = sorted(((len(data), name) for name, data in outputs.items()), reverse=True)
    total = total_bytes(outputs)
    names = ", ".join(f"{name[:NAME_LIMIT]!r} {_mib(size)}" for size, name in sizes[:MOST_NAMES])
    names += f" and {len(sizes) - MOST_NAMES} more" if len(sizes) > MOST_NAMES else ""
    value = "more workers.memoryPerProcess"
    if most_stored:  # proportional: slightly too much, because the process's own memory does not grow
        steps = -(-process_bytes * total // (most_stored * STEP_BYTES))
        value = f"--set workers.memoryPerProcess={steps * STEP_BYTES >> 20}Mi"
    if is_received:
        task = f"can store {_mib(most_stored)} of a task"
        less = "Return fewer rows or columns, list the outputs that you need (outputs: in the study file)"
    else:
        task, less = f"can receive {_mib(most_received)} of a task", "Return fewer outputs, rows or columns"
    return (
        f"{TOO_LARGE}: the outputs have {_mib(total)} ({names}), and a worker process of "
        f"{_mib(process_bytes)} {task}\n{less}, or use {value} --retry failed"
    )


def _list_names(names: Iterable[str]) -> str:
    """Names of outputs for a message; names with control characters are written as in Python."""
    return ", ".join([name if name.isprintable() else repr(name) for name in names])[:TEXT_LIMIT]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"


def find_failure(outputs: Mapping[str, bytes]) -> tuple[str, str] | None:
    """(reason, error) if ModelOps considers checked outputs a failed run; otherwise None."""
    if ERROR not in outputs and METADATA not in outputs and any(outputs.values()):
        return None  # the fast path, the usual case
    if type(outputs) is NamedOutputs:
        return None
    if not any(outputs.values()):
        if not outputs:
            return NO_OUTPUTS, f"{NO_OUTPUTS}: wire returned no outputs"
        names = _list_names(outputs)
        return EMPTY_OUTPUTS, f"{EMPTY_OUTPUTS}: wire returned only outputs of 0 bytes: {names}"
    if ERROR in outputs and not any(data for name, data in outputs.items() if name != ERROR):
        return _read_lone_error(outputs[ERROR])
    if b'"error"' in outputs.get(METADATA, b""):
        metadata = _parse_json(outputs[METADATA])
        if isinstance(metadata, dict) and metadata.get("error"):
            return _describe(metadata, METADATA, outputs[METADATA])
    if METADATA in outputs and len(outputs) > 1:
        others = [name for name in outputs if name != METADATA]
        if not any(outputs[name] for name in others):
            names = _list_names(others)
            return EMPTY_OUTPUTS, (
                f"{EMPTY_OUTPUTS}: wire returned only metadata and outputs of 0 bytes: {names}"
            )
    return None


def is_transient(error: BaseException) -> bool:
    """Whether an exception comes from the environment (the network, a disk), or was caused by such an error.

    That is an OSError other than OF_NAMES. Another attempt may then end differently.
    """
    errors, seen = [error], set[int]()
    while errors and len(seen) < MOST_CAUSES:
        cause = errors.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        if _is_transient_type(type(cause)):
            return True
        context = None if cause.__suppress_context__ else cause.__context__
        members = getattr(cause, "exceptions", ())  # of a group
        members = members if isinstance(members, tuple) else ()
        errors += [each for each in (cause.__cause__, context, *members) if isinstance(each, BaseException)]
    return False


def is_transient_name(reason: str) -> bool:
    """Like is_transient, for the name of an exception, for errors that a model returns."""
    import builtins

    kind = getattr(builtins, reason, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return _is_transient_type(kind)
    return reason in TRANSIENT_NAMES


def _is_transient_type(kind: type) -> bool:
    if issubclass(kind, OF_NAMES):
        return False
    return issubclass(kind, OSError) or any(base.__name__ in TRANSIENT_NAMES for base in kind.__mro__)


def _read_lone_error(data: bytes) -> tuple[str, str] | None:
    document = _parse_json(data)
    if isinstance(document, dict):
        if "error" in document and document["error"] is None:
            return None
        return _describe(document, ERROR, data)
    return _describe({"error": document if isinstance(document, str) else _text(data)}, ERROR, data)


def _describe(document: dict[str, Any], name: str, data: bytes) -> tuple[str, str]:
    """The error described by JSON: {"error": message or such JSON, "type": an exception, "traceback": ...}"""
    json, re = messages.import_standard("json"), messages.import_standard("re")
    inner = document["error"] if isinstance(document.get("error"), dict) else document
    message = inner.get("error") or inner.get("message") or _text(data)
    kind = re.fullmatch(EXCEPTION, str(inner.get("type") or inner.get("error_type")), re.ASCII)
    reason = kind[1] if kind and kind[0] != "None" else MODEL_ERROR
    trace = inner.get("traceback") or document.get("traceback")
    lines = [f"the model returned an error in its output {name!r}"]
    if isinstance(trace, str):
        lines.append(trace.strip())
    elif len(document) > 1:
        lines.append(_text(data))
    text = message if isinstance(message, str) else json.dumps(message)
    lines.append(f"{reason}: {text[-TEXT_LIMIT:].strip()}")
    return reason, "\n".join(lines).encode("utf-8", "backslashreplace").decode()


def _parse_json(data: bytes) -> Any:
    """Parsed JSON; None if it is invalid."""
    json = messages.import_standard("json")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _text(data: bytes) -> str:
    """Readable text of bytes: for a table, the words that it contains."""
    re = messages.import_standard("re")
    try:
        return data.decode()[:TEXT_LIMIT]
    except UnicodeDecodeError:
        return b" ".join(re.findall(READABLE, data)).decode()[-TEXT_LIMIT:]


def _as_bytes(name: str, data: Any) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"wire returned {type(data).__name__} as {name!r}; expected bytes")
    return bytes(data)
