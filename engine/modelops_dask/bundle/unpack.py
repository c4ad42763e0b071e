"""Unpack archives from untrusted sources into one empty folder, within limits, or fail.

    archive (zip, tar, tar.gz, tar.zst) -> its entries -> Unpacking, which writes them -> folder

These are refused: absolute paths, "..", links that leave the tree, devices, names that appear twice or differ
only in case, and more than MAX_FILES or MAX_BYTES, counted while writing, because headers can lie. The rules
are here instead of tarfile.data_filter, which Python 3.11.0 to 3.11.3 lack and which covers neither zip files
nor artifacts. Nothing is cleaned up: the folder belongs to the caller.
"""

import errno
import gzip
import io
import os
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

MAX_FILES = 100_000
MAX_BYTES = 4 * 1024**3
MAX_NAME = 512  # characters
MAX_HEADER_BYTES = 64 * 1024**2  # the limit of memory that tarfile or zipfile may request at one time
CHUNK_BYTES = 1024**2


class Readable(Protocol):
    """An object that returns as many bytes as requested."""

    def read(self, size: int, /) -> bytes: ...


class UnpackRefused(ValueError):
    """An entry that must not or cannot be unpacked; str() says what and why."""


def unpack_archive(archive: Path, into: "Unpacking", scratch: Path) -> None:
    """Write the entries of an archive, whose format is detected from its first bytes. Raises UnpackRefused,
    OSError.

    A tar file is first decompressed into scratch.
    """
    with archive.open("rb") as stream:
        magic = stream.read(4)
    with _reading():
        if magic[:2] == b"PK":
            _zip(archive, into)
        elif magic == b"\x28\xb5\x2f\xfd":
            import zstandard

            with archive.open("rb") as stream, (scratch / "tar").open("wb") as plain:
                _decompress(
                    zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True), plain
                )
            _tar(scratch / "tar", into)
        elif magic[:2] == b"\x1f\x8b":
            with gzip.open(archive) as reader, (scratch / "tar").open("wb") as plain:
                _decompress(reader, plain)
            _tar(scratch / "tar", into)
        else:
            _tar(archive, into)


