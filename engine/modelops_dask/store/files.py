"""Files of a study, in a folder or behind any fsspec URL, by the same few verbs.

A name is a path inside the store, with slashes. Every file appears whole or not at all, and is not changed
once it can be seen, except where put() replaces it:

- put() writes under a temporary name, fsyncs, renames and fsyncs the folder; one PUT on an object store.
- create() is put-if-absent: of two writers one wins. In a folder by a hard link (fsspec's own mode="create"
  is not exclusive there), else by mode="create", a condition on the PUT of object stores.

Temporary names begin with a dot; list() leaves them out, so a crash in between leaves nothing that is read.
Tested in a folder; behind other URLs with fsspec's memory file system.
"""

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput


@dataclass(frozen=True)
class Files:
    """A store by its URL; a plain path is a folder. Plain data: it may be sent to workers."""

    url: str

    @cached_property
    def folder(self) -> Path | None:
        """The folder of a store on this machine, else None."""
        if "://" not in self.url:
            return Path(self.url).expanduser().absolute()
        if self.url.startswith("file://"):
            return Path(self.url.removeprefix("file://"))
        return None

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Files, (self.url,)  # not the open connection

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise BadInput(f"cannot open the store {self.url}: {error}") from error

    def where(self, name: str = "") -> str:
        """The full path or URL of a name, as a person would open it."""
        base = str(self.folder) if self.folder else self.url.rstrip("/")
        return f"{base}/{name}" if name else base

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing one of that name; durable when it returns."""
        if self.folder is None:
            filesystem, root = self._remote
            filesystem.pipe_file(f"{root}/{name}", data)
            return
        path = self.folder / name
        temporary = _write_temporary(path, data)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; whether this call did. Durable when it returns."""
        if self.folder is None:
            filesystem, root = self._remote
            try:
                filesystem.pipe_file(f"{root}/{name}", data, mode="create")
            except FileExistsError:
                return False
            return True
        path = self.folder / name
        if path.exists():
            return False
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
        return True

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError."""
        if self.folder is None:
            filesystem, root = self._remote
            return filesystem.cat_file(f"{root}/{name}")
        return (self.folder / name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file, if there is one of that name."""
        with suppress(FileNotFoundError):
            if self.folder is None:
                filesystem, root = self._remote
                filesystem.rm_file(f"{root}/{name}")
            else:
                (self.folder / name).unlink()

    def open(self, name: str) -> Any:
        """A file to read in pieces, as a context manager; FileNotFoundError."""
        if self.folder is None:
            filesystem, root = self._remote
            return filesystem.open(f"{root}/{name}", "rb")
        from pyarrow import (
            OSFile,  # Arrow's threads may outlive a read, and must not then meet a Python object
        )

        return OSFile(str(self.folder / name))

    def list(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted, without the folder's own; [] when there is none."""
        if self.folder is None:
            filesystem, root = self._remote
            try:
                entries = filesystem.ls(f"{root}/{folder}", detail=True)
            except FileNotFoundError:
                return []
            names = [entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"]
        else:
            try:
                with os.scandir(self.folder / folder) as entries:
                    names = [entry.name for entry in entries if entry.is_file()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if not name.startswith("."))

    @contextmanager
    def replacing(self, folder: str) -> Iterator[Path]:
        """An empty folder on this machine; when the `with` ends well it takes the whole place of `folder`.

        In a folder by two renames: a reader finds the old, for a moment nothing, or the new, never a mix.
        Behind other URLs the old files are removed and the new ones uploaded.
        """
        parent = self.folder
        if parent is None:
            parent = Path(tempfile.mkdtemp(prefix="modelops-"))
        else:
            parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(parent, folder)
        staged = parent / f".{folder}.{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            yield staged
            if self.folder is None:
                self._upload(staged, folder)
            else:
                _install(staged, self.folder / folder)
        finally:
            shutil.rmtree(staged if self.folder else parent, ignore_errors=True)

    def _upload(self, local: Path, folder: str) -> None:
        filesystem, root = self._remote
        with suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{folder}", recursive=True)
        for path in sorted(local.rglob("*")):
            if path.is_file():
                filesystem.put_file(str(path), f"{root}/{folder}/{path.relative_to(local).as_posix()}")


def _install(staged: Path, target: Path) -> None:
    """Put a folder in another's place."""
    for path in [*staged.rglob("*"), staged]:
        _sync(path)
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
    _sync(target.parent)


def _remove_leftovers(parent: Path, folder: str) -> None:
    """What runs that were killed left of replacing(); a day old, so that no run's own is taken from it."""
    for path in parent.glob(f".{folder}.*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 86_400:
                shutil.rmtree(path, ignore_errors=True)


def _write_temporary(path: Path, data: bytes) -> Path:
    """A fsynced file beside `path` that list() does not show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
