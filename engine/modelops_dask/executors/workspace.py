"""The folder that a runner works in: its initial state, changes by tasks, and restoring it.

    folder/b   the runner's copy of the bundle; the model is imported from it and works in it
    folder/t   its TMPDIR
    begin() -> a task runs -> put_back() -> the initial state is restored

A changed file is replaced, not overwritten: files that a model holds open stay unchanged for it. Only files
that a zygote has open are overwritten, after hold(), because its children inherit them. Bytecode of the
initial state stays until it is written to; bytecode added by tasks is removed, because they may have changed
its source. This module uses only the standard library and Python 3.9: runner.py and zygote.py load it by
path. The copy is made in the worker, by copies.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping

BUNDLE, TEMPORARY = "b", "t"
KEPT = ".kept"  # next to the folder: copies of files that importing the model wrote
NOTES = ".notes"  # next to the folder: a runner's notes for its worker
PYCACHE = "__pycache__"
FICLONE = 0x40049409  # ioctl of Linux: share the blocks of another file until one of the two is written
KEPT_BYTES, KEPT_FILES = 64 << 20, 1000  # of files that importing the model wrote
# A clock of the file system ticks each 1 to 10 ms: a change right after a check may have the same time.
TICK_NS = 20_000_000
SHARE = 0.01  # share of a warm process's time that checking may take
FEW_FILES = 50  # files checked after each message's last task, whatever that takes
QUICK_SECONDS = 5e-6  # a faster task has created no file
HIGH_FD = 1000  # a number beyond those that models close or receive
SOCKETS = "pymp-"  # names of multiprocessing's folders of sockets, which its running servers need
MOST_NAMES = 20  # that are noted
PROBLEM = "!"  # prefix of a note on something that could not be restored
# A model may replace these, as freezegun and pyfakefs do.
_perf_counter, _time_ns = time.perf_counter, time.time_ns
_lstat, _chdir, _fchdir = os.lstat, os.chdir, os.fchdir


class Workspace:
    """The contents of a folder and their initial state.

    `changed` has the names of restored files, relative to the copy of the bundle, at most MOST_NAMES.
    `problem` describes what could not be restored; "" if everything was.
    """

    def __init__(
        self,
        folder: str,
        source: str,
        inside: bool = False,
        stays: bool = False,
        always_looks: bool = False,
    ) -> None:
        """Prepare a workspace.

        Args:
            source: The checked copy from which folder/b was made.
            inside: Whether this process works in it; then its working directory is also restored, and the
                worker receives notes next to the folder.
            stays: Whether it runs task after task, with started processes living on between them.
            always_looks: Whether to check contents of files after each task, whatever that takes.
        """
        self._always_looks = always_looks
        self._folder, self._source, self._inside, self._stays = folder, source, inside, stays
        self.bundle = os.path.join(folder, BUNDLE)
        self.changed: list[str] = []
        self.problem = ""
        self._folders: dict[str, tuple[int, int, int]] = {}  # stamps
        self._names: dict[str, set[str]] = {}  # entries of a folder
        self._files: dict[str, tuple[int, int, int, int]] = {}  # stamps
        self._masters: dict[str, str] = {}  # where a file can be copied from; no entry: nowhere
        self._shared: set[str] = set()  # hard links to the checked copy
        self._links: set[str] = set()  # symbolic links, to another file system
        self._held: dict[str, str] = {}  # files that the process has open or mapped: another link to each
        self._recent: set[str] = set()  # files whose stamps are too recent to be reliable
        self._bytecode: dict[str, int] = {}  # hashes of such bytecode
        self._kept_bytes = self._kept_files = 0
        self._cwd, self._cwd_fd = self.bundle, -1
        self._looked_at_files = self._look_at_files_seconds = 0.0

    def begin(self) -> None:
        """Make the current state the initial state."""
        remove(self._folder + KEPT)
        for notes in (self._folders, self._names, self._files, self._masters, self._bytecode, self._held):
            notes.clear()
        for paths in (self._shared, self._links, self._recent):
            paths.clear()
        self._kept_bytes = self._kept_files = 0
        self._look_at_files_seconds = 0.0
        self._note_folder(self._folder)
        with contextlib.suppress(OSError):
            self._cwd = os.getcwd()
            self._open_cwd()

    def hold(self, inodes: set[int]) -> set[int]:
        """From now on overwrite these files instead of replacing them, because the process has them open.

        Returns the inodes in this folder. A large file that links to the checked copy is not overwritten: the
        worker checks those. Raises OSError.
        """
        held_inodes = set()
        for path, (_, inode, _, mode) in self._files.items():
            if inode in inodes and stat.S_ISREG(mode):
                held_inodes.add(inode)
                if path not in self._shared and path not in self._links:
                    os.makedirs(self._folder + KEPT, mode=0o700, exist_ok=True)
                    self._held[path] = os.path.join(self._folder + KEPT, f"held{len(self._held)}")
                    os.link(path, self._held[path], follow_symlinks=False)
                    self._stamp_file(path)
        return held_inodes

    def after_task(self, seconds: float, last: bool, lift: Callable[[], object]) -> None:
        """Restore what a task of a warm process changed; `last` of successive tasks.

        The working directory is restored after each task, folders are checked after each task that is not
        fast, and files if that takes at most SHARE of the time. lift() removes the task's memory limit.
        """
        if seconds < QUICK_SECONDS and not last:
            try:
                _fchdir(self._cwd_fd)
                return
            except (OSError, ValueError):  # the model closed it; or it could not be opened: -1
                self._cwd_fd = -1
        earned = (_perf_counter() - self._looked_at_files) * SHARE
        files = earned >= self._look_at_files_seconds or (last and len(self._files) <= FEW_FILES)
        files = files or self._always_looks
        try:
            suspects = self._find_suspects(files)
        except MemoryError:  # the task left none of its allowed memory
            lift()
            suspects = self._find_suspects(files)
        if suspects:
            lift()
        self._put_back(suspects)
        if last or suspects or self._cwd_fd < 0:
            self._open_cwd()
        if files:
            self._looked_at_files = _perf_counter()

    def put_back(self) -> None:
        """Restore everything that differs from the initial state."""
        self._put_back(self._find_suspects(files=True))

    def _put_back(self, suspects: list[str]) -> None:
        try:
            changed_folders = set()
            for path in suspects:  # a folder before its contents
                if path in self._folders and self._folder_differs(path):
                    self._put_back_folder(path)
                    changed_folders.add(path)
                elif path in self._files and self._file_differs(path):
                    changed_folders.add(os.path.dirname(path))
                    if os.path.basename(os.path.dirname(path)) == PYCACHE:
                        self._remove_bytecode(path)
                    else:
                        self._put_back_file(path)
            for path in changed_folders:  # restoring changed them again
                if path in self._folders:
                    self._stamp_folder(path)
            if self._inside:
                self.enter()
        except OSError as error:
            self._fail(f"{self._name(error.filename or self.bundle)}: {error.strerror or error}")

    def enter(self) -> None:
        """Return to the initial working directory, even if that folder was created again."""
        _chdir(self._cwd)

    def _open_cwd(self) -> None:
        """Keep the working directory open, which is faster than its path.

        It is reopened if the folder was created again, or if the model closed the descriptor and its number
        belongs to another file. The number is high, so that this does not happen by chance.
        """
        if not self._stays:
            return
        with contextlib.suppress(OSError):
            current, opened = os.stat(self._cwd), None
            with contextlib.suppress(OSError):
                opened = os.fstat(self._cwd_fd)
            if opened and (opened.st_ino, opened.st_dev) == (current.st_ino, current.st_dev):
                return
            low, self._cwd_fd = os.open(self._cwd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), -1
            try:
                self._cwd_fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            finally:
                os.close(low)

    # Recording

    def _note_folder(self, path: str) -> None:
        self._stamp_folder(path)
        names = set()
        with os.scandir(path) as entries:
            listing = list(entries)
        for entry in listing:
            names.add(entry.name)
            if entry.is_dir(follow_symlinks=False):
                self._note_folder(entry.path)
            elif os.path.basename(path) == PYCACHE:
                self._note_bytecode(entry.path)
            else:
                self._note_file(entry.path)
        self._names[path] = names

    def _note_file(self, path: str) -> None:
        status, master = _lstat(path), ""
        if path.startswith(self.bundle + os.sep):
            master = self._source + path[len(self.bundle) :]
            with contextlib.suppress(OSError):
                original = _lstat(master)
                if (original.st_ino, original.st_dev) == (status.st_ino, status.st_dev):
                    self._shared.add(path)
                elif stat.S_ISLNK(status.st_mode) and os.readlink(path) == master:
                    self._links.add(path)
                elif not _is_copy(status, original, path, master):
                    master = ""
                self._masters[path] = master
        if not self._masters.get(path):
            self._keep(path, status)
        self._stamp_file(path)

    def _note_bytecode(self, path: str) -> None:
        self._stamp_file(path)
        if path in self._recent:
            self._bytecode[path] = _content_hash(path)

    def _keep(self, path: str, status: os.stat_result) -> None:
        """Store a copy of a file that importing the model wrote, unless it is too large."""
        self._masters.pop(path, None)
        is_file = stat.S_ISREG(status.st_mode)
        if not (is_file or stat.S_ISLNK(status.st_mode)):
            return
        if self._kept_files >= KEPT_FILES or (is_file and self._kept_bytes + status.st_size > KEPT_BYTES):
            return
        os.makedirs(self._folder + KEPT, mode=0o700, exist_ok=True)
        master = os.path.join(self._folder + KEPT, str(self._kept_files))
        copy(path, master)
        self._kept_files += 1
        self._kept_bytes += status.st_size
        self._masters[path] = master

    def _stamp_folder(self, path: str) -> None:
        status = _lstat(path)
        self._folders[path] = _folder_stamp(status)
        self._date(path, status)

    def _stamp_file(self, path: str) -> None:
        status = _lstat(path)
        self._files[path] = self._file_stamp(path, status)
        if path not in self._shared:
            self._date(path, status)

    def _date(self, path: str, status: os.stat_result) -> None:
        if status.st_ctime_ns > _time_ns() - TICK_NS:
            self._recent.add(path)
        else:
            self._recent.discard(path)

    def _file_stamp(self, path: str, status: os.stat_result) -> tuple[int, int, int, int]:
        # The time of the last change of a shared file's inode also belongs to its other links.
        changed = status.st_mtime_ns if path in self._shared else status.st_ctime_ns
        return changed, status.st_ino, status.st_size, status.st_mode

    # Checking

    def _find_suspects(self, files: bool) -> list[str]:
        """Find differences: folders, and then files, at least those in such folders."""
        entries: list[str] = []
        if files:
            started = _perf_counter()
            folders, entries = self._find_unlike(self._folders), self._find_unlike(self._files)
            seconds = _perf_counter() - started
            # The minimum seen: others may have used the processor.
            self._look_at_files_seconds = min(seconds, self._look_at_files_seconds or seconds)
        else:
            folders = self._find_unlike(self._folders)
        if not folders and not entries:
            return []
        suspects = [path for path in folders if self._folder_differs(path)]
        if not files:
            entries = [path for folder in suspects for path in self._paths_in(folder)]
        return suspects + [path for path in entries if path in self._folders or self._file_differs(path)]

    def _find_unlike(self, stamps: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Find possible differences: each task pays for this, so nothing is repeated or built."""
        lstat, unlike = _lstat, []
        for path, stamp in stamps.items():
            try:
                now = lstat(path)
            except OSError:
                unlike.append(path)
                continue
            if now.st_ctime_ns != stamp[0] or now.st_ino != stamp[1]:
                unlike.append(path)
        return [*unlike, *(path for path in self._recent if path in stamps)] if self._recent else unlike

    def _folder_differs(self, path: str) -> bool:
        try:
            if _folder_stamp(_lstat(path)) != self._folders[path]:
                return True
            if path in self._recent:
                if set(os.listdir(path)) != self._names[path]:
                    return True
                self._stamp_folder(path)
        except OSError:
            return True
        return False

    def _file_differs(self, path: str) -> bool:
        if path not in self._files:
            return False
        try:
            status = _lstat(path)
            if self._file_stamp(path, status) != self._files[path]:
                # Others see the content of a hard link's file: the worker checks those.
                return path not in self._shared or status.st_ino != self._files[path][1]
            if path in self._recent:
                master = self._masters.get(path)
                if master and stat.S_ISREG(status.st_mode) and not _same_content(path, master):
                    return True
                if path in self._bytecode and _content_hash(path) != self._bytecode[path]:
                    return True
                self._stamp_file(path)
        except OSError:
            return True
        return False

    def _paths_in(self, folder: str) -> list[str]:
        return [os.path.join(folder, name) for name in self._names.get(folder, ())]

    # Restoring

    def _put_back_folder(self, path: str) -> None:
        """Restore the entries of a folder: exactly the initial ones, whatever they contain."""
        try:
            is_folder = stat.S_ISDIR(_lstat(path).st_mode)
        except OSError:
            is_folder = False
        if not is_folder:
            remove(path)
            os.mkdir(path)
            self._tell(path)
        mode = self._folders[path][2]
        if stat.S_IMODE(_lstat(path).st_mode) != mode:
            os.chmod(path, mode | 0o700)
        names, initial_names = set(os.listdir(path)), self._names[path]
        if os.path.basename(path) == PYCACHE:
            for name in names | initial_names:
                entry = os.path.join(path, name)
                if name not in initial_names or self._file_differs(entry):
                    self._remove_bytecode(entry)
        else:
            for name in names - initial_names:
                entry = os.path.join(path, name)
                if self._is_in_use(path, name):
                    continue
                if name != PYCACHE:
                    self._tell(entry)
                remove(entry)
            for name in initial_names - names:
                self._put_back_missing(os.path.join(path, name))
        if stat.S_IMODE(_lstat(path).st_mode) != mode:
            os.chmod(path, mode)

    def _is_in_use(self, folder: str, name: str) -> bool:
        """Whether a new entry belongs to servers of multiprocessing that live as long as this process."""
        return (
            self._stays
            and name.startswith(SOCKETS)
            and folder == os.path.join(self._folder, TEMPORARY)
            and stat.S_ISDIR(_lstat(os.path.join(folder, name)).st_mode)
        )

    def _put_back_missing(self, path: str) -> None:
        """Restore initial files that no longer exist."""
        if path not in self._folders:
            self._put_back_file(path)
        elif os.path.basename(path) == PYCACHE:  # not worth it
            self._forget(path)
        else:
            self._put_back_folder(path)
            self._stamp_folder(path)

    def _forget(self, path: str) -> None:
        self._names[os.path.dirname(path)].discard(os.path.basename(path))
        for paths in (self._folders, self._names, self._files, self._bytecode):
            for inside in [other for other in paths if other == path or other.startswith(path + os.sep)]:
                del paths[inside]

    def _put_back_file(self, path: str) -> None:
        self._tell(path)
        master = self._masters.get(path)
        if master is None:
            self._fail(f"{self._name(path)}: too large to be restored, or a socket or pipe")
            return
        if path in self._held:
            self._put_back_in_place(path, master)
            return
        remove(path)
        if path in self._shared:
            os.link(master, path)
        elif path in self._links:
            os.symlink(master, path)
        else:
            copy(master, path)
        self._stamp_file(path)

    def _put_back_in_place(self, path: str, master: str) -> None:
        """Overwrite a file that the process has open, and restore its path."""
        link = self._held[path]
        overwrite(master, link)
        remove(path)
        os.link(link, path, follow_symlinks=False)
        self._stamp_file(path)

    def _remove_bytecode(self, path: str) -> None:
        """Remove new or changed bytecode: Python makes it again."""
        remove(path)
        self._files.pop(path, None)
        self._bytecode.pop(path, None)
        self._recent.discard(path)
        self._names[os.path.dirname(path)].discard(os.path.basename(path))

    def is_untouched(self, path: str) -> bool:
        """Whether a copied file is the initial one, and was never written to or renamed."""
        try:
            status = _lstat(path)
        except OSError:
            return False
        is_copied = path not in self._shared and path not in self._links
        return is_copied and self._files.get(path) == self._file_stamp(path, status)

    # Reporting

    def _name(self, path: str) -> str:
        return escape_name(os.path.relpath(os.fsdecode(path), self.bundle))

    def _tell(self, path: str) -> None:
        name = self._name(path)
        if not name.startswith(os.pardir) and name not in self.changed and len(self.changed) < MOST_NAMES:
            self.changed.append(name)
            self._write_note(name)

    def _fail(self, problem: str) -> None:
        if not self.problem:
            self.problem = problem
            self._write_note(PROBLEM + problem)

    def _write_note(self, text: str) -> None:
        if self._inside:
            try:
                from _json import encode_basestring_ascii  # the model may have its own module json
            except ImportError:
                from json.encoder import encode_basestring_ascii
            with contextlib.suppress(OSError), open(self._folder + NOTES, "a", encoding="ascii") as file:
                file.write(encode_basestring_ascii(text) + "\n")


