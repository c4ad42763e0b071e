"""State that children of the zygote would share: files that importing the model left open, and memory.

    OpenFiles(before) in the zygote -> reopen() in each child: the same files, at the same positions
    Semaphores() in the zygote -> put_back() after each task
    find_shared_memory(): the memory in which tasks would see each other's writes

A fork copies memory, but not what memory refers to: parent and child share the position in an open file, and
see each other's writes to a shared map. State that a child cannot have for itself is a reason not to fork.
Open pipes, sockets and folders stay shared. The contents of files are restored by workspace.py. This module
uses only the standard library, because zygote.py loads it by path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

STANDARD = (1, 2)  # stdout and stderr: the runner restores these itself
SEMAPHORE = "/dev/shm/sem."  # glibc's location; numba, tqdm and their importers also create some
SEMAPHORE_BYTES = 32  # sem_t of glibc on 64 bits
NO_PATH = getattr(os, "O_PATH", 0)
REOPENED = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | getattr(os, "O_DIRECT", 0)  # flags: not those that create


def list_open_files() -> dict[int, os.stat_result]:
    """List the regular files that are open now, by descriptor, without stdout and stderr."""
    files = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor that listed the folder is already closed
            status = os.fstat(int(path.name))
            if stat.S_ISREG(status.st_mode) and int(path.name) not in STANDARD:
                files[int(path.name)] = status
    return files


class OpenFiles:
    """The regular files that were opened by importing the model."""

    def __init__(self, before: dict[int, os.stat_result]) -> None:
        """Record them; before is list_open_files() before the import, including the lock of the process's
        slot.
        """
        self._files: list[tuple[int, int, int]] = []  # descriptor, flags to open it with, position
        self._copies: list[tuple[int, int]] = []  # descriptors made by dup(): two that share a position
        self._found: dict[int, os.stat_result] = {}
        for descriptor, status in sorted(list_open_files().items()):
            if descriptor not in before or not os.path.samestat(before[descriptor], status):
                self._note(descriptor, status)

    def _note(self, descriptor: int, status: os.stat_result) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if NO_PATH and flags & NO_PATH:
            return
        self._found[descriptor] = status
        for other, _, _ in self._files:
            if os.path.samestat(self._found[other], status) and _one_position(other, descriptor):
                self._copies.append((other, descriptor))
                return
        self._files.append((descriptor, flags & REOPENED, os.lseek(descriptor, 0, os.SEEK_CUR)))

    def inodes(self) -> set[int]:
        return {status.st_ino for status in self._found.values()}

    def problem(self, put_back: set[tuple[int, int]] | None) -> str:
        """Explain why a child cannot reopen these files; "" if it can.

        put_back: device and inode of files whose content is restored after each task; None if tasks share
        files anyway.
        """
        for descriptor, flags, _ in self._files:
            status = self._found[descriptor]
            writes = flags & os.O_ACCMODE != os.O_RDONLY
            if writes and put_back is not None and (status.st_dev, status.st_ino) not in put_back:
                return f"a file open for writing whose content is not restored: {_path(descriptor)}"
            if "\nlock:" in Path(f"/proc/self/fdinfo/{descriptor}").read_text():
                return f"a file with a lock on it: {_path(descriptor)}"
            try:
                os.close(os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC))
            except OSError as error:
                return f"a file that cannot be reopened ({error.strerror}): {_path(descriptor)}"
        return ""

    def reopen(self) -> None:
        """In a child: give each descriptor its own position, as it was when this object was made."""
        for descriptor, flags, position in self._files:
            new = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)
            os.lseek(new, position, os.SEEK_SET)
            os.dup2(new, descriptor, os.get_inheritable(descriptor))
            os.close(new)
        for descriptor, copy in self._copies:
            os.dup2(descriptor, copy, os.get_inheritable(copy))


class Semaphores:
    """The semaphores of processes that are mapped now, and their values.

    A task that ends while it holds one would leave it locked for all later tasks.
    """

    def __init__(self) -> None:
        """Record them. Raises OSError if they cannot be restored."""
        self._values: dict[int, bytes] = {}
        places = [place for place, name, _ in _maps(shared=True) if name.startswith(SEMAPHORE)]
        if places:
            with _memory() as memory:
                for place in places:
                    self._values[place] = os.pread(memory, SEMAPHORE_BYTES, place)
                    os.pwrite(memory, self._values[place], place)

    def put_back(self) -> None:
        """Restore their values. Call it while no task runs."""
        if self._values:
            with _memory() as memory:
                for place, value in self._values.items():
                    if os.pread(memory, SEMAPHORE_BYTES, place) != value:
                        os.pwrite(memory, value, place)


@contextlib.contextmanager
def _memory() -> Iterator[int]:
    descriptor = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_shared_memory() -> str:
    """Name the files of the writable memory that parent and children share; "" if there is none.

    Semaphores, which are restored, are left out, and so is the memory of devices: their drivers decide what a
    fork means, and a running graphics library has threads, which rule out forking anyway.
    """
    names = {
        "anonymous" if name.startswith("/dev/zero") or not name else name
        for _, name, _ in _maps(shared=True)
        if not name.startswith(SEMAPHORE) and not _is_device(name)
    }
    return ", ".join(sorted(names))


def mapped_inodes() -> set[int]:
    """The mapped files: a write to one shows in memory that no process has touched yet."""
    return {inode for _, _, inode in _maps()} - {0}


def _is_device(name: str) -> bool:
    try:
        return not name.startswith("/dev/zero") and Path(name).is_char_device()
    except OSError:
        return False


def _maps(shared: bool = False) -> Iterator[tuple[int, str, int]]:
    """(address, name, inode) of all mappings, or only of shared writable ones."""
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        place, modes, _, _, inode, *name = line.split(None, 5)
        if not shared or (b"w" in modes and modes.endswith(b"s")):
            yield int(place.split(b"-")[0], 16), os.fsdecode(b"".join(name)), int(inode)


def _one_position(descriptor: int, other: int) -> bool:
    """Whether two descriptors of one file share a position."""
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    if os.lseek(other, 0, os.SEEK_CUR) != before:
        return False
    os.lseek(descriptor, before + 1, os.SEEK_SET)
    moved = os.lseek(other, 0, os.SEEK_CUR) != before
    os.lseek(descriptor, before, os.SEEK_SET)
    return moved


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
