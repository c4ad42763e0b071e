"""Replace a folder of files by another, on this machine or a shared disk.

a neighbouring folder, `.NAME.UUID`, while it is filled -> install(): two renames -> NAME

Stores are not known here: files.py knows them.
"""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

_LEFT_SECONDS = 86_400


def install(staged: Path, target: Path) -> None:
    """Replace a folder by another."""
    for path in [*staged.rglob("*"), staged]:
        sync(path)
    old = staged.with_name(f"{staged.name}.old")
    while True:
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            staged.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(old, ignore_errors=True)  # another run was between the two renames
            continue
        break
    shutil.rmtree(old, ignore_errors=True)
    sync(target.parent)


def remove_leftovers(staged: Path, folder: str) -> None:
    """Remove leftovers of killed runs next to `staged`, which is new: those unchanged for a day before it.

    Both times are the file system's own, because this machine's clock may be days off.
    """
    for path in staged.parent.glob(f".{folder}.*"):
        with suppress(FileNotFoundError):
            if path != staged and staged.stat().st_mtime - _last_change(path) > _LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _last_change(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
