"""Bytecode of a bundle's modules, which runners share through the checked copy.

    a runner imports the model -> share() -> DIGEST/__pycache__ -> give() -> the next copy

Python uses a .pyc file if its source has the recorded size and time in seconds. Tasks change sources within a
second, and preserve sizes and times, so these are not reliable here: shared bytecode has the hash of its
source, which Python then compares. The code in it is unchanged. Runs in the worker.
"""

import importlib.util
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PYCACHE = "__pycache__"
CHECKED_HASH = 3  # flags of a .pyc file: it has its source's hash, and Python compares that
HEAD_BYTES = 16  # magic number, flags, and either time and size or the hash of the source


def share(runner_folder: Path, shared: Path, names: set[str], is_untouched: Callable[[str], bool]) -> None:
    """Add the bytecode `names` of a runner's folder to the checked copy's folder.

    Call it after the model is imported and before any task runs. is_untouched(path) returns whether a source
    was never written to: only then does the bytecode belong to the checked copy's source.
    """
    for name in names:
        with suppress(OSError):
            source = _source(runner_folder, name)
            data = _read(runner_folder / PYCACHE / name)
            original = _source(shared, name).read_bytes()
            if not is_untouched(str(source)):  # after the bytecode was read: then it belongs to this source
                continue
            if (hashed := _with_hash(data, original, source.stat())) and not _is_valid(shared, name):
                (shared / PYCACHE).mkdir(exist_ok=True)
                _write(shared / PYCACHE / name, hashed)


def give(shared: Path, copy: Path) -> bool:
    """Copy shared bytecode that a runner's folder lacks; return whether there was any."""
    has_new = False
    for name in pyc_names(shared) - pyc_names(copy):
        with suppress(OSError):
            if _is_valid(shared, name):
                (copy / PYCACHE).mkdir(exist_ok=True)
                _write(copy / PYCACHE / name, _read(shared / PYCACHE / name))
                has_new = True
    return has_new


def pyc_names(folder: Path) -> set[str]:
    """Names of the .pyc files of a folder's modules."""
    with suppress(OSError):
        return {path.name for path in (folder / PYCACHE).iterdir() if path.suffix == ".pyc"}
    return set()


def _source(folder: Path, name: str) -> Path:
    return folder / f"{name.partition('.')[0]}.py"


def _read(path: Path) -> bytes:
    """The bytes of a regular file: opening a pipe that a model made would block. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read()


def _with_hash(data: bytes, source: bytes, status: os.stat_result) -> bytes:
    """Return bytecode with the hash of its source, or b"" if Python would not use it for this source."""
    if len(data) < HEAD_BYTES or data[:4] != importlib.util.MAGIC_NUMBER:
        return b""
    flags, modified, size = (int.from_bytes(data[offset : offset + 4], "little") for offset in (4, 8, 12))
    digest = importlib.util.source_hash(source)
    if flags:
        return data if flags == CHECKED_HASH and data[8:HEAD_BYTES] == digest else b""
    if (modified, size) != (int(status.st_mtime) & 0xFFFFFFFF, len(source) & 0xFFFFFFFF):
        return b""
    return data[:4] + CHECKED_HASH.to_bytes(4, "little") + digest + data[HEAD_BYTES:]


def _is_valid(folder: Path, name: str) -> bool:
    """Whether a folder's bytecode has the hash of its source."""
    try:
        source = _source(folder, name)
        data = _read(folder / PYCACHE / name)
        return int.from_bytes(data[4:8], "little") == CHECKED_HASH and bool(
            _with_hash(data, source.read_bytes(), source.stat())
        )
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{id(data)}")
    temporary.write_bytes(data)
    temporary.replace(path)
