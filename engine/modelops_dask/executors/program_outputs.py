"""The output files of a program, as outputs of a task.

    CSV -> columns, each of one type -> a table;   JSON -> its value, like an entry of a function's dict
    Parquet -> the file's bytes, which are a table;   others -> the file's bytes

The type of a column follows from its fields: whole numbers, numbers, booleans, or text. This module uses only
the standard library and Python 3.9's language, because runner.py loads it by path.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, BinaryIO

if __package__:
    from modelops_dask.return_values import values
else:  # runner.py has loaded it by path
    values = sys.modules["_modelops_values"]

STDOUT = "-"
MISSING = ("", "NA")  # fields without a value; NA, which R writes, only in a column of numbers or booleans
WHOLE = re.compile(r"\s*[+-]?(?:0|[1-9][0-9]*)\s*")  # not 007, which is a name, not a number
NUMBER = re.compile(
    r"\s*[+-]?(?:(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf|infinity)\s*",
    re.IGNORECASE,
)
NO_DIGITS = re.compile(r"[^1-9eE]*(?:[eE].*)?", re.DOTALL)  # a number that is 0
TRUTHS = {"true": True, "TRUE": True, "True": True, "false": False, "FALSE": False, "False": False}
INT64 = range(-(1 << 63), 1 << 63)
UINT64 = range(1 << 64)
MOST_DIGITS = 400  # digits of a whole number that a float may hold
EXACT = float(1 << 53)  # floats hold all whole numbers below it
SEPARATORS = {";": "semicolons", "\t": "tabs"}
EXTREME = re.compile(r"[eE]\+?[0-9]{3}|[eE]-[0-9]{3}|[0-9]{200}")  # a float may overflow
MOST_CHARACTERS = (1 << 31) - 1  # of a field
JSON_FORMS = (
    "A JSON file is one table: an object of numbers and text, an object of lists of one length, or a list of "
    "such objects. Write other parts to their own files, one for each output. With format: raw, the file "
    "is stored unchanged"
)
PARQUET = b"PAR1"  # the first and the last bytes of such a file
UNNAMED = "index"  # the first column of a table that R or pandas wrote with its row names


class MissingOutput(Exception):
    """The program succeeded but did not write a file that the study declares."""

    __module__ = "builtins"  # so that tracebacks show only the name, however this file was loaded


class UnreadableOutput(Exception):
    """An output file does not have the declared format."""

    __module__ = "builtins"


class Files:
    """The declared files of one task in its folder, without those of earlier tasks."""

    def __init__(self, folder: str, outputs: Sequence[str]) -> None:
        self._folder = folder
        self._outputs = [self._within(file) for file in outputs]
        self._written: list[str] = []
        self._folders: list[str] = []  # that were made
        self.present: dict[str, frozenset[str]] = {}  # contents of output folders before the program ran

    def prepare(self) -> None:
        """Remove the outputs, and create their folders."""
        for path in self._outputs:
            _remove(path)
            self._make_folder(os.path.dirname(path))
        for folder in {self._folder, *map(os.path.dirname, self._outputs)}:
            self.present[folder] = frozenset(_list_folder(folder))

    def write(self, file: str, data: bytes) -> None:
        """Write a file that the program reads."""
        path = self._within(file)
        if path in self._outputs:
            raise UnreadableOutput(f"{file} is an output, and the file that the program reads: rename one")
        self._make_folder(os.path.dirname(path))
        _remove(path)
        with open(path, "wb") as stream:
            stream.write(data)
        self._written.append(path)

    def remove(self) -> None:
        """Remove all of them, and the created folders if nothing else is in them."""
        for path in (*self._outputs, *self._written):
            _remove(path)
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def _within(self, file: str) -> str:
        """The path of a file; a value in its name must not lead outside the folder."""
        path = os.path.normpath(os.path.join(self._folder, file))
        if not path.startswith(self._folder + os.sep):
            raise UnreadableOutput(f"{file} is not in the folder that the program works in")
        return path

    def _make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        self._make_folder(os.path.dirname(folder))
        os.mkdir(folder)
        self._folders.append(folder)


def _remove(path: str) -> None:
    """Remove a file; a folder stays, and is reported when it is read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        os.unlink(path)


