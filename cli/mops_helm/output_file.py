"""Files that commands write: checked before anything runs; a failed write is reported in one line.

--to FILE, --report FILE -> OutputFile, the type of such options -> write_file(), or create_file() for streams
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from modelops_dask.errors import BadInput


class OutputFile(click.Path):
    """A file to write; with allow_dash also -, which is left to the command. Its folder must exist."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        # click.Path returns the type of path_type; its own annotation does not express that.
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if (self.allow_dash and str(path) == "-") or _is_stream(path):
            return path
        if not path.parent.is_dir():
            self.fail(f"{path}: folder {path.parent} does not exist", param, ctx)
        if reason := find_refusal(Path(os.path.realpath(path)).parent):
            self.fail(f"{path}: {reason}", param, ctx)
        return path


def find_refusal(folder: Path) -> str:
    """The reason why no file can be created in a folder, or in its nearest existing parent; "" if it is
    possible.
    """
    import tempfile

    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):  # permission bits do not show read-only mounts
            return ""
    except OSError as error:
        return error.strerror or str(error)


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, or keep the existing one. Raises BadInput if it cannot be written."""
    with create_file(path) as file:
        file.write(content)


@contextmanager
def create_file(path: Path) -> Iterator[BinaryIO]:
    """Create a file that appears under its name only when it is complete.

    Raises:
        BadInput: It cannot be written.
    """
    import tempfile

    if _is_stream(path):
        with _name_errors(path), path.open("wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    with _name_errors(path):
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary_path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            temporary_path.chmod(_choose_mode(target))
            temporary_path.replace(target)
        except BaseException:
            temporary_path.unlink()
            raise


@contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None


def _choose_mode(path: Path) -> int:
    """The mode of the replaced file, or that of any new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _is_stream(path: Path) -> bool:
    """Whether a path is /dev/stdout or a pipe, which a complete file cannot replace."""
    return path.exists() and not path.is_file()
