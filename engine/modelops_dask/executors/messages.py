"""Requests to the process that runs a model, and its answers.

    request   length, 8 bytes | pickle                  to a runner, to a zygote, to a zygote's child
    answer    turn, 16 bytes | lengths of head and body, 4 and 8 bytes | head, JSON | body
              the head is an Answer, with each output's length in place of its bytes; the body is the outputs

A turn is the number of a task in the life of its process, and a nonce of the request. Who waits for an answer
knows its turn and its process, and on Linux the kernel tells which process wrote each piece: whatever does
not fit raises OutOfTurn. A process that a model forks has no Connection. Nothing that comes from a model is
unpickled, for a pickle may run code in the process that reads it.

Standard library only, in Python 3.9's language: runner.py and zygote.py load it by path. Does not know what
becomes of a process that spoke out of turn: process.py and zygote.py do.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import socket
import struct
import sys
from typing import Any, NamedTuple

TURN_BYTES = 16
START = bytes(TURN_BYTES)  # the turn of a process that tells that it has started
HEAD_AT = TURN_BYTES + 12
HEAD_LIMIT = 64 << 20  # bytes; 64 Ki characters of a traceback and a million short names of outputs are less
BODY_LIMIT = 1 << 40
CHUNK = 1 << 16
OUT_OF_TURN = "SpokeOutOfTurn"
LOST_CONNECTION = 76  # exit status of a process that cannot answer, and of a copy of one, which must not
CREDENTIALS = sys.platform == "linux" and hasattr(socket, "SO_PASSCRED")
_LENGTHS = struct.Struct(">IQ")  # of a head and a body
_SPACE = socket.CMSG_SPACE(12) if CREDENTIALS else 0  # for struct ucred, and not for descriptors
_getpid = os.getpid  # a model may replace it, and diagnosis does
_quoted = json.encoder.encode_basestring_ascii
_scan = json.JSONDecoder().scan_once  # a value, and where it ends


class OutOfTurn(Exception):
    """Something came that is not the awaited answer of the awaited process; str() says what, for the author
    of the model. Its last line is the same for equal causes.
    """


STRANGER = (
    "spoke out of turn: another process wrote to the connection of the task's process; "
    "does the model fork a child that does not end?"
)
STRAY = "spoke out of turn: the task's process wrote something to its connection that is no answer"


class HeadTooLarge(Exception):
    """The names of a task's outputs take more than an answer can hold."""


class Answer(NamedTuple):
    """What a call came to: the fields of the same names in Outcome."""

    status: str
    outputs: dict
    reason: str = ""
    error: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


READY, PONG = Answer("ready", {}), Answer("pong", {})
ENDS = ("ok", "failed", "died")  # of tasks
STATUSES = (*ENDS, "ready", "pong")
_KINDS = [str, dict, str, str, float, int]  # of an answer's fields, in its head


def turn(nonce: bytes, number: int) -> bytes:
    """The turn of a process's task number `number` (from 1), by its request's nonce of 8 bytes."""
    return number.to_bytes(8, "big") + nonce


# The side of the model


