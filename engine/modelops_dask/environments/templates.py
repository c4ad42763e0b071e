"""Copy an environment, so that the second one with the same packages is fast.

    uv's cache -> hard links -> venvs_dir/templates/KEY, in which nothing ever runs
               -> copy(): shared blocks if the file system can (XFS, Btrfs), else bytes -> an environment

Models run in copies: their changes affect neither uv's cache nor another environment.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

BATCH = 64  # files that a thread copies in one batch
MOST_THREADS = 4  # the kernel does the work while these wait


def copy(template: Path, folder: Path) -> None:
    """Copy a relocatable environment to a new folder. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    files = list(_copy_folders(str(template), str(folder)))
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        for _ in pool.map(_copy_files, batches):  # which raises their errors
            pass


def _copy_folders(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Create the folders and links of a tree; yield its files with the paths of their copies."""
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
    """Copy content, mode and times, by which Python matches bytecode to its source.

    If the file system supports it, the kernel lets both files share their blocks.
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
    with suppress(OSError):  # between file systems, or in a sandbox without this system call
        while done < n_bytes and (count := os.copy_file_range(reader, writer, n_bytes - done)):
            done += count
    while done < n_bytes and (piece := os.pread(reader, 1 << 20, done)):
        done += os.pwrite(writer, piece, done)
