"""The copies of bundles that runners work in: a slot for each runner.

    Bundle -> slot N -> a runner in N/b, with TMPDIR N/t -> restored to the bundle's files -> the next runner

    in modelops-UID of the temporary folder, for all worker processes of a user:
    N/        a workspace, with the files that workspace.py keeps next to it
    N.lock    locked by the worker process and by its runner; its text: how many bytes were copied
    lock      held while slots are assigned

The path of a slot is short, because a Unix socket's path is limited to 107 bytes, and the same for its next
runner, because compiled code is found by its source's path. Large files, or those beyond a limit, are links
to the checked copy in the cache, which is checked once per batch. Files left by a killed worker process are
removed by the next one that needs a slot. Runners are started in pool.py.
"""

import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import Stamps, list_contents, stamp_of
from modelops_dask.errors import BadInput
from modelops_dask.executors import FileChanges, bytecode, workspace
from modelops_dask.executors.checked import CheckedCopy
from modelops_dask.executors.workspace import Workspace, remove
from modelops_dask.scratch import TEMPORARY
from modelops_dask.shape import MIB

LARGE_BYTES = MIB  # a larger file is a link
COPY_BYTES, COPY_FILES = 64 * MIB, 1000  # of one copy; the rest is linked
SCRATCH_SHARE = 0.25  # share of the scratch space for all copies


class Slot:
    """A workspace of one runner at a time. `stale`: its links lead to files that were written to."""

    def __init__(self, folder: Path, lock_fd: int) -> None:
        self.folder, self.lock_fd = folder, lock_fd
        self.source: Bundle | None = None  # the bundle that was copied
        self.copied_bytes = 0
        self.stale = False
        self.tells = False  # whether its runner restores and records changes itself
        self.workspace: Workspace | None = None
        self._modules: set[Path] = set()  # folders of the bundle with Python sources
        self._known_bytecode: dict[Path, set[str]] = defaultdict(set)  # by folder: was shared, or cannot be

    @property
    def bundle(self) -> Path:
        """The copy of the bundle."""
        return self.folder / workspace.BUNDLE

    @property
    def temporary(self) -> Path:
        """The runner's TMPDIR."""
        return self.folder / workspace.TEMPORARY

    @property
    def _source_folder(self) -> Path:
        """The checked copy that this one was made from."""
        assert self.source is not None, "the slot has been filled"
        return self.source.path

    def notes(self) -> tuple[list[str], str]:
        """The runner's notes: files that were restored, and problems."""
        return workspace.read_notes(str(self.folder))

    @property
    def is_unfit(self) -> bool:
        """Whether no further task may start in it."""
        return self.stale or bool(self.notes()[1])

    def reserve(self, n_bytes: int) -> None:
        self.copied_bytes = n_bytes
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(n_bytes).encode(), 0)

    def clear(self) -> None:
        """Remove all its contents. Raises OSError."""
        self.source = self.workspace = None
        remove(str(self.folder))
        self.forget_notes()
        self.reserve(0)

    def forget_notes(self) -> None:
        """Remove the files that its last runner kept next to it. Raises OSError."""
        for end in (workspace.KEPT, workspace.NOTES):
            remove(str(self.folder) + end)

    def fill(self, bundle: Bundle, copied: list[Path], linked: list[Path]) -> bool:
        """Copy a bundle; `copied` and `linked` are relative paths. Returns whether some links are symbolic.

        Raises OSError.
        """
        for folder in (self.folder, self.bundle, self.temporary):
            folder.mkdir(mode=0o700)
        for parent in sorted({self.bundle / name.parent for name in (*copied, *linked)}):
            parent.mkdir(parents=True, exist_ok=True)
        for name in copied:
            workspace.copy(str(bundle.path / name), str(self.bundle / name))
        symbolic = [_link(bundle.path / name, self.bundle / name) for name in linked]
        self._modules = {name.parent for name in (*copied, *linked) if name.suffix == ".py"}
        self._known_bytecode.clear()
        self.source = bundle
        self._take_bytecode()
        self.workspace = Workspace(str(self.folder), str(bundle.path))
        self.workspace.begin()
        return any(symbolic)

    def put_back(self) -> None:
        """Restore the copy to the bundle's files and the currently shared bytecode."""
        assert self.workspace is not None, "the slot has been filled"
        self.workspace.put_back()
        if not self.workspace.problem and self._take_bytecode():
            self.workspace.begin()

    def share_bytecode(self) -> None:
        """Give other copies the bytecode from importing the model, before its runner starts a task."""
        if self.workspace is None:
            return
        for folder in self._modules:
            known_names, copy_folder = self._known_bytecode[folder], self.bundle / folder
            names = bytecode.pyc_names(copy_folder) - known_names
            bytecode.share(copy_folder, self._source_folder / folder, names, self.workspace.is_untouched)
            known_names |= names

    def _take_bytecode(self) -> bool:
        """Copy shared bytecode that this copy lacks; return whether there was any."""
        source = self._source_folder
        new_bytecode = [bytecode.give(source / name, self.bundle / name) for name in self._modules]
        return any(new_bytecode)

    def share_compiled(self, numba_cache: Path) -> None:
        """Let numba find its compiled code of this bundle in other slots: its folders are named by paths."""
        for folder in self._modules:
            with suppress(OSError):
                numba_cache.mkdir(parents=True, exist_ok=True)
                common = numba_cache / _numba_folder(self._source_folder / folder)
                common.mkdir(exist_ok=True)
                with suppress(FileExistsError):
                    (numba_cache / _numba_folder(self.bundle / folder)).symlink_to(common.name)


