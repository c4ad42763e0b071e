"""Trees of bundles under their digests, whole or not at all.

    a folder -> a copy of its tree beside the place, checked -> renamed to cache_dir/DIGEST

    DIGEST/       the tree           DIGEST.lock  held by who makes it
    DIGEST.json   its files          DIGEST.tree  of a manifest: the digest of its tree
    new/          what is being made

A copy is checked each time it is used: one whose files are not what they were is made again. Files that
models added do not count, for a runner may be at work in it. Does not know where a tree comes from.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from modelops_dask.bundle import tree
from modelops_dask.bundle.ignore import DIGEST_RULE
from modelops_dask.errors import BadInput
from modelops_dask.scratch import own_folder

logger = logging.getLogger("distributed.modelops.bundle")  # below `distributed`, whose messages Dask shows


MOST_NAMES = 5  # of files, in a message
Stamp = tuple[int, int, int, int, int]
Stamps = dict[str, Stamp | None]  # by the file's name in the tree


@dataclass(frozen=True)
class Cache:
    """A folder of trees; many processes may share it."""

    folder: Path

    def find(self, digest: str) -> tuple[Path, Stamps] | None:
        """Return the tree of a digest and the stamps of its files; None if it is missing or was changed."""
        path = self._path(digest)
        if not path.is_dir():
            return None
        if (stamps := _check(path, digest)) is not None:
            return path, stamps
        with FileLock(f"{path}.lock"):  # it may have been about to be replaced
            stamps = _check(path, digest)
        return None if stamps is None else (path, stamps)

    def keep(self, source: Path, files: Sequence[PurePosixPath], digest: str) -> tuple[Path, Stamps]:
        """Copy files of a folder into the cache, unless their tree is there; return what find() returns.

        Raises BadInput, OSError.
        """
        path = self._path(digest)
        if tree_and_stamps := self.find(digest):
            return tree_and_stamps
        with FileLock(f"{path}.lock"):
            if (stamps := _check(path, digest)) is not None:
                return path, stamps
            if path.exists():
                names = ", ".join(find_damaged(path)[:MOST_NAMES]) or "its list of files"
                logger.warning("bundle %s: its copy in the cache was changed (%s); made again", digest, names)
            with self.new_folder() as scratch:
                stamps = _copy(source, files, path, digest, scratch)
        return path, stamps

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A temporary folder on the disk of the cache, in which a tree is made."""
        with own_folder(self.folder / "new") as scratch:
            yield scratch

    def lock(self, digest: str) -> FileLock:
        """The lock of whoever fetches this digest: others wait for it. It is not the lock of the tree."""
        return FileLock(f"{self._path(digest)}.fetch.lock")

    def tree_of(self, manifest: str) -> str:
        """The digest of the tree that a manifest's digest was found to mean; "" if it is not known."""
        with suppress(OSError, ValueError):
            text = self._path(manifest).with_suffix(".tree").read_text("ascii")
            return text if re.fullmatch("sha256:[0-9a-f]{64}", text) else ""
        return ""

    def note(self, manifest: str, digest: str) -> None:
        """Remember for tree_of() which tree a manifest means."""
        with self.new_folder() as scratch:
            (scratch / "tree").write_text(digest, "ascii")
            (scratch / "tree").replace(self._path(manifest).with_suffix(".tree"))

    def _path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file is written to; None: there is no such file.

    The last of it, the time of the last change, moves also when a hard link is made or removed. Unlike the
    time of the last write it cannot be set back.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_ctime_ns


def list_contents(folder: Path, digest_rule: int = DIGEST_RULE) -> list[PurePosixPath]:
    """List the files of a bundle: of a tree in the cache those that were copied, else tree.list_files()."""
    if len(folder.name) == 64 and _listing(folder).is_file():
        return read_listing(folder)
    return tree.list_files(folder, digest_rule)


def _check(path: Path, digest: str) -> Stamps | None:
    """Return the stamps of a tree's files if the tree has this digest, else None."""
    with suppress(OSError, ValueError):
        names = read_listing(path)
        stamps = {str(name): stamp_of(path / name) for name in names}  # before: a later write then shows
        if tree.digest_of(path, names) == digest:
            return stamps
    return None


def read_listing(path: Path) -> list[PurePosixPath]:
    """List the files of a tree in the cache that were copied, without those that models added later."""
    return [PurePosixPath(name) for name in json.loads(_listing(path).read_text("utf-8"))]


def read_digests(path: Path) -> dict[str, str]:
    """The files of a tree in the cache, each with a digest of kind, name and content. OSError, ValueError."""
    digests = json.loads(_listing(path).read_text("utf-8"))
    if isinstance(digests, dict):
        return digests
    return {name: tree.digest_of(path, [PurePosixPath(name)]) for name in digests}  # of 0.1.0: names alone


def find_differing(path: Path, names: Iterable[str], digest: str) -> list[str]:
    """Return those of `names` whose content is not what was copied; all of them if that cannot be known."""
    names = list(names)
    with suppress(OSError, ValueError):
        digests = json.loads(_listing(path).read_text("utf-8")) if _listing(path).is_file() else []
        if isinstance(digests, dict):
            return [name for name in names if _digest_or_none(path, name) != digests.get(name)]
        if tree.digest_of(path, list_contents(path)) == digest:
            return []
    return names


def _digest_or_none(path: Path, name: str) -> str | None:
    with suppress(OSError):
        return tree.digest_of(path, [PurePosixPath(name)])
    return None


def find_damaged(path: Path) -> list[str]:
    """Return the files of a tree in the cache that were changed since; [] if that cannot be known."""
    names = []
    with suppress(OSError, ValueError, AttributeError):
        for name, digest in json.loads(_listing(path).read_text("utf-8")).items():
            try:
                same = tree.digest_of(path, [PurePosixPath(name)]) == digest
            except OSError:
                same = False
            names += [] if same else [name]
    return names


def _listing(path: Path) -> Path:
    """Beside a tree: the files that were copied, each name with a digest. 0.1.0 wrote names alone."""
    return path.with_name(f"{path.name}.json")


def _copy(source: Path, files: Sequence[PurePosixPath], path: Path, digest: str, scratch: Path) -> Stamps:
    """Copy files into scratch, check it, and rename: a reader never sees half of one."""
    copy = scratch / "tree"
    copy.mkdir()
    for relative in files:
        target = copy / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(0o755 if (source / relative).stat().st_mode & 0o100 else 0o644)
    for relative in files:
        if (copy / relative).is_symlink():
            tree.check_link(copy, relative)  # one that leaves and comes back by the source's name
    stamps = {str(relative): stamp_of(copy / relative) for relative in files}
    if tree.digest_of(copy, files) != digest:
        raise BadInput(f"bundle {source} changed while it was copied; try again")
    listing = scratch / "listing"
    digests = {str(relative): tree.digest_of(copy, [relative]) for relative in files}
    listing.write_text(json.dumps(digests), "utf-8")
    if path.exists():
        path.rename(scratch / "old")
    listing.replace(_listing(path))
    copy.rename(path)
    return stamps
