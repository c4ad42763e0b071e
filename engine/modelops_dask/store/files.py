"""Files of a study, in a folder or behind any fsspec URL, by the same few verbs.

A name is a path inside the store, with slashes. Every file appears whole or not at all, and is not changed once it
can be seen, except where put() replaces it:

- put() writes under a temporary name, fsyncs, renames and fsyncs the folder; one PUT on an object store.
- create() is put-if-absent: of two writers one wins. In a folder by a hard link (fsspec's own mode="create" is not
  exclusive there), else by mode="create", which object stores refuse with a condition on the PUT.

Temporary names begin with a dot; list() leaves them out, so a crash in between leaves nothing that is ever read.
Tested in a folder; behind other URLs with fsspec's memory file system.
"""

import os
import uuid
from contextlib import suppress
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
        _sync_folder(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; whether this call made it. Durable when it returns."""
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
        _sync_folder(path.parent)
        return True

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError."""
        if self.folder is None:
            filesystem, root = self._remote
            return filesystem.cat_file(f"{root}/{name}")
        return (self.folder / name).read_bytes()

    def open(self, name: str) -> Any:
        """A file to read in pieces, as a context manager; FileNotFoundError."""
        if self.folder is None:
            filesystem, root = self._remote
            return filesystem.open(f"{root}/{name}", "rb")
        return (self.folder / name).open("rb")

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

    def remove(self, folder: str) -> None:
        """Remove a folder and all in it, if it is there."""
        import shutil

        if self.folder is None:
            filesystem, root = self._remote
            with suppress(FileNotFoundError):
                filesystem.rm(f"{root}/{folder}", recursive=True)
        else:
            shutil.rmtree(self.folder / folder, ignore_errors=True)


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


def _sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
