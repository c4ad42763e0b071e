"""Run uv for a bundle, and report its output, its failures and its progress.

arguments, the bundle's folder -> uv -> its output | BuildFailed
its messages on standard error    -> stages ("installing 12 packages") -> the listener
"""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Thread

from modelops_dask.bundle.reference import redact
from modelops_dask.errors import BadInput

logger = logging.getLogger("distributed.modelops.venv")  # below `distributed`, whose messages Dask shows

LAST_LINES = 25  # lines of uv's output in an error
_DOWNLOAD = re.compile(r"\s*(Downloading|Downloaded) (\S+)(?: \((\S+?)\))?\s*")
_PREPARED = re.compile(r"Prepared (\d+) package")
_listener: ContextVar[Callable[[str], object]] = ContextVar("_listener", default=lambda _: None)


class BuildFailed(BadInput):
    """uv could not build the environment of a bundle; `output` is the end of its messages."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(command, output)
        self.command, self.output = command, output

    def __str__(self) -> str:
        return f"cannot build the bundle's environment: {self.command}\n{self.output}"


class NoUv(BadInput):
    """uv is not installed, or too old."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.problem}. A bundle's environment is built by uv, version 0.8 or newer. Install it: "
            f"{sys.executable} -m pip install --upgrade uv"
        )


@contextmanager
def listening(listener: Callable[[str], object]) -> Iterator[None]:
    """Call `listener` with each stage of a build in this thread, such as "choosing packages"."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(stage: str) -> None:
    """Report the current stage to the listener of this thread."""
    _listener.get()(stage)


def run_uv(*arguments: str, folder: Path, stdin: str = "", **variables: str) -> str:
    """Run uv in a bundle's folder and return its output.

    If it fails, it runs again with only its cache, because the index may be unreachable. Raises BuildFailed,
    NoUv.
    """
    process = try_uv(*arguments, folder=folder, stdin=stdin, variables=variables)
    if not process.returncode:
        return process.stdout
    offline = try_uv(*arguments, folder=folder, stdin=stdin, variables=variables | {"UV_OFFLINE": "1"})
    if not offline.returncode:
        logger.warning("uv %s: only uv's cache could be used", arguments[0])
        return offline.stdout
    raise BuildFailed(f"uv {' '.join(arguments)}", last_lines(process.stderr))


def try_uv(
    *arguments: str, folder: Path, stdin: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run uv in a folder and return the completed process. Raises NoUv."""
    command = [find_uv(), *arguments]
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    with subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"} | dict(variables or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        words: list[str] = []
        listener = _listener.get()  # per thread: a new one has none
        reader = Thread(target=_read_words, args=(process, words, listener), daemon=True)
        reader.start()
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it ended before it read the input: its messages explain why
                process.stdin.write(stdin)
                process.stdin.close()
            output = process.stdout.read()
        except BaseException:  # Ctrl-C
            process.kill()
            raise
        reader.join()
    return subprocess.CompletedProcess(command, process.wait(), output, "".join(words))


def _read_words(
    process: "subprocess.Popen[str]", words: list[str], listener: Callable[[str], object]
) -> None:
    """Collect what uv writes to standard error, and report the stages that it names."""
    assert process.stderr is not None
    downloads: dict[str, str] = {}  # downloads in progress: sizes by name
    for line in process.stderr:
        words.append(line)
        if match := _DOWNLOAD.fullmatch(line):
            if match[1] == "Downloading":
                downloads[match[2]] = match[3] or "?"
            else:
                downloads.pop(match[2], None)
            if downloads:
                listener(_describe_downloads(downloads))
        elif prepared := _PREPARED.search(line):
            listener(f"installing {prepared[1]} downloaded packages")


def _describe_downloads(sizes: Mapping[str, str]) -> str:
    (name, size), *others = sizes.items()
    return f"downloading {name} ({size})" + (f" and {len(others)} more" if others else "")


def find_uv() -> str:
    """The path of uv. Raises NoUv."""
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise NoUv("uv is not installed") from None


def last_lines(words: str) -> str:
    """The end of uv's messages, without passwords."""
    return "\n".join(redact(words).strip().splitlines()[-LAST_LINES:])
