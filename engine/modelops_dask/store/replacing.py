"""Put a folder of files in the place of another, on this machine or a shared disk.

a folder beside it, `.NAME.UUID`, while it is filled -> install(): two renames -> NAME

Does not know stores: files.py does.
"""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

_LEFT_SECONDS = 86_400


def install(staged: Path, target: Path) -> None:
    """Put a folder in another's place."""
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
    """Remove what runs that were killed left beside `staged`, which is new: untouched for a day before it.

    Both times are the file system's own, for this machine's clock may be days away from another's.
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
