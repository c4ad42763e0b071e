"""Requests to the process that runs a model, and its answers; this is that process's side.

    request   length, 8 bytes | pickle                  to a runner, to a zygote, to a zygote's child
    answer    turn, 16 bytes | lengths of head and body, 4 and 8 bytes | head, JSON | body
              the head is an Answer, with each output's length in place of its bytes, and its time in
              nanoseconds; the body is the outputs

A turn is the number of a task in the life of its process, and a nonce of the request. A process that a model
forks has no Connection. The other side, mailbox.py, trusts nothing that it receives.

This module uses only the standard library and Python 3.9's language: runner.py and zygote.py load it by path.
Every new interpreter pays for what is imported here: json, pickle, socket and typing would be a quarter of
its start.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

TURN_BYTES = 16
START = bytes(TURN_BYTES)  # the turn of a process's report that it has started
HEAD_AT = TURN_BYTES + 12
HEAD_LIMIT = 64 << 20  # bytes; 64 Ki characters of a traceback and a million short names of outputs are less
BODY_LIMIT = 1 << 40
CHUNK = 1 << 16
OUT_OF_TURN = "SpokeOutOfTurn"  # the reason of a task that died because its process wrote anything else
LOST_CONNECTION = 76  # exit status of a process that cannot answer, and of its copies, which must not
LENGTHS = struct.Struct(">IQ")  # of a head and a body
_getpid, _read, _write = os.getpid, os.read, os.write  # a model may replace them, and diagnosis does


class HeadTooLarge(Exception):
    """The names of a task's outputs exceed the size of an answer."""


class CannotCall(Exception):
    """A task's parameters do not fit the function that its study names, which was not called."""

    __module__ = "builtins"  # so that tracebacks show only the name, however this file was loaded


class Answer(
    namedtuple(
        "Answer", "status outputs reason error seconds peak_bytes failure", defaults=("", "", 0.0, 0, "")
    )
):
    """The result of a call: the fields of the same names in Outcome."""

    __slots__ = ()
    status: str
    outputs: dict[str, bytes]
    reason: str
    error: str
    seconds: float
    peak_bytes: int
    failure: str


READY, PONG = Answer("ready", {}), Answer("pong", {})
ENDS = ("ok", "failed", "died")  # of tasks
# Kinds of failures: before the model's function was called; of the model; a transient one of the model.
START_FAILURE, MODEL, TRANSIENT = "start", "model", "transient"
STATUSES = (*ENDS, "ready", "pong")


def turn(nonce: bytes, number: int) -> bytes:
    """The turn of a process's task `number` (from 1), with its request's nonce of 8 bytes."""
    return number.to_bytes(8, "big") + nonce


# The side of the model


class Connection:
    """A model process's side of its socket: it receives requests and sends answers.

    A forked process has none: the socket is closed in it, and if the fork bypassed Python, the process ends
    as soon as it uses this.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pid = _getpid()
        os.register_at_fork(after_in_child=self._close)

    def hold(self) -> None:
        """After the model has run: end this process if it is a copy of the owner of the connection."""
        if _getpid() != self._pid:
            os._exit(LOST_CONNECTION)

    def receive(self) -> bytes | None:
        """The next request, still pickled; None once the other side has closed."""
        self.hold()
        length = self._exactly(8)
        return None if length is None else self._exactly(int.from_bytes(length, "big"))

    def send(self, its_turn: bytes, answer: Answer) -> None:
        """Answer a request, in the process that owns the connection: see hold(). Raises OSError."""
        try:
            self.send_frame(pack(its_turn, head_of(answer), *answer.outputs.values()))
        except HeadTooLarge as error:
            failed = answer._replace(
                status="failed", outputs={}, reason="HeadTooLarge", error=str(error), failure=MODEL
            )
            self.send_frame(pack(its_turn, head_of(failed)))

    def send_frame(self, frame: list[bytes]) -> None:
        """Write the result of pack(), in the process that owns the connection. Raises OSError."""
        for piece in frame:
            n_written = _write(self._descriptor, piece)
            while n_written < len(piece):
                n_written += _write(self._descriptor, memoryview(piece)[n_written:])

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = _read(self._descriptor, min(size - len(data), 1 << 20))
            except OSError:  # closed by the model
                return None
            if not chunk:
                return None
            data += chunk
        return bytes(data)

    def _close(self) -> None:
        """Close it in a forked process, once: in later forks, the number may belong to another file."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if descriptor >= 0:
                os.close(descriptor)
        except OSError:  # the model has
            return


def head_of(answer: Answer) -> str:
    """The head of an answer, in JSON. Built manually, because json.dumps takes three times as long for every
    task.
    """
    status, outputs, reason, error, seconds, peak_bytes, failure = answer
    lengths = ",".join([f"{_quoted(name)}:{len(data)}" for name, data in outputs.items()])
    texts = f"{_quoted(reason)},{_quoted(error)}" if reason or error else '"",""'
    return f'["{status}",{{{lengths}}},{texts},{int(seconds * 1e9 + 0.5)},{peak_bytes},"{failure}"]'


def _quoted(text: str) -> str:
    if text.isidentifier() and text.isascii():
        return f'"{text}"'
    try:
        from _json import (
            encode_basestring_ascii,
        )  # json itself takes longer, and may be a module of the model
    except ImportError:
        from json.encoder import encode_basestring_ascii
    quoted: str = encode_basestring_ascii(text)
    return quoted


def import_standard(name: str) -> ModuleType:
    """A module of Python's standard library, even if the model has a module of its name, or of the name of a
    module that it imports. The model keeps its own.
    """
    import importlib

    standard = os.path.dirname(os.__file__) + os.sep
    if (getattr(sys.modules.get(name), "__file__", None) or "").startswith(standard):
        return sys.modules[name]
    path = sys.path[:]
    ahead = [each + os.sep for each in path[: path.index(standard[:-1])]] if standard[:-1] in path else []
    ahead = [each for each in ahead if each != os.sep and not standard.startswith(each)]
    own = {
        key: module
        for key, module in list(sys.modules.items())
        if (getattr(module, "__file__", None) or "").startswith(tuple(ahead)) and _has_module(standard, key)
    }
    before = set(sys.modules)
    try:
        for key in own:
            del sys.modules[key]
        sys.path[:] = [each for each in path if each + os.sep not in ahead]
        return importlib.import_module(name)
    finally:
        sys.path[:] = path
        for key in set(sys.modules).difference(before):
            if any(_has_module(folder, key) for folder in ahead):
                del sys.modules[key]
        sys.modules.update(own)


def _has_module(folder: str, name: str) -> bool:
    path = folder + name.partition(".")[0]
    return os.path.exists(f"{path}.py") or os.path.exists(path)


def pack(its_turn: bytes, head: str, *blobs: bytes) -> list[bytes]:
    """An answer in pieces to write one after another: small ones joined, large ones without copying them.

    Raises HeadTooLarge.
    """
    text = head.encode()
    if len(text) > HEAD_LIMIT:
        size, most = len(text) >> 20, HEAD_LIMIT >> 20
        raise HeadTooLarge(f"the names of the outputs take {size} MiB; the limit is {most} MiB")
    size = sum(map(len, blobs))
    first = its_turn + LENGTHS.pack(len(text), size)
    return [first + text, *blobs] if size > CHUNK else [b"".join((first, text, *blobs))]