class Copies:
    """The slots of one pool of runners. scratch_bytes is the limit for all files that the pod writes."""

    def __init__(self, scratch_bytes: int) -> None:
        self._root = TEMPORARY / f"modelops-{os.getuid()}"
        self._most_bytes = int(SCRATCH_SHARE * scratch_bytes)
        self._lock = threading.Lock()
        self._looking = threading.Lock()  # checks of checked copies, which may read large files
        self._closed = False
        self._free: list[Slot] = []
        self._used: list[Slot] = []
        self._whole: set[str] = set()  # digests of bundles whose tasks write through links
        self._checked: dict[str, CheckedCopy] = {}  # by digest, of bundles with links in some copies
        self._stamps: dict[str, Stamps] = {}
        # Fetched bundles by the identity of their stamps: those in use by tasks, and their shared files.
        self._fetched: WeakValueDictionary[int, Bundle] = WeakValueDictionary()
        self._shared: dict[int, tuple[Bundle, tuple[str, ...]]] = {}
        self._written: dict[str, dict[str, None]] = defaultdict(dict)  # names in the order of their notes

    @contextmanager
    def slot(self, bundle: Bundle, tells: bool) -> Iterator[Slot]:
        """Lend a slot with a copy of the bundle to one runner, for the duration of the `with`.

        `tells`: the runner itself records its tasks' changes; otherwise this process checks afterwards.
        Raises BadInput if there is no room.
        """
        with self._lock:
            self._fetched[id(bundle.stamps)] = bundle
            free_slot = next((slot for slot in self._free if slot.source == bundle), None)
            free_slot = free_slot or (self._free[0] if self._free else None)
            if free_slot:
                self._free.remove(free_slot)
        slot = free_slot or self._new()
        try:
            if slot.source != bundle:
                self._fill(slot, bundle)
            slot.forget_notes()
            slot.tells = tells
            with self._lock:
                self._used.append(slot)
            yield slot
        finally:
            self._take_back(slot)

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """Report what tasks changed in files since the last call.

        Once there are `shared_files`, new copies have no links.
        """
        with self._lock:
            used = [slot for slot in self._used if slot.source == bundle]
            for slot in used:
                self._note(slot, slot.notes()[0])
            written_files = tuple(self._written.pop(bundle.digest, ()))
            self._fetched[id(bundle.stamps)] = bundle
        return FileChanges(written_files, self._shared_names(bundle))

    def _shared_names(self, bundle: Bundle) -> tuple[str, ...]:
        """Names that tasks wrote in the checked copy, for all batches that may have read them there."""
        with self._looking:
            if reported := self._shared.get(id(bundle.stamps)):
                return reported[1]
            checked = self._checked.get(bundle.digest)
            # A symbolic link may also have led a model to other files of the checked copy.
            stamps = bundle.stamps or self._stamps.get(bundle.digest, {})
            shared = tuple(map(workspace.escape_name, checked.changes(stamps))) if checked else ()
            if shared:
                self._unlink(bundle, shared)
            return shared

    def close(self) -> None:
        """Remove all copies, those in use once their runner has ended."""
        with self._lock:
            self._closed = True
            slots, self._free = self._free, []
        for slot in slots:
            self._drop(slot)

    def _unlink(self, bundle: Bundle, shared: tuple[str, ...]) -> None:
        with self._lock:
            self._whole.add(bundle.digest)
            for fetched in [same_bundle for same_bundle in self._fetched.values() if same_bundle == bundle]:
                self._shared[id(fetched.stamps)] = fetched, shared
            for slot in self._used:
                slot.stale = slot.stale or slot.source == bundle
            for slot in self._free:
                slot.source = None if slot.source == bundle else slot.source

    def _take_back(self, slot: Slot) -> None:
        """Restore a copy to the bundle's files, or forget it."""
        if slot.workspace and not self._closed:
            names, problem = slot.notes()
            slot.put_back()
            with self._lock:
                self._note(slot, names if slot.tells else slot.workspace.changed)
            if problem or slot.stale or slot.workspace.problem:
                slot.source = None
            slot.workspace.changed.clear()
        with self._lock:
            with suppress(ValueError):  # it was not filled
                self._used.remove(slot)
            if not self._closed:
                self._free.append(slot)
                return
        self._drop(slot)

    def _note(self, slot: Slot, names: list[str]) -> None:
        assert slot.source is not None, "the slot has been filled"
        self._written[slot.source.digest].update(dict.fromkeys(names))

    # Room

    def _new(self) -> Slot:
        """An empty slot that no process holds."""
        with self._lock_root():
            number, fd = 0, _lock_slot(self._root / "0.lock")
            while fd is None:
                number += 1
                fd = _lock_slot(self._root / f"{number}.lock")
        slot = Slot(self._root / str(number), fd)
        slot.clear()
        return slot

    def _fill(self, slot: Slot, bundle: Bundle) -> None:
        try:
            slot.clear()
            slot.stale = False
            with self._lock_root():
                room_bytes = self._most_bytes - self._count_taken_bytes(slot)
                copied, linked, n_bytes = _divide(bundle, room_bytes, bundle.digest in self._whole)
                slot.reserve(n_bytes)
            with self._lock:
                if linked:
                    self._checked.setdefault(bundle.digest, CheckedCopy(bundle))
                if linked and not bundle.stamps:
                    stamps = {str(name): stamp_of(bundle.path / name) for name in linked}
                    self._stamps.setdefault(bundle.digest, stamps)
            if slot.fill(bundle, copied, linked):
                with self._looking:
                    self._checked[bundle.digest].watch_folders()
        except OSError as error:
            raise BadInput(
                f"cannot copy the bundle for a runner to {slot.folder}: {error.strerror or error}; "
                "free some space there, or set TMPDIR to another folder"
            ) from None

    def _count_taken_bytes(self, but: Slot) -> int:
        """Sum the bytes of all copies but one, and remove those of ended worker processes."""
        total = 0
        own_slots = {slot.folder.name: slot for slot in (*self._free, *self._used, but)}
        for lock in self._root.glob("*.lock"):
            if lock.stem in own_slots:
                total += 0 if own_slots[lock.stem] is but else own_slots[lock.stem].copied_bytes
                continue
            fd = _lock_slot(lock)
            if fd is None:
                with suppress(OSError, ValueError):
                    total += int(lock.read_text("ascii") or 0)
                continue
            self._drop(Slot(lock.with_suffix(""), fd))
        return total

    def _drop(self, slot: Slot) -> None:
        with suppress(OSError):
            slot.clear()
        fcntl.flock(slot.lock_fd, fcntl.LOCK_UN)  # also for a process that inherited it
        os.close(slot.lock_fd)

    @contextmanager
    def _lock_root(self) -> Iterator[None]:
        """Exclude the other worker processes of this user for the duration of the `with`."""
        with suppress(FileExistsError):
            self._root.mkdir(mode=0o700)
        status = self._root.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise BadInput(
                f"{self._root} is not a folder owned by this user; remove it, or set TMPDIR to another folder"
            )
        with (self._root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _divide(bundle: Bundle, room_bytes: int, whole: bool) -> tuple[list[Path], list[Path], int]:
    """(files to copy, files to link, bytes to copy), sources first, because a link of theirs could lead
    elsewhere.

    Raises BadInput if all must be copied (`whole`) and there is no room.
    """
    copied: list[Path] = []
    linked: list[Path] = []
    total = 0
    names = sorted(map(Path, list_contents(bundle.path)), key=lambda name: name.suffix != ".py")
    statuses = {name: (bundle.path / name).lstat() for name in names}
    sizes = {name: statuses[name].st_size for name in names}
    if whole and (needed_bytes := sum(sizes.values())) > room_bytes:
        raise BadInput(
            "tasks write to large files of the bundle, so each runner needs a whole copy: "
            f"{needed_bytes / MIB:,.1f} MiB, and copies may take {max(0, room_bytes) / MIB:,.1f} MiB more. "
            "Raise workers.scratch.sizeLimit (MODELOPS_SCRATCH_BYTES; copies may use a quarter of it), or "
            "have the model write to a new file"
        )
    for name, size in sizes.items():
        fits = len(copied) < COPY_FILES and total + size <= min(room_bytes, COPY_BYTES)
        if whole or stat.S_ISLNK(statuses[name].st_mode) or (fits and size <= LARGE_BYTES):
            copied.append(name)
            total += size
        else:
            linked.append(name)
    return copied, linked, total


def _link(source: Path, target: Path) -> bool:
    """Link a large file: its blocks are shared if the file system supports it, otherwise by a link.

    Returns whether it is a symbolic link.
    """
    with suppress(OSError):
        workspace.copy(str(source), str(target), only_clone=True)
        return False
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        target.symlink_to(source)
        return True
    return False


def _lock_slot(path: Path) -> int | None:
    """Lock a slot; return the descriptor that holds the lock, or None if another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _numba_folder(folder: Path) -> str:
    """The folder in numba's cache for the compiled modules of a folder."""
    return f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"