class Unpacking:
    """An empty folder that is filled with files of untrusted names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kinds: dict[str, str] = {}  # name -> folder, file, link
        self._names: dict[str, str] = {}  # the name on a case-insensitive file system -> name
        self._links: dict[str, str] = {}
        self._bytes = 0

    def folder(self, name: str) -> None:
        """Create a folder if it does not exist. Raises UnpackRefused."""
        self._place(name, "folder")

    def file(self, name: str, stream: Readable, *, executable: bool = False) -> None:
        """Write a file from a stream. Raises UnpackRefused; OSError when there is no space."""
        path = self._place(name, "file")
        with path.open("xb") as target:
            for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
                self._bytes += len(chunk)
                if self._bytes > MAX_BYTES:
                    raise UnpackRefused(f"more than {MAX_BYTES:,} bytes when unpacked")
                target.write(chunk)
        path.chmod(0o755 if executable else 0o644)

    def copy(self, name: str, earlier: str) -> None:
        """Write a file again under another name: a hard link of a tar file. Raises UnpackRefused."""
        earlier = _normal(earlier)
        if self._kinds.get(earlier) != "file":
            raise UnpackRefused(
                f"{name!r}: a link to {earlier!r}, which is not an earlier file of the archive"
            )
        path = self._root / earlier
        with path.open("rb") as stream:
            self.file(name, stream, executable=os.access(path, os.X_OK))

    def link(self, name: str, target: str) -> None:
        """Remember a link; finish() creates it, so that nothing is ever written through a link.

        Raises UnpackRefused.
        """
        self._place(name, "link")
        if target.startswith("/") or len(target) > MAX_NAME or not target or "\0" in target:
            raise UnpackRefused(f"{name!r}: a link that points outside the bundle")
        self._links[_normal(name)] = target

    def finish(self) -> None:
        """Create the links. Raises UnpackRefused for a link that points outside the folder."""
        for name, target in self._links.items():
            (self._root / name).symlink_to(target)
        root = os.path.realpath(self._root)
        for name in self._links:
            if not Path(os.path.realpath(self._root / name)).is_relative_to(root):
                raise UnpackRefused(f"{name!r}: a link that points outside the bundle")

    def _place(self, name: str, kind: str) -> Path:
        """Return the path of an entry after creating its folders."""
        name = _normal(name)
        if not name:
            if kind == "folder":
                return self._root
            raise UnpackRefused(f"a {kind} without a name")
        path = PurePosixPath(name)
        for folder in (*reversed(path.parents[:-1]), path):
            self._claim(str(folder), kind if folder == path else "folder")
        return self._root / name

    def _claim(self, name: str, kind: str) -> None:
        earlier_kind = self._kinds.get(name)
        if earlier_kind == kind == "folder":
            return
        if earlier_kind:
            raise UnpackRefused(f"{name!r} appears twice")
        folded = unicodedata.normalize("NFC", name).casefold()
        if (other := self._names.setdefault(folded, name)) != name:
            raise UnpackRefused(f"{name!r} and {other!r} are the same name on some file systems")
        if len(self._kinds) >= MAX_FILES:
            raise UnpackRefused(f"more than {MAX_FILES:,} files and folders")
        self._kinds[name] = kind
        if kind == "folder":
            (self._root / name).mkdir()


def _normal(name: str) -> str:
    """Remove "." parts and trailing slashes from a name. Raises UnpackRefused if it points elsewhere."""
    if len(name) > MAX_NAME:
        raise UnpackRefused(f"{name[:40]!r}…: a name of more than {MAX_NAME} characters")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UnpackRefused(f"{name!r}: a name that is not UTF-8") from None
    if "\\" in name or any(unicodedata.category(character) == "Cc" for character in name):
        raise UnpackRefused(f"{name!r}: a backslash or control character in a name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise UnpackRefused(f"{name!r}: a path that points outside the bundle")
    return "/".join(parts)


class _Guarded(io.FileIO):
    """A file whose headers cannot fill the memory when they are read."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > MAX_HEADER_BYTES:
            raise UnpackRefused(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        return super().read(size)


@contextmanager
def _reading() -> Iterator[None]:
    """Turn errors of the libraries into UnpackRefused. All errors: the bytes are untrusted, and the libraries
    raise many.
    """
    try:
        yield
    except UnpackRefused:
        raise
    except OSError as error:
        # disk errors have one; gzip's do not, and EINVAL means a bad offset
        if error.errno not in (None, errno.EINVAL):
            raise
        raise UnpackRefused(f"the archive is incomplete or damaged: {error}") from None
    except Exception as error:
        raise UnpackRefused(
            f"the archive is incomplete or damaged: {str(error) or type(error).__name__}"
        ) from None


def _decompress(reader: Readable, plain: BinaryIO) -> None:
    left = MAX_BYTES + MAX_FILES * 2 * tarfile.BLOCKSIZE  # MAX_BYTES limits contents, without headers
    for chunk in iter(lambda: reader.read(CHUNK_BYTES), b""):
        left -= len(chunk)
        if left < 0:
            raise UnpackRefused(f"more than {MAX_BYTES:,} bytes when unpacked")
        plain.write(chunk)


def _tar(archive: Path, into: Unpacking) -> None:
    with _Guarded(archive) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
        for member in tar:
            if member.isdir():
                into.folder(member.name)
            elif member.issym():
                into.link(member.name, member.linkname)
            elif member.islnk():
                into.copy(member.name, member.linkname)
            elif member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None, "a regular file has contents"
                into.file(member.name, stream, executable=bool(member.mode & stat.S_IXUSR))
            else:
                raise UnpackRefused(f"{member.name!r}: not a file, folder or link")
        # tarfile treats damage in the middle of an archive as its end.
        raw.seek(tar.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise UnpackRefused(f"the archive is incomplete: its end is missing at byte {tar.offset:,}")


def _zip(archive: Path, into: Unpacking) -> None:
    with _Guarded(archive) as raw, zipfile.ZipFile(raw) as packed:
        for info in packed.infolist():
            name, mode = info.orig_filename, info.external_attr >> 16  # filename ends at a NUL
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnpackRefused(f"{name!r}: compressed by an uncommon method; write the zip with deflate")
            if info.is_dir() or stat.S_ISDIR(mode):
                into.folder(name)
                continue
            with packed.open(info) as stream:
                if stat.S_ISLNK(mode):
                    into.link(name, stream.read(MAX_NAME + 1).decode())
                elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                    into.file(name, stream, executable=bool(mode & stat.S_IXUSR))
                else:
                    raise UnpackRefused(f"{name!r}: not a file, folder or link")
