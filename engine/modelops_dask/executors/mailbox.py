"""Read answers, in a worker, and in a zygote for its children.

    Mailbox.read() -> Mailbox.frame(turn) -> answer_of(frame) -> Answer

The reader of an answer knows its turn and its process, and on Linux the kernel reports which process wrote
each piece: anything unexpected raises OutOfTurn. Nothing that comes from a model is unpickled, because a
pickle may run code in the reading process.

This module uses only the standard library and Python 3.9's language, because zygote.py loads it by path.
process.py and zygote.py decide what happens to a process that sent an unexpected message.
"""

from __future__ import annotations

import json
import pickle
import socket
import sys
from typing import Any

if __package__:  # in the worker
    from modelops_dask.executors import messages
else:  # by path, in a process that loads that module first
    messages = sys.modules["_modelops_messages"]

TURN_BYTES, HEAD_AT, CHUNK = messages.TURN_BYTES, messages.HEAD_AT, messages.CHUNK
HEAD_LIMIT, BODY_LIMIT, STATUSES = messages.HEAD_LIMIT, messages.BODY_LIMIT, messages.STATUSES
CREDENTIALS = sys.platform == "linux" and hasattr(socket, "SO_PASSCRED")
_SPACE = socket.CMSG_SPACE(12) if CREDENTIALS else 0  # room for struct ucred, but not for descriptors
_KINDS = [str, dict, str, str, int, int, str]  # number of an answer's fields, in its head
_NUMBERS = 1 << 63
# A value and the position after it.
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # typeshed leaves out what is not documented
_lengths_at = messages.LENGTHS.unpack_from
_Answer = messages.Answer


class OutOfTurn(Exception):
    """An unexpected message instead of the awaited answer; str() explains it to the author of the model.

    Its last line is the same for equal causes.
    """


STRANGER = (
    "unexpected message: another process wrote to the connection of the task's process; "
    "does the model fork a child that does not end?"
)
STRAY = "unexpected message: the task's process wrote something else than an answer to its connection"


def pack_request(message: object) -> bytes:
    """Encode a request."""
    body = pickle.dumps(message, protocol=4)
    return len(body).to_bytes(8, "big") + body


class Mailbox:
    """The reading end of a socket to which one process writes answers."""

    def __init__(self, connection: socket.socket) -> None:
        """Create it before any process writes: the kernel records the writers from here on."""
        self._socket = connection
        self._pid = b""
        self._data: bytes | bytearray = b""
        self._at = 0  # bytes that were consumed; less than all
        if CREDENTIALS:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def expect(self, pid: int) -> None:
        """Set whose answers these are."""
        self._pid = pid.to_bytes(4, sys.byteorder)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read beyond the consumed answers."""
        return not self._data

    def read(self) -> bool:
        """Read available data; False once the other side has closed. Raises OutOfTurn, and errors of
        recv().
        """
        if CREDENTIALS:
            # Data of different processes is never read in one piece.
            chunk, ancillary, flags, _ = self._socket.recvmsg(CHUNK, _SPACE)
            if chunk and (not ancillary or ancillary[0][2][:4] != self._pid or flags & socket.MSG_CTRUNC):
                raise OutOfTurn(STRANGER)
        else:
            chunk = self._socket.recv(CHUNK)
        if self._at:
            self._data, self._at = self._data[self._at :], 0
        if not self._data:
            self._data = chunk
        else:
            if len(self._data) > CHUNK and type(self._data) is bytes:
                self._data = bytearray(self._data)  # of a large answer, which grows in place
            self._data += chunk
        return bool(chunk)

    def frame(self, its_turn: bytes) -> bytes | None:
        """The whole unparsed answer of a turn; None while some of it is missing. Raises OutOfTurn."""
        data, offset = self._data, self._at
        if len(data) - offset < HEAD_AT or not data.startswith(its_turn, offset):
            begun = bytes(data[offset : offset + TURN_BYTES])
            if its_turn.startswith(begun):
                return None
            raise _stray_answer(f"it began with {begun!r}")
        head_size, body_size = _lengths_at(data, offset + TURN_BYTES)
        if not 0 < head_size <= HEAD_LIMIT or body_size > BODY_LIMIT:
            raise _stray_answer(f"it announced a head of {head_size:,} bytes and a body of {body_size:,}")
        stop = offset + HEAD_AT + head_size + body_size
        if len(data) < stop:
            return None
        if type(data) is bytes:
            frame = data[offset:stop]
        else:
            with memoryview(data) as view:
                frame = bytes(view[offset:stop])  # one copy; a slice of the data would be another
        if stop == len(data):
            self._data, self._at = b"", 0
        elif type(data) is bytes:
            self._at = stop
        else:
            self._data, self._at = bytes(data[stop:]), 0
        return frame


def open_frame(frame: bytes) -> tuple[object, memoryview]:
    """Split a frame into the JSON of its head and its body. Raises OutOfTurn."""
    head_size, _ = _lengths_at(frame, TURN_BYTES)
    offset = HEAD_AT + head_size
    return _json(frame[HEAD_AT:offset]), memoryview(frame)[offset:]


def answer_of(frame: bytes) -> messages.Answer:
    """Decode the answer in a frame. Raises OutOfTurn."""
    offset = HEAD_AT + _lengths_at(frame, TURN_BYTES)[0]
    data = frame[HEAD_AT:offset]
    head = _json(data)
    if type(head) is not list or [*map(type, head)] != _KINDS:
        raise _stray_answer("its head does not have the fields of an answer")
    status, lengths, reason, error, nanoseconds, peak_bytes, failure = head
    if status not in STATUSES or not 0 <= nanoseconds < _NUMBERS or not 0 <= peak_bytes < _NUMBERS:
        raise _stray_answer("its head has values that are not valid in an answer")
    outputs = {}
    for name, size in lengths.items():
        if type(size) is not int or size < 0:
            raise _stray_answer(f"an output of {str(size)[:40]} bytes")
        outputs[name] = frame[offset : offset + size]
        offset += size
    if offset != len(frame):
        raise _stray_answer("the lengths of its outputs differ from those received")
    if b"\\u" in data or not data.isascii():
        try:
            "".join((reason, error, failure, *lengths)).encode()
        except UnicodeEncodeError:
            raise _stray_answer("a text in its head cannot be stored") from None
    # By position, like the head itself, because this runs for every task. A test compares the fields.
    return _Answer(status, outputs, reason, error, nanoseconds / 1e9, peak_bytes, failure)


def _json(data: bytes) -> Any:
    try:
        text = data.decode()
        head, stop = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration) as error:
        raise _stray_answer(f"its head is not JSON: {error}") from None
    if stop != len(text):
        raise _stray_answer("its head is more than one JSON value")
    return head


def _stray_answer(problem: str) -> OutOfTurn:
    return OutOfTurn(f"{problem}\n{STRAY}")