def read_outputs(
    files: Mapping[str, tuple[str, str]],
    folder: str,
    printed: BinaryIO | None,
    present: Mapping[str, frozenset[str]] | None = None,
) -> dict[str, bytes]:
    """Outputs by name, from (file, format) by name; printed is the program's standard output, and present is
    Files.present.

    Raises MissingOutput, UnreadableOutput.
    """
    outputs: dict[str, bytes] = {}
    for name, (file, kind) in files.items():
        data = _read_printed(printed) if file == STDOUT else _read_file(name, file, folder, present or {})
        title = f"output {name}, {'standard output' if file == STDOUT else file}"
        if kind == "csv":
            outputs[name] = values.to_table(read_csv(data, title))
        elif kind == "json":
            outputs[name] = _read_json(name, data, title)
        else:
            if kind == "parquet" and not (len(data) > 8 and data[:4] == data[-4:] == PARQUET):
                raise UnreadableOutput(f"{title}: not a Parquet file; was it written completely?")
            outputs[name] = data
    return outputs


def _read_printed(printed: BinaryIO | None) -> bytes:
    assert printed is not None, "it is stored if it is listed as an output"
    printed.seek(0)
    return printed.read()


def _read_file(name: str, file: str, folder: str, present: Mapping[str, frozenset[str]]) -> bytes:
    path = os.path.join(folder, file)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a file"
            raise UnreadableOutput(f"output {name}: {file} is {kind}")
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        written = _list_new(sorted({os.path.dirname(os.path.normpath(path)), folder}), folder, present)
        raise MissingOutput(f"output {name}: the program did not write {file}; {written}") from None
    except PermissionError as error:
        raise UnreadableOutput(f"output {name}: {file}: {error.strerror}") from None


def _list_new(folders: Sequence[str], top: str, present: Mapping[str, frozenset[str]]) -> str:
    """The files that the program wrote into the folders instead."""
    names = []
    for folder in folders:
        for name in sorted(set(_list_folder(folder)).difference(present.get(folder, ()))):
            path = os.path.join(folder, name)
            names.append(os.path.relpath(path, top) + ("/" if os.path.isdir(path) else ""))
    if not names:
        return "it wrote no other file there"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"it wrote {', '.join(names[:10])}{more}"


def _list_folder(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_json(name: str, data: bytes, title: str) -> bytes:
    try:
        text = data.decode("utf-8-sig")
        parse_float: Any = _parse_float if EXTREME.search(text) else None  # which takes longer
        value = json.loads(text, object_pairs_hook=_read_object, parse_float=parse_float)
    except (ValueError, RecursionError) as error:
        raise UnreadableOutput(f"{title}: {_explain_json(error, data)}") from None
    try:
        table: bytes = values.to_output(name, value)
    except TypeError as error:  # worded for functions
        problem = "is null" if value is None else str(error).partition(": return")[0].partition(". A dict")[0]
        problem = f"{title} {problem}" if value is None else problem.replace(" a dict", " an object")
        raise UnreadableOutput(f"{problem}. {JSON_FORMS}") from None
    return table


class _Refused(ValueError):
    """JSON that would not be stored unchanged."""


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"an object has {repeated!r} twice; give each value a name of its own")
    return entries


def _parse_float(text: str) -> float:
    try:
        return _to_float(text)
    except ValueError as error:
        raise _Refused(error) from None


def _explain_json(error: Exception, data: bytes) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if "integer string conversion" in str(error):
        return "a whole number has thousands of digits. Write it as text, in quotes"
    if str(error).startswith("Extra data") and len([line for line in data.splitlines() if line.strip()]) > 1:
        return (
            f"not JSON: {error}. If it has a value in each line (JSON lines), write one list of them, "
            "[..., ...], or declare it with format: raw"
        )
    return f"not JSON: {error}"


