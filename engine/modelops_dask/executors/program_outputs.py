"""The output files of a program, as outputs of a task.

    CSV -> columns, each of one type -> a table;   JSON -> its value, like a function's return value
    Parquet -> the file's bytes, which are a table;   others -> the file's bytes

The type of a column follows from its fields: whole numbers, numbers, booleans, or text. This module uses only
the standard library and Python 3.9's language, because runner.py loads it by path.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
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
TRUTHS = {"true": True, "TRUE": True, "True": True, "false": False, "FALSE": False, "False": False}
INT64 = range(-(1 << 63), 1 << 63)
MOST_CHARACTERS = (1 << 31) - 1  # of a field
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

    def prepare(self) -> None:
        """Remove the outputs, and create their folders."""
        for path in self._outputs:
            _remove(path)
            self._make_folder(os.path.dirname(path))

    def write(self, file: str, data: bytes) -> None:
        """Write a file that the program reads."""
        path = self._within(file)
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
    files: Mapping[str, tuple[str, str]], folder: str, printed: BinaryIO | None
) -> dict[str, bytes]:
    """Outputs by name, from (file, format) by name; printed is the program's standard output.

    Raises MissingOutput, UnreadableOutput.
    """
    outputs: dict[str, bytes] = {}
    for name, (file, kind) in files.items():
        data = _read_printed(printed) if file == STDOUT else _read_file(name, file, folder)
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


def _read_file(name: str, file: str, folder: str) -> bytes:
    path = os.path.join(folder, file)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a file"
            raise UnreadableOutput(f"output {name}: {file} is {kind}")
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise MissingOutput(f"output {name}: the program did not write {file}{_list_new(path)}") from None
    except PermissionError as error:
        raise UnreadableOutput(f"output {name}: {file}: {error.strerror}") from None


def _list_new(path: str) -> str:
    """The files that are in the folder instead."""
    try:
        names = sorted(os.listdir(os.path.dirname(path)))
    except OSError:
        return ""
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"; in its folder are {shown}" if names else "; its folder is empty"


def _read_json(name: str, data: bytes, title: str) -> bytes:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableOutput(f"{title}: not JSON: {error}") from None
    try:
        table: bytes = values.to_output(name, value)
    except TypeError as error:
        problem = f"{error}. With format: raw, the file is stored unchanged"
        raise UnreadableOutput(problem) from None
    return table


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
                if not row:  # an empty line
                    continue
                problem = f"{len(row)} fields, but the first line names {len(names)}"
                raise UnreadableOutput(f"{title}, line {reader.line_num:,}: {problem}")
            rows.append(row)
    except csv.Error as error:
        raise UnreadableOutput(f"{title}, line {reader.line_num:,}: {error}") from None
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
    names = [name.strip() for name in names]
    if not names[0] and UNNAMED not in names:
        names[0] = UNNAMED
    for number, name in enumerate(names):
        if not name:
            raise UnreadableOutput(f"{title}: the first line has no name for column {number + 1}")
        if name in names[:number]:
            raise UnreadableOutput(f"{title}: the first line names {name} twice")
    if len(names) == 1 and ";" in names[0]:
        raise UnreadableOutput(f"{title}: its columns are separated by semicolons; separate them by commas")
    if all(map(NUMBER.fullmatch, names)):
        raise UnreadableOutput(f"{title}: the first line must name the columns, but it has numbers")
    return names


def _read_column(fields: Sequence[str]) -> Sequence[object]:
    """The values of a column: whole numbers, numbers or booleans if all its fields are, otherwise text; None
    for an empty field.

    Raises ValueError for whole numbers that neither 64-bit integers nor floats can hold.
    """
    present = [field for field in fields if field not in MISSING]
    convert: Any = None
    if present:
        if all(map(WHOLE.fullmatch, present)):
            convert = int if all(int(field) in INT64 for field in present) else _to_float
        elif all(map(NUMBER.fullmatch, present)):
            convert = float
        elif all(field in TRUTHS for field in present):
            convert = TRUTHS.__getitem__
        else:
            return [field or None for field in fields]
    return [None if field in MISSING else convert(field) for field in fields]


def _to_float(field: str) -> float:
    number = float(field)
    if number != int(field):
        raise ValueError(
            f"{field.strip()} has more digits than a 64-bit integer or a float can hold. Write it with a "
            "letter "
            "before it, as text, or declare the file with format: raw"
        )
    return number
