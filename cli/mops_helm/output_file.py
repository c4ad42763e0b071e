"""Files that a person names to be written: tried before anything runs, and told in a line when it fails.

--to FILE, --report FILE -> OutputFile, the type of such options -> write_file(path, bytes)
"""

import os
from pathlib import Path
from typing import Any

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
    """Write a file whole, or leave what was there. BadInput when it cannot be written."""
    try:
        with click.open_file(os.path.realpath(path), "wb", atomic=not _is_stream(path)) as file:
            file.write(content)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None


def _is_stream(path: Path) -> bool:
    """/dev/stdout or a pipe: nothing that a whole file could be put in place of."""
    return path.exists() and not path.is_file()
