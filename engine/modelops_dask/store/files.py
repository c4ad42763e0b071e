"""Files of a study, in a folder or behind any fsspec URL, with the same few operations.

A name is a path inside the store, with slashes. Every file appears completely or not at all, and does not
change once it is visible, unless put() replaces it:

- put() writes under a temporary name, fsyncs, renames and fsyncs the folder; one PUT on an object store.
- create() is put-if-absent: one of two writers wins (exclusive.py). require_exclusive() tests whether an
  object store guarantees that.
- replacing() replaces a whole folder by another (replacing.py).

Temporary names begin with a dot; list() leaves them out, so a crash leaves nothing that is read. An error of
the disk or the object store becomes a StoreFailed, which names the location but never a credential;
FileNotFoundError is passed through. docs/stores.md lists the kinds of stores that are tested.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from modelops_dask.errors import BadInput, MopsError, Stopped
from modelops_dask.store import exclusive
from modelops_dask.store.replacing import install, remove_leftovers, sync

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

PROBE = ".modelops-probe"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_WHOLE_BYTES = 16 * 2**20  # for an object: one request is faster than several for its pieces
_READ_AT_ONCE_BYTES = 2**18  # for a file, even if only few of its columns are needed


class StoreFailed(Stopped):
    """The disk or the object store failed; stored data is unchanged."""

    def __init__(self, location: str, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(location, reason)

    def __str__(self) -> str:
        return (
            f"Stopped: the store returned an unexpected error: {self.location}: {self.reason}\n"
            "Stored results are safe. Once this is solved, run the same command to continue."
        )


class NoSpace(StoreFailed):
    """The disk of the store is full, or its quota is used up."""

    def __str__(self) -> str:
        return (
            f"Stopped: no space for {self.location}: {self.reason}\n"
            "Stored results are complete. Free some space there, or move the store to a larger disk and "
            "name it with "
            "--store; then run the same command to continue."
        )


class NotExclusive(BadInput):
    """An object store replaces a file although the request forbids it."""

    def __init__(self, location: str, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(location, reason)

    def __str__(self) -> str:
        return (
            f"{self.location} cannot be written: {self.reason}, so two runs could silently replace each "
            "other's files. Use a folder, or an object store that honours If-None-Match (docs/stores.md "
            "lists tested stores). mops-helm study status, results and verify can still read the "
            "store."
        )


@dataclass(frozen=True)
class Store:
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
        return Store, (self.url,)  # without the open connection

    @cached_property
    def _remote(self) -> "tuple[AbstractFileSystem, str]":
        import fsspec

        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise BadInput(
                "The URL of a store must not contain a name or password: use environment variables, "
                "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://"
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

    def location(self, name: str = "") -> str:
        """The full path or URL of a name, for users."""
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
            sync(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists, and return whether this call did. Durable when it returns.

        Behind a URL, an existing file with exactly these bytes counts as written by this call.
        """
        with self.failures(name, writing=True):
            if self.folder is None:
                filesystem, root = self._remote
                return exclusive.put(filesystem, f"{root}/{name}", data)
            path = self.folder / name
            if path.exists():
                return False
            temporary = _write_temporary(path, data)
            try:
                created = exclusive.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            if created:
                sync(path.parent)
            return created

    def require_exclusive(self) -> None:
        """Check that create() never replaces a file. Raises NotExclusive for an object store that does.

        A file of a fixed name is created twice unless it exists; it stays there, so that no permission to
        delete is needed. Three requests, four for a new store; none for a folder.
        """
        if self.folder is not None:
            return
        for _ in range(2):
            try:
                if not self.create(PROBE, uuid.uuid4().hex.encode()):
                    return
            except StoreFailed as error:
                if isinstance(error.__cause__, exclusive.NotSupported):
                    raise NotExclusive(self.location(), error.reason) from None
                raise
        raise NotExclusive(self.location(), "it replaces a file although it was asked not to overwrite one")

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""
        with self.failures(name):
            if self.folder is None:
                filesystem, root = self._remote
                return filesystem.cat_file(f"{root}/{name}")
            return (self.folder / name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with self.failures(name), suppress(FileNotFoundError):
            if self.folder is None:
                filesystem, root = self._remote
                filesystem.rm_file(f"{root}/{name}")
            else:
                (self.folder / name).unlink()

    def open(self, name: str) -> "pa.NativeFile | IO[bytes]":
        """A file for Arrow to read in pieces, as a context manager. Raises FileNotFoundError."""
        import pyarrow as pa

        with self.failures(name):
            if self.folder:
                # Arrow's threads may outlive a read, and must not access a Python object then.
                local_file = pa.OSFile(str(self.folder / name))
                if local_file.size() > _READ_AT_ONCE_BYTES:
                    return local_file
                with local_file:
                    return pa.BufferReader(local_file.read_buffer())
            filesystem, root = self._remote
            file = filesystem.open(f"{root}/{name}", "rb", block_size=2**20)
            if file.size > _READ_WHOLE_BYTES:
                return file
            with file:
                return pa.BufferReader(filesystem.cat_file(f"{root}/{name}"))

    def list(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted, without the folder's own name; [] if it does not exist."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Like list(), with the bytes of each file; in no order."""
        with self.failures(folder):
            try:
                if self.folder is None:
                    filesystem, root = self._remote
                    entries = filesystem.ls(f"{root}/{folder}", detail=True)
                    sizes_by_name = {
                        entry["name"].rsplit("/", 1)[-1]: entry["size"]
                        for entry in entries
                        if entry["type"] == "file"
                    }
                else:
                    sizes_by_name = _sizes(self.folder / folder)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return {name: size for name, size in sizes_by_name.items() if name and not name.startswith(".")}

    def list_below(self, folder: str) -> Sequence[str]:
        """Paths of all files below a folder behind a URL, relative to the folder, sorted."""
        with self.failures(folder):
            filesystem, root = self._remote
            names = (path.partition(f"{root}/{folder}/")[2] for path in filesystem.find(f"{root}/{folder}"))
            return sorted(name for name in names if name)

    def modified_at(self, name: str) -> datetime | None:
        """The time at which a file behind a URL was written, by the store's clock; None if it does not report
        it.
        """
        with self.failures(name), suppress(NotImplementedError):
            filesystem, root = self._remote
            return filesystem.modified(f"{root}/{name}")
        return None

    @contextmanager
    def failures(self, name: str, *, writing: bool = False) -> Iterator[None]:
        """Turn the errors of a disk or an object store into StoreFailed."""
        try:
            yield
        except MopsError:
            raise
        except (FileNotFoundError, NotADirectoryError) as error:  # also below a path that is a file
            if not writing:
                raise FileNotFoundError(self.location(name)) from None
            raise StoreFailed(self.location(name), str(error)) from None  # the bucket does not exist
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(self.location(name), _space(self.folder, error)) from None
            raise StoreFailed(self.location(name), error.strerror or str(error)) from error
        except Exception as error:
            if self.folder:
                raise
            # Each kind of object store has its own exceptions, which share only this base class.
            raise StoreFailed(self.location(name), f"{type(error).__name__}: {error}") from None

    @contextmanager
    def replacing(self, folder: str, last: str) -> Iterator[Path]:
        """An empty folder on this machine whose files replace those of `folder` when the `with` ends without
        an error.

        In a folder this takes two renames: a reader finds the old files, for a moment none, or the new ones,
        never a mix. Behind other URLs the files are uploaded next to the old ones; the file `last`, by which
        a reader knows the others, is uploaded last. The caller gives the others new names, and removes the
        old ones afterwards.
        """
        parent = self.folder
        if parent is None:
            parent = Path(tempfile.mkdtemp(prefix="modelops-"))
        else:
            parent.mkdir(parents=True, exist_ok=True)
        staged = parent / f".{folder}.{uuid.uuid4().hex}"
        staged.mkdir()
        remove_leftovers(staged, folder)
        try:
            yield staged
            if self.folder is None:
                self._upload(staged, folder, last)
            else:
                install(staged, self.folder / folder)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(str(staged), _space(parent, error)) from None
            raise
        finally:
            shutil.rmtree(staged if self.folder else parent, ignore_errors=True)

    def _upload(self, local: Path, folder: str, last: str) -> None:
        filesystem, root = self._remote
        for path in sorted(local.rglob("*"), key=lambda path: (path == local / last, path)):
            if path.is_file():
                name = f"{folder}/{path.relative_to(local).as_posix()}"
                with self.failures(name, writing=True):
                    filesystem.put_file(str(path), f"{root}/{name}")


Files = Store  # the name that programs of 0.1.0 import, including those that its commands send


def _sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # merged into another file since it was listed
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
    return sizes


def _space(folder: Path | None, error: OSError) -> str:
    """Describe how full the disk of a folder is."""
    place = folder
    while place and not place.is_mount() and place != place.parent:
        place = place.parent
    if place is None or error.errno != errno.ENOSPC:
        return str(error.strerror)
    usage = shutil.disk_usage(place)
    return (
        f"{error.strerror} on the file system at {place} ({usage.free:,} of {usage.total:,} bytes are free)"
    )


def _write_temporary(path: Path, data: bytes) -> Path:
    """A fsynced file next to `path` that list() does not show."""
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
