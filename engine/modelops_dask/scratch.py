"""A folder of one's own that does not outlive its owner.

    parent -> parent/NAME, which nobody else uses -> removed at the end, or by sweep() once the owner is dead

The owner holds a lock beside the folder, and the kernel frees the lock of a process that was killed.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

TEMPORARY = Path(tempfile.gettempdir())  # now: a model may change it


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A new, empty folder under parent, for as long as the `with`."""
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
    """Remove the folders whose owner is gone: nobody holds their lock."""
    for lock_file in parent.glob("*.lock"):
        folder = lock_file.with_suffix("")
        with suppress(Timeout), FileLock(lock_file, timeout=0):
            if folder.is_dir():  # else its owner is about to lock it
                shutil.rmtree(folder, ignore_errors=True)
                lock_file.unlink(missing_ok=True)
