"""What failures have in common, from the text of their errors.

    a traceback -> telling_lines(): the message      -> kind_of(): equal for failures that differ in numbers
                -> failing_line(): file and line of the model

    a failed row -> error_digest(): equal for two attempts that failed with exactly the same text

A task is failed when its attempts are used up, or as soon as two of its rows have the same error_digest: an
error that occurred again in another process will occur again. Only failures of the model count in this way
(MODEL): transient ones, such as a lost connection, and failures before the model's function was called keep
all attempts. Rows of earlier versions have no error_digest.
"""

import re
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

MODEL = "model"  # in column `failure`: the model raised, and will probably do so again
TRANSIENT = "transient"  # in that column: the model raised a transient error
START = "start"  # in that column: the process failed before the model's function was called
MESSAGE_LIMIT = 400  # characters of an error message that are stored
_NUMBER = r"0x[0-9a-fA-F]+|[0-9]+(?:[.][0-9]+)?(?:[eE][-+]?[0-9]+)?"
_PREFIX = re.compile(r"^ *[|+] ?")  # characters of the lines of an exception group
_FIRST_MEMBER = re.compile(r"^ *\+-\+-+ 1 -+$")
_FRAME = re.compile(r'^[ |+]*File "(.+?)", line (\d+)', re.MULTILINE)
_NOT_OF_A_MODEL = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3|^<")
_SEPARATORS = ("During handling of the above exception", "The above exception was the direct cause")


def telling_lines(reason: str, error: str) -> str:
    """The message of an error: the line with the exception's type, then further lines and notes.

    For an exception group these are its message and the first of its errors. At most MESSAGE_LIMIT
    characters; "" for an error without text.

    Args:
        reason: Name of the exception's type, or another short reason.
        error: A traceback as Python prints it, or any text.
    """
    lines = [line.rstrip() for line in error.strip("\n").splitlines()]
    if not any(lines):
        return ""
    for number, line in enumerate(lines):  # the last of several exceptions is the one that was raised
        if line.startswith(_SEPARATORS):
            lines = [*[""] * number, *lines[number:]]
    begins = re.compile(rf"(?:[\w.<>]+\.)?{re.escape(reason)}(?::|$| *\()") if reason else None
    first = next(
        (number for number, line in enumerate(lines) if begins and begins.match(_PREFIX.sub("", line))), None
    )
    if first is None:  # not a traceback, or a truncated one
        return next(line.strip() for line in reversed(lines) if line.strip())[:MESSAGE_LIMIT]
    is_group = bool(_PREFIX.match(lines[first]))
    told = [_PREFIX.sub("", lines[first])]
    for number in range(first + 1, len(lines)):
        if is_group and _FIRST_MEMBER.match(lines[number]):
            if member := _first_error(lines[number + 1 :]):
                told.append(f"first: {member}")
            break
        told.append(_PREFIX.sub("", lines[number]) if is_group else lines[number])
    return "\n".join(line.strip() for line in told if line.strip())[:MESSAGE_LIMIT]


def _first_error(lines: list[str]) -> str:
    """The line with the type of the first error of a group."""
    for line in lines:
        text = re.sub(r"^[ |+]*\| ", "", line)
        if re.match(r"[\w.<>]+(:|$)", text) and not text.startswith("Traceback"):
            return text
    return ""


def failing_line(error: str, folder: str = "") -> str:
    """FILE:LINE of the innermost frame in the model's code, or of any frame; "" without a traceback.

    Files in the folder are named relative to it.
    """
    frames = _FRAME.findall(error)
    if not frames:
        return ""
    own_frames = [frame for frame in frames if frame[0].startswith(f"{folder}/")] if folder else []
    own_frames = own_frames or [frame for frame in frames if not _NOT_OF_A_MODEL.search(frame[0])] or frames
    path, line = own_frames[-1]
    return f"{path.removeprefix(f'{folder}/') if folder else path}:{line}"


def error_digest(failure: str, reason: str, error: str) -> int | None:
    """A 64-bit number that is equal for failures of the model with the same reason and error.

    None for failures that another attempt may fix.
    """
    if failure != MODEL:
        return None
    text = f"{reason}\n{error}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def without_numbers(messages: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace each number in messages by #, so that failures that differ only in numbers are equal."""
    return pc.replace_substring_regex(messages, pattern=_NUMBER, replacement="#")
