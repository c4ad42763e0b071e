"""Private folders that are removed after their owner.

    parent -> parent/NAME, used by one owner -> removed at the end, or by sweep() once the owner is dead

The owner holds a lock next to the folder, and the kernel releases the lock of a process that was killed.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

TEMPORARY = Path(tempfile.gettempdir())  # read now, because a model may change it


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Create an empty folder under parent for the duration of the `with`."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = parent / uuid.uuid4().hex
    with FileLock(f"{folder}.lock", thread_local=False) as lock:
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Remove folders whose owner no longer exists: their lock is free."""
    for lock_file in parent.glob("*.lock"):
        folder = lock_file.with_suffix("")
        with suppress(Timeout), FileLock(lock_file, timeout=0):
            if folder.is_dir():  # otherwise its owner is about to lock it
                shutil.rmtree(folder, ignore_errors=True)
                lock_file.unlink(missing_ok=True)