def read_csv(data: bytes, title: str) -> dict[str, Sequence[object]]:
    """The columns of a CSV file by name; the first line names them. Raises UnreadableOutput."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableOutput(f"{title}: not UTF-8 at byte {error.start:,}") from None
    csv.field_size_limit(MOST_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = _check_names(next(reader, []), title)
        rows = []
        for row in reader:
            if len(row) != len(names):
                if not row:  # an empty line is a row if there is one column
                    rows += [[""]] if len(names) == 1 else []
                    continue
                problem = f"{len(row)} fields, but the first line names {len(names)}"
                raise UnreadableOutput(f"{title}, line {reader.line_num:,}: {problem}")
            rows.append(row)
    except csv.Error as error:
        raise UnreadableOutput(f"{title}, line {reader.line_num:,}: {error}") from None
    if len(names) == 1:
        _check_blanks(names[0], rows, title)
    columns = zip(*rows) if rows else [()] * len(names)  # noqa: B905 (Python 3.9); all rows are as long
    table: dict[str, Sequence[object]] = {}
    for name, column in zip(names, columns):  # noqa: B905
        try:
            table[name] = _read_column(column)
        except ValueError as error:
            raise UnreadableOutput(f"{title}, column {name}: {error}") from None
    return table


def _check_names(names: list[str], title: str) -> list[str]:
    if not any(names):
        raise UnreadableOutput(f"{title}: the first line must name the columns, but it is empty")
    for separator, word in SEPARATORS.items():
        if len(names) == 1 and separator in names[0].strip():
            raise UnreadableOutput(f"{title}: its columns are separated by {word}; separate them by commas")
    names = [name.strip() for name in names]
    if not names[0] and UNNAMED not in names:
        names[0] = UNNAMED
    for number, name in enumerate(names):
        if not name:
            raise UnreadableOutput(f"{title}: the first line has no name for column {number + 1}")
        if name in names[:number]:
            raise UnreadableOutput(f"{title}: the first line names {name} twice")
    if all(map(NUMBER.fullmatch, names)):
        raise UnreadableOutput(f"{title}: the first line must name the columns, but it has numbers")
    return names


def _check_blanks(name: str, rows: Sequence[Sequence[str]], title: str) -> None:
    """Refuse a file with several columns that are separated by blanks."""
    n_names = len(name.split())
    if n_names > 1 and rows and all(len(row[0].split()) == n_names for row in rows):
        raise UnreadableOutput(f"{title}: its columns are separated by blanks; separate them by commas")


def _read_column(fields: Sequence[str]) -> Sequence[object]:
    """The values of a column: whole numbers, numbers or booleans if all its fields are, otherwise text; None
    for an empty field.

    Raises ValueError for numbers that neither 64-bit integers nor floats can hold.
    """
    present = [field for field in fields if field not in MISSING]
    convert: Any = None
    if present:
        if all(map(WHOLE.fullmatch, present)):
            convert = int if _are_integers(present) else _to_float
        elif all(map(NUMBER.fullmatch, present)):
            convert = _to_float
        elif all(field in TRUTHS for field in present):
            convert = TRUTHS.__getitem__
        else:
            return [field or None for field in fields]
    return [None if field in MISSING else convert(field) for field in fields]


def _are_integers(fields: Sequence[str]) -> bool:
    """Whether 64-bit integers can hold whole numbers: signed, or unsigned if none is negative."""
    if max(map(len, fields)) > MOST_DIGITS and any(len(field.strip()) > MOST_DIGITS for field in fields):
        return False
    numbers = [int(field) for field in fields]
    low, high = min(numbers), max(numbers)
    return (low in INT64 and high in INT64) or (low in UINT64 and high in UINT64)


def _to_float(field: str) -> float:
    """The float of a number, if it has the same value; for a decimal, the nearest float, as everywhere."""
    number = float(field)
    if -EXACT < number < EXACT and number:  # almost all are
        return number
    is_whole = WHOLE.fullmatch(field)
    is_long = len(field.strip()) > MOST_DIGITS or math.isinf(number)
    if is_whole and (is_long or number != int(field)):
        raise ValueError(
            f"{_shorten(field)} has more digits than a 64-bit integer can hold, or than a float can hold if "
            "other fields are not whole numbers. Write it with a letter before it, as text, or declare the "
            "file with format: raw"
        )
    if math.isinf(number) and "n" not in field.lower():
        raise ValueError(f"{_shorten(field)} is larger than any float. Write its logarithm, or inf")
    if not number and not NO_DIGITS.fullmatch(field):
        raise ValueError(f"{_shorten(field)} is nearer to 0 than any float. Write its logarithm, or 0")
    return number


def _shorten(field: str) -> str:
    field = field.strip()
    return field if len(field) <= 40 else f"{field[:30]}... ({len(field):,} characters)"