class Connection:
    """What a process that runs a model has of its socket: requests come, answers go.

    A process forked from it has none: the socket is closed in it, and where the fork went past Python the
    process ends as soon as it uses this.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._pid = _getpid()
        os.register_at_fork(after_in_child=self._socket.close)

    def hold(self) -> None:
        """After the model has run: end this process if it is a copy of the one that has the connection."""
        if _getpid() != self._pid:
            os._exit(LOST_CONNECTION)

    def receive(self) -> bytes | None:
        """The next request, still pickled; None once the other side is gone."""
        self.hold()
        length = self._exactly(8)
        return None if length is None else self._exactly(int.from_bytes(length, "big"))

    def send(self, its_turn: bytes, answer: Answer) -> None:
        """Answer a request, in the process that the connection is of: see hold(). Raises OSError."""
        try:
            self.send_frame(packed(its_turn, head_of(answer), *answer.outputs.values()))
        except HeadTooLarge as error:
            failed = answer._replace(status="failed", outputs={}, reason="HeadTooLarge", error=str(error))
            self.send_frame(packed(its_turn, head_of(failed)))

    def send_frame(self, frame: list[bytes]) -> None:
        """Write what packed() made, in the process that the connection is of. Raises OSError."""
        for piece in frame:
            self._socket.sendall(piece)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self._socket.recv(min(size - len(data), 1 << 20))
            except OSError:  # closed by the model
                return None
            if not chunk:
                return None
            data += chunk
        return bytes(data)


def head_of(answer: Answer) -> str:
    """The head of an answer, in JSON. By hand: json.dumps takes three times as long, for every task."""
    status, outputs, reason, error, seconds, peak_bytes = answer
    lengths = ",".join([f"{_quoted(name)}:{len(data)}" for name, data in outputs.items()])
    texts = f"{_quoted(reason)},{_quoted(error)}" if reason or error else '"",""'
    return f'["{status}",{{{lengths}}},{texts},{seconds!r},{peak_bytes}]'


def packed(its_turn: bytes, head: str, *blobs: bytes) -> list[bytes]:
    """An answer in pieces to write one after another: small ones together, large ones without copying them.

    Raises HeadTooLarge.
    """
    text = head.encode()
    if len(text) > HEAD_LIMIT:
        size, most = len(text) >> 20, HEAD_LIMIT >> 20
        raise HeadTooLarge(f"the names of the outputs take {size} MiB, and may take {most} MiB")
    size = sum(map(len, blobs))
    first = its_turn + _LENGTHS.pack(len(text), size)
    return [first + text, *blobs] if size > CHUNK else [b"".join((first, text, *blobs))]


# The other side


def request(message: object) -> bytes:
    """The bytes of a request."""
    body = pickle.dumps(message, protocol=4)
    return len(body).to_bytes(8, "big") + body


class Mailbox:
    """The reading end of a socket that one process writes answers to."""

    def __init__(self, connection: socket.socket) -> None:
        """Before anybody writes: the kernel notes who wrote what from here on."""
        self._socket = connection
        self._pid = b""
        self._data = bytearray()
        if CREDENTIALS:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def expect(self, pid: int) -> None:
        """Whose answers these are."""
        self._pid = pid.to_bytes(4, sys.byteorder)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read beyond the answers that were taken."""
        return not self._data

    def read(self) -> bool:
        """Read what is there; False once the other side is gone. Raises OutOfTurn, and what recv() raises."""
        if CREDENTIALS:
            # What different processes wrote is never read in one piece.
            chunk, ancillary, flags, _ = self._socket.recvmsg(CHUNK, _SPACE)
            if chunk and (not ancillary or ancillary[0][2][:4] != self._pid or flags & socket.MSG_CTRUNC):
                raise OutOfTurn(STRANGER)
        else:
            chunk = self._socket.recv(CHUNK)
        self._data += chunk
        return bool(chunk)

    def frame(self, its_turn: bytes) -> bytes | None:
        """The whole answer of a turn, as it came; None while something of it is missing. Raises OutOfTurn."""
        data = self._data
        if len(data) < HEAD_AT or not data.startswith(its_turn):
            if its_turn.startswith(data[:TURN_BYTES]):
                return None
            raise _stray(f"it began with {bytes(data[:TURN_BYTES])!r}")
        head_size, body_size = _LENGTHS.unpack_from(data, TURN_BYTES)
        if not 0 < head_size <= HEAD_LIMIT or body_size > BODY_LIMIT:
            raise _stray(f"it told of a head of {head_size:,} bytes and a body of {body_size:,}")
        size = HEAD_AT + head_size + body_size
        if len(data) < size:
            return None
        if size > CHUNK:
            with memoryview(data) as view:
                frame = bytes(view[:size])  # one copy; a slice of the data would be another
        else:
            frame = bytes(data[:size])
        del data[:size]
        return frame


def opened(frame: bytes) -> tuple[Any, memoryview]:
    """(the head's JSON, the body) of a frame. Raises OutOfTurn."""
    head_size, _ = _LENGTHS.unpack_from(frame, TURN_BYTES)
    at = HEAD_AT + head_size
    return _json(frame[HEAD_AT:at]), memoryview(frame)[at:]


def answer_of(frame: bytes) -> Answer:
    """The answer in a frame. Raises OutOfTurn."""
    head_size, body_size = _LENGTHS.unpack_from(frame, TURN_BYTES)
    at = HEAD_AT + head_size
    status, lengths, reason, error, seconds, peak_bytes = checked_head(frame[HEAD_AT:at], body_size)
    outputs = {}
    for name, size in lengths.items():
        outputs[name] = frame[at : at + size]
        at += size
    return Answer(status, outputs, reason, error, seconds, peak_bytes)


def checked_head(data: bytes, body_size: int) -> list:
    """A head: an Answer's fields, whose outputs have so many bytes together. Raises OutOfTurn."""
    head = _json(data)
    if type(head) is not list or [*map(type, head)] != _KINDS:
        raise _stray("its head does not have the fields of an answer")
    status, lengths, reason, error, seconds, peak_bytes = head
    if status not in STATUSES or not 0 <= seconds < math.inf or not 0 <= peak_bytes < 1 << 63:
        raise _stray("its head has values that no answer has")
    total = 0
    for size in lengths.values():
        if type(size) is not int or size < 0:
            raise _stray(f"an output of {str(size)[:40]} bytes")
        total += size
    if total != body_size:
        raise _stray("the lengths of its outputs are not those that came")
    if b"\\u" in data or not data.isascii():
        try:
            "".join((reason, error, *lengths)).encode()
        except UnicodeEncodeError:
            raise _stray("a text in its head cannot be stored") from None
    return head


def _json(data: bytes) -> Any:
    try:
        text = data.decode()
        head, stop = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration) as error:
        raise _stray(f"its head is not JSON: {error}") from None
    if stop != len(text):
        raise _stray("its head is more than one JSON value")
    return head


def _stray(what: str) -> OutOfTurn:
    return OutOfTurn(f"{what}\n{STRAY}")
