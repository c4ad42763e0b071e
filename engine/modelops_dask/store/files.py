"""Files of a study, in a folder or behind any fsspec URL, by the same few verbs.

A name is a path inside the store, with slashes. Every file appears whole or not at all, and is not changed
once it can be seen, except where put() replaces it:

- put() writes under a temporary name, fsyncs, renames and fsyncs the folder; one PUT on an object store.
- create() is put-if-absent: of two writers one wins. In a folder by a hard link (fsspec's own mode="create"
  is not exclusive there), else by mode="create", a condition on the PUT of object stores.

Temporary names begin with a dot; list() leaves them out, so a crash in between leaves nothing that is read.
What the disk or the object store refuses is a StoreFailed, which names the place and never a credential;
FileNotFoundError is an answer and stays what it is. Tested in a folder, on S3 and with
fsspec's memory file system; other URLs go the same way, untested.
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
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput, MopsError, Stopped

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_WHOLE_BYTES = 16 * 2**20  # of an object: one request is faster than several for its pieces


class StoreFailed(Stopped):
    """The disk or the object store did not do what a study needs; what is stored stays as it was."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(where, reason)

    def __str__(self) -> str:
        return (
            f"Stopped: the store does not answer as it must: {self.where}: {self.reason}\n"
            "What is stored stays. Once that is solved, the same command goes on."
        )


class NoSpace(StoreFailed):
    """The disk of the store is full, or its quota is used up."""

    def __str__(self) -> str:
        return (
            f"Stopped: no space for {self.where}: {self.reason}\n"
            "What is stored is whole. Make room there, or move the store to a larger disk and name it with "
            "--store; the same command then goes on."
        )


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

        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise BadInput(
                "A store's URL must hold no name or password: give those by the environment, "
                "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://"
            )
        try:
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            hint = ": install mops-helm[s3]" if self.url.startswith("s3") else ""
            raise BadInput(f"cannot open the store {self.url}: {error}{hint}") from None
        except ValueError as error:
            near = get_close_matches(self.url.partition("://")[0], fsspec.available_protocols(), 1, 0.5)
            hint = f"; did you mean {near[0]}://?" if near else ""
            raise BadInput(f"cannot open the store {self.url}: {error}{hint}") from None

    def where(self, name: str = "") -> str:
        """The full path or URL of a name, as a person would open it."""
        base = str(self.folder) if self.folder else self.url.rstrip("/")
        return f"{base}/{name}" if name else base

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing one of that name; durable when it returns."""
        with self.failures(name, writing=True):
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
        with self.failures(name, writing=True):
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
        with self.failures(name):
            if self.folder is None:
                filesystem, root = self._remote
                return filesystem.cat_file(f"{root}/{name}")
            return (self.folder / name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self.failures(name), suppress(FileNotFoundError):
            if self.folder is None:
                filesystem, root = self._remote
                filesystem.rm_file(f"{root}/{name}")
            else:
                (self.folder / name).unlink()

    def open(self, name: str) -> Any:
        """A file for Arrow to read in pieces, as a context manager; FileNotFoundError."""
        import pyarrow as pa

        with self.failures(name):
            if self.folder:
                # Arrow's threads may outlive a read, and must not then meet a Python object.
                return pa.OSFile(str(self.folder / name))
            filesystem, root = self._remote
            file = filesystem.open(f"{root}/{name}", "rb", block_size=2**20)
            if file.size > _READ_WHOLE_BYTES:
                return file
            with file:
                return pa.BufferReader(filesystem.cat_file(f"{root}/{name}"))

    def list(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted, without the folder's own; [] when there is none."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """As list(), with the bytes of each file; in no order."""
        with self.failures(folder):
            try:
                if self.folder is None:
                    filesystem, root = self._remote
                    entries = filesystem.ls(f"{root}/{folder}", detail=True)
                    files = [entry for entry in entries if entry["type"] == "file"]
                    found = {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in files}
                else:
                    found = _sizes(self.folder / folder)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return {name: size for name, size in found.items() if name and not name.startswith(".")}

    @contextmanager
    def failures(self, name: str, *, writing: bool = False) -> Iterator[None]:
        """What a disk or an object store has to say, as StoreFailed."""
        try:
            yield
        except MopsError:
            raise
        except FileNotFoundError as error:
            if not writing:
                raise
            raise StoreFailed(self.where(name), str(error)) from None  # no such bucket
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(self.where(name), _space(self.folder, error)) from None
            raise StoreFailed(self.where(name), error.strerror or str(error)) from error
        except Exception as error:
            if self.folder:
                raise
            # Each kind of object store has its own exceptions, which share nothing but this base.
            raise StoreFailed(self.where(name), f"{type(error).__name__}: {error}") from None

    @contextmanager
    def replacing(self, folder: str, last: str) -> Iterator[Path]:
        """An empty folder on this machine; when the `with` ends well it takes the whole place of `folder`.

        In a folder by two renames: a reader finds the old, for a moment nothing, or the new, never a mix.
        Behind other URLs the old files are removed and the new ones uploaded; the file named `last`, by which
        a reader knows that all are there, is the first to go and the last to come.
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
                with self.failures(folder, writing=True):
                    self._upload(staged, folder, last)
            else:
                _install(staged, self.folder / folder)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(str(staged), _space(parent, error)) from None
            raise
        finally:
            shutil.rmtree(staged if self.folder else parent, ignore_errors=True)

    def _upload(self, local: Path, folder: str, last: str) -> None:
        filesystem, root = self._remote
        self.remove(f"{folder}/{last}")
        with suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{folder}", recursive=True)
        for path in sorted(local.rglob("*"), key=lambda path: (path == local / last, path)):
            if path.is_file():
                filesystem.put_file(str(path), f"{root}/{folder}/{path.relative_to(local).as_posix()}")


def _sizes(folder: Path) -> dict[str, int]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # merged into another since it was listed
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
    return found


def _space(folder: Path | None, error: OSError) -> str:
    """How full the disk of a folder is, in words."""
    place = folder
    while place and not place.is_mount() and place != place.parent:
        place = place.parent
    if place is None or error.errno != errno.ENOSPC:
        return str(error.strerror)
    usage = shutil.disk_usage(place)
    return (
        f"{error.strerror} on the file system at {place} ({usage.free:,} of {usage.total:,} bytes are free)"
    )


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
