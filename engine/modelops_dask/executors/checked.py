"""Whether tasks write into the checked copy of a bundle, which large files of runners' copies link to.

    stamps of its files when it was checked, of folders once a runner has symbolic links -> differences

A hard link leads only to a file. A symbolic link shows the folder to a model that resolves the path, so
additional entries are also found and removed. Creating or removing a hard link also changes the time of a
file's last change (ctime): then the content decides. A write through a shared memory map on tmpfs, which
changes no time, is not detected.
"""

import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path, PurePosixPath

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import Stamp, Stamps, find_differing, list_contents, stamp_of
from modelops_dask.executors.bytecode import PYCACHE
from modelops_dask.executors.workspace import TICK_NS, remove

FolderStamp = tuple[int, int, int]


class CheckedCopy:
    """The checked copy of one bundle. One thread at a time uses it."""

    def __init__(self, bundle: Bundle) -> None:
        self._path, self._digest = bundle.path, bundle.digest
        self._same: dict[tuple[str, Stamp], Stamp] = {}  # later stamps with unchanged content
        self._folders: dict[Path, FolderStamp | None] = {}
        self._names: dict[Path, set[str]] = {}  # entries of the bundle in each of them

    def watch_folders(self) -> None:
        """From now on check folders, too. Entries that are not in the bundle are removed."""
        if self._folders:
            return
        self._names = defaultdict(set)
        for name in list_contents(self._path):
            for path in (name, *name.parents[:-1]):
                self._names[self._path / path.parent].add(path.name)
            if name.suffix == ".py":  # otherwise sharing bytecode would change the folder later
                (self._path / name.parent / PYCACHE).mkdir(exist_ok=True)
        for folder in self._names:
            self._remove_others(folder)
        self._folders = {folder: _stamp_of_folder(folder) for folder in self._names}

    def changes(self, stamps: Stamps) -> list[str]:
        """Names of files that changed since `stamps` were made, and of added entries.

        A folder with an entry that was added and removed is named itself. Folders are no longer checked after
        that: new copies have no links.
        """
        files = self._changed_files(stamps)
        others = []
        for folder, stamp in self._folders.items():
            if _stamp_of_folder(folder) != stamp:
                added = self._remove_others(folder)
                if not added and not any((self._path / name).parent == folder for name in files):
                    added = [folder]
                others += [str(PurePosixPath(path.relative_to(self._path))) for path in added]
        if files or others:
            self._folders = {}
        return [*files, *others]

    def _changed_files(self, stamps: Stamps) -> list[str]:
        changed, unsure = [], {}
        for name, stamp in stamps.items():
            now = stamp_of(self._path / name)
            if now == stamp or (stamp and now == self._same.get((name, stamp))):
                continue
            if now and stamp and now[:-1] == stamp[:-1]:
                unsure[name] = (stamp, now)
            else:
                changed.append(name)
        if not unsure:
            return changed
        settled_ns = time.time_ns() - TICK_NS  # writes after this time change ctime again
        differing = find_differing(self._path, unsure, self._digest)
        for name, (stamp, now) in unsure.items():
            if name not in differing and now[-1] < settled_ns:
                self._same[name, stamp] = now
        return [*changed, *differing]

    def _remove_others(self, folder: Path) -> list[Path]:
        """Remove the entries of a folder that the bundle does not have, and return them."""
        others = []
        with suppress(OSError):
            others = [path for path in folder.iterdir() if path.name not in self._names[folder] | {PYCACHE}]
        for path in others:
            with suppress(OSError):
                remove(str(path))
        return others


def _stamp_of_folder(folder: Path) -> FolderStamp | None:
    try:
        status = os.lstat(folder)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns
