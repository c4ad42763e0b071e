"""Which failures may pass, by the exception or by the name that a model returns, in a real runner too."""

import json
import socket
import sqlite3
import sys
from urllib.error import URLError

import pytest

from modelops_dask.bundle import fetch
from modelops_dask.executors import Task, create
from modelops_dask.executors.outputs import is_transient, is_transient_name
from modelops_dask.settings import Settings


class LicenceTimeout(TimeoutError):
    """Of a library."""


class ConnectionError_(Exception):
    """Not an OSError, and not so named."""


class Wrapped(Exception):
    """Some model's own."""


def chained(first: BaseException, how: str) -> Wrapped:
    """What raising Wrapped makes, `from` an exception, `while` handling it, or `hidden`: from None."""
    wrapped = Wrapped("the model failed")
    try:
        try:
            raise first
        except type(first):
            if how == "while":
                raise wrapped  # noqa: B904 (that is the case)
            raise wrapped from (first if how == "from" else None)
    except Wrapped as error:
        return error


REDIS = type("ConnectionError", (Exception,), {})  # of a library, with a name that is known


@pytest.mark.parametrize(
    "error, expected",
    [
        (ConnectionError(), True),
        (ConnectionResetError(), True),
        (BrokenPipeError(), True),
        (TimeoutError(), True),
        (LicenceTimeout(), True),
        (socket.gaierror(), True),
        (URLError("no route"), True),
        (OSError(28, "No space left on device"), True),
        (BlockingIOError(), True),
        (REDIS(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (IsADirectoryError(), False),
        (NotADirectoryError(), False),
        (FileExistsError(), False),
        (ValueError(), False),
        (SystemExit(1), False),
        (KeyboardInterrupt(), False),
        (ConnectionError_(), False),
        (sqlite3.OperationalError("syntax error"), False),
        (chained(TimeoutError(), "from"), True),
        (chained(TimeoutError(), "while"), True),
        (chained(TimeoutError(), "hidden"), False),
        (chained(FileNotFoundError(), "from"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_by_the_exception(error, expected):
    assert is_transient(error) is expected


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")
def test_of_a_group_and_of_exceptions_that_cause_each_other():
    assert is_transient(ExceptionGroup("two", [ValueError(), ConnectionError()]))
    assert not is_transient(ExceptionGroup("two", [ValueError(), FileNotFoundError()]))
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not is_transient(first)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ConnectionError", True),
        ("TimeoutError", True),
        ("OSError", True),
        ("IOError", True),
        ("FileNotFoundError", False),
        ("ValueError", False),
        ("ModelError", False),
        ("print", False),
        ("", False),
    ],
)
def test_by_a_name(name, expected):
    assert is_transient_name(name) is expected


WIRE = """
import builtins, json
if {at_import!r}:
    raise getattr(builtins, {at_import!r})("at import")
def wire(entrypoint, params, seed):
    if params["returns"]:
        return {{"error": json.dumps({{"error": "returned", "type": params["returns"]}}).encode()}}
    raise getattr(builtins, params["raises"])("of the model")
"""


@pytest.mark.parametrize("executor", ["isolated_warm", "isolated_fork", "cold", "direct"])
@pytest.mark.parametrize(
    "at_import, raises, returns, failure",
    [
        ("", "ValueError", "", "model"),
        ("", "ConnectionError", "", "transient"),
        ("", "", "TimeoutError", "transient"),
        ("", "", "KeyError", "model"),
        ("ImportError", "", "", "start"),
        ("ConnectionError", "", "", "transient"),
    ],
)
def test_every_executor_says_what_failed(tmp_path, executor, at_import, raises, returns, failure):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "wire.py").write_text(WIRE.format(at_import=at_import))
    settings = Settings(executor_type=executor, executor_environment="image")
    bundle = fetch(str(tmp_path / "bundle"), tmp_path / "cache")
    with create(settings) as made:
        outcome = made.run(Task(bundle, "m/s", {"raises": raises, "returns": returns}, 1))
    assert (outcome.status, outcome.failure) == ("failed", failure), json.dumps(outcome.error)
    assert outcome.fallback == ""
