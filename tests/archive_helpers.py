"""Archives made in code, good and hostile ones, in every form that bundles come in."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import zstandard

FORMS = ("zip", "tar", "tar.gz", "tar.zst")


def member(name: str, data: bytes = b"", **more) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of a tar file; `more` are attributes of the TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for info, data in members:
            packed.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zipped(entries: Iterable[tuple[str, bytes, int]]) -> bytes:
    """A zip file of names, contents and Unix modes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.orig_filename = info.filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, data)
    return stream.getvalue()


def pack(folder: Path, form: str, top: str = "") -> bytes:
    """A folder's files and links as an archive, below `top` if it is given."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    names = [f"{top}/{path.relative_to(folder)}".lstrip("/") for path in paths]
    if form == "zip":
        return zipped(
            (name, str(path.readlink()).encode(), stat.S_IFLNK | 0o777)
            if path.is_symlink()
            else (name, path.read_bytes(), path.stat().st_mode)
            for name, path in zip(names, paths, strict=True)
        )
    plain = tar(
        member(name, type=tarfile.SYMTYPE, linkname=str(path.readlink()))
        if path.is_symlink()
        else member(name, path.read_bytes(), mode=path.stat().st_mode & 0o777)
        for name, path in zip(names, paths, strict=True)
    )
    if form == "tar.gz":
        return gzip.compress(plain)
    return zstandard.compress(plain) if form == "tar.zst" else plain