def begin_workspace(bundle: str, source: str, stays: bool = False, always_looks: bool = False) -> Workspace:
    """In a runner, whose bundle is folder/b: its workspace, with the initial state recorded."""
    workspace = Workspace(
        os.path.dirname(bundle), source, inside=True, stays=stays, always_looks=always_looks
    )
    workspace.begin()
    return workspace


def copy(source: str, target: str, only_clone: bool = False) -> bool:
    """Copy a file or a symbolic link, with mode and times; return whether the two share their blocks.

    only_clone: raise OSError if they cannot.
    """
    status = _lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
        return False
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(source, "rb", buffering=0) as reader:
        writer = os.open(target, flags, 0o600)
        try:
            cloned = _clone(reader.fileno(), writer)
            if only_clone and not cloned:
                os.unlink(target)
                raise OSError(f"{target}: this file system cannot share blocks")
            while not cloned and (piece := reader.read(1 << 20)):
                while piece:
                    piece = piece[os.write(writer, piece) :]
            os.fchmod(writer, stat.S_IMODE(status.st_mode))
            os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writer)
    return cloned


def overwrite(source: str, target: str) -> None:
    """Give a file the content, mode and times of another, so that open descriptors see the change."""
    status = os.stat(source)
    os.chmod(target, 0o600)
    writer = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with open(source, "rb", buffering=0) as reader:
            while piece := reader.read(1 << 20):
                while piece:
                    piece = piece[os.write(writer, piece) :]
        os.ftruncate(writer, status.st_size)  # last: a mapped page is never missing
        os.fchmod(writer, stat.S_IMODE(status.st_mode))
        os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(writer)


