"""Files that commands write: tried before anything runs, and reported in one line when writing fails.

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
    """A file to write; with allow_dash also -, which is left to the command. Its folder must be there."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        # click.Path gives what path_type makes of it; its own annotation does not say so.
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if (self.allow_dash and str(path) == "-") or _is_stream(path):
            return path
        if not path.parent.is_dir():
            self.fail(f"{path}: there is no folder {path.parent}", param, ctx)
        if reason := find_refusal(Path(os.path.realpath(path)).parent):
            self.fail(f"{path}: {reason}", param, ctx)
        return path


def find_refusal(folder: Path) -> str:
    """Why no file can be made in a folder, or where the folder would be; "" when one can."""
    import tempfile

    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):  # permission bits do not tell what is mounted read-only
            return ""
    except OSError as error:
        return error.strerror or str(error)


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, or leave what was there. BadInput when it cannot be written."""
    with create_file(path) as file:
        file.write(content)


@contextmanager
def create_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all of it is written.

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
    """The mode of the file that is replaced, or that of any new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _is_stream(path: Path) -> bool:
    """/dev/stdout or a pipe: nothing that a whole file could be put in place of."""
    return path.exists() and not path.is_file()
