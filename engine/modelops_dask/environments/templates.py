"""Copy an environment, so that the second one with the same packages is quick.

    uv's cache -> hard links -> venvs_dir/templates/KEY, in which nothing ever runs
               -> copy(): blocks shared where the file system can (XFS, Btrfs), else bytes -> an environment

Models run in copies: what they change is changed neither in uv's cache nor in another environment.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

BATCH = 64  # files that a thread copies at once
MOST_THREADS = 4  # the kernel does the work, and these wait for it


def copy(template: Path, folder: Path) -> None:
    """Copy a relocatable environment to a folder that is not there yet. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    files = list(_copy_folders(str(template), str(folder)))
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        for _ in pool.map(_copy_files, batches):  # which raises what they raise
            pass


def _copy_folders(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Make the folders and links of a tree; yield its files, and where their copies are to be."""
    Path(target).mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                Path(path).symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                yield from _copy_folders(entry.path, path)
            else:
                yield entry.path, path


def _copy_files(files: Sequence[tuple[str, str]]) -> None:
    for source, target in files:
        _copy_file(source, target)


def _copy_file(source: str, target: str) -> None:
    """Copy content, mode and times, by which Python knows whether bytecode is of its source. On a file system
    that can, the kernel lets both files share their blocks.
    """
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(reader)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writer = os.open(target, flags, status.st_mode & 0o777)
        try:
            _copy_bytes(reader, writer, status.st_size)
            os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_bytes(reader: int, writer: int, n_bytes: int) -> None:
    done = 0
    with suppress(OSError):  # between file systems, or in a sandbox without the call
        while done < n_bytes and (count := os.copy_file_range(reader, writer, n_bytes - done)):
            done += count
    while done < n_bytes and (piece := os.pread(reader, 1 << 20, done)):
        done += os.pwrite(writer, piece, done)