def _clone(reader: int, writer: int) -> bool:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.ioctl(writer, FICLONE, reader)
            return True
    return False


def _is_copy(status: os.stat_result, original: os.stat_result, path: str, master: str) -> bool:
    if stat.S_ISLNK(status.st_mode):
        return stat.S_ISLNK(original.st_mode) and os.readlink(path) == os.readlink(master)
    return (status.st_mode, status.st_size, status.st_mtime_ns) == (
        original.st_mode,
        original.st_size,
        original.st_mtime_ns,
    )


def _folder_stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ctime_ns, status.st_ino, stat.S_IMODE(status.st_mode)


def _same_content(path: str, other: str) -> bool:
    try:
        with open(path, "rb") as stream, open(other, "rb") as two:
            while True:
                piece = stream.read(1 << 20)
                if piece != two.read(1 << 20):
                    return False
                if not piece:
                    return True
    except OSError:
        return False


def _content_hash(path: str) -> int:
    if not stat.S_ISREG(_lstat(path).st_mode):  # opening a pipe would block
        return 0
    with open(path, "rb") as file:
        return hash(file.read())


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all its contents, whatever its modes; or nothing.

    By descriptors, so that a folder that becomes a link leads nowhere. Raises OSError, also for mount points.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(os.path.dirname(path), flags)
    try:
        _remove_in(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _remove_in(parent: int, name: str) -> None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    if status.st_dev != os.fstat(parent).st_dev:
        raise OSError(errno.EXDEV, "it is a mount point", name)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        folder = os.open(name, flags, dir_fd=parent)
    try:
        os.fchmod(folder, 0o700)
        for entry in os.listdir(folder):
            _remove_in(folder, entry)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def escape_name(name: str) -> str:
    """A file's name as printable text: other characters are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def read_notes(folder: str) -> tuple[list[str], str]:
    """Read the notes next to a folder: (names of restored files, what could not be restored)."""
    import json

    names: list[str] = []
    problem = ""
    try:
        with open(folder + NOTES, encoding="ascii") as file:
            for line in file.read().splitlines():
                with contextlib.suppress(ValueError):
                    text = str(json.loads(line))
                    if text.startswith(PROBLEM):
                        problem = text[len(PROBLEM) :]
                    else:
                        names.append(text)
    except (OSError, ValueError):
        pass
    return names, problem
