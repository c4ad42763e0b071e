"""Trees of bundles by digest, complete or absent.

    a folder -> a copy of its tree in new/, checked -> renamed to cache_dir/DIGEST

    DIGEST/       the tree           DIGEST.lock  held by the process that creates it
    DIGEST.json   its files          DIGEST.tree  for a manifest: the digest of its tree
    new/          trees in progress

A copy is checked each time it is used: if its files have changed, it is replaced. Files that models added do
not count, because a runner may be using the copy. This module does not know the origin of a tree.
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
from modelops_dask.bundle.ignore import DIGEST_RULE, IGNORE_FILE
from modelops_dask.errors import BadInput
from modelops_dask.scratch import own_folder

logger = logging.getLogger("distributed.modelops.bundle")  # below `distributed`, whose messages Dask shows


MOST_NAMES = 5  # files named in a message
Stamp = tuple[int, int, int, int, int]
Stamps = dict[str, Stamp | None]  # by the file's name in the tree


@dataclass(frozen=True)
class Cache:
    """A folder of trees that many processes may share."""

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
        """Copy files of a folder into the cache unless their tree is there; return the same as find().

        Raises BadInput, OSError.
        """
        path = self._path(digest)
        if tree_and_stamps := self.find(digest):
            if not _has_rules_of(path, source):
                with self.new_folder() as scratch:
                    _take_rules(path, source, scratch)
                tree_and_stamps = self.find(digest) or tree_and_stamps
            return tree_and_stamps
        with FileLock(f"{path}.lock"):
            if (stamps := _check(path, digest)) is not None:
                return path, stamps
            if path.exists():
                names = ", ".join(find_damaged(path)[:MOST_NAMES]) or "its list of files"
                logger.warning("bundle %s: its cached copy was changed (%s) and is replaced", digest, names)
            with self.new_folder() as scratch:
                stamps = _copy(source, files, path, digest, scratch)
        return path, stamps

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A temporary folder on the cache's disk in which a tree is created."""
        with own_folder(self.folder / "new") as scratch:
            yield scratch

    def lock(self, digest: str) -> FileLock:
        """The lock for fetching this digest: other processes wait for it. It is not the lock of the tree."""
        return FileLock(f"{self._path(digest)}.fetch.lock")

    def tree_of(self, manifest: str) -> str:
        """The digest of the tree that belongs to a manifest's digest; "" if it is not known."""
        with suppress(OSError, ValueError):
            text = self._path(manifest).with_suffix(".tree").read_text("ascii")
            return text if re.fullmatch("sha256:[0-9a-f]{64}", text) else ""
        return ""

    def note(self, manifest: str, digest: str) -> None:
        """Remember for tree_of() the tree of a manifest."""
        with self.new_folder() as scratch:
            (scratch / "tree").write_text(digest, "ascii")
            (scratch / "tree").replace(self._path(manifest).with_suffix(".tree"))

    def _path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def _has_rules_of(path: Path, source: Path) -> bool:
    """Whether a tree has the rules of another folder: the digest does not count them."""
    rules = [folder / IGNORE_FILE for folder in (path, source)]
    return rules[0].is_file() == rules[1].is_file() and (
        not rules[0].is_file() or rules[0].read_bytes() == rules[1].read_bytes()
    )


def _take_rules(path: Path, source: Path, scratch: Path) -> None:
    if (source / IGNORE_FILE).is_file():
        shutil.copyfile(source / IGNORE_FILE, scratch / "rules")
        (scratch / "rules").replace(path / IGNORE_FILE)
    else:
        (path / IGNORE_FILE).unlink(missing_ok=True)


def stamp_of(path: Path) -> Stamp | None:
    """Values that change when a file is written to; None if the file does not exist.

    The last one, the time of the last change, also changes when a hard link is created or removed. Unlike the
    time of the last write, it cannot be set back.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_ctime_ns


def list_contents(folder: Path, digest_rule: int = DIGEST_RULE) -> list[PurePosixPath]:
    """List the files of a bundle: for a tree in the cache the files that were copied, otherwise
    tree.list_files().
    """
    if len(folder.name) == 64 and _listing(folder).is_file():
        return read_listing(folder)
    return tree.list_files(folder, digest_rule)


def _check(path: Path, digest: str) -> Stamps | None:
    """Return the stamps of a tree's files if the tree has this digest, else None."""
    with suppress(OSError, ValueError):
        names = read_listing(path)
        # read before, so that a later write is noticed
        stamps = {str(name): stamp_of(path / name) for name in names}
        if tree.digest_of(path, names) == digest:
            return stamps
    return None


def read_listing(path: Path) -> list[PurePosixPath]:
    """List the files of a cached tree that were copied, without those that models added later."""
    return [PurePosixPath(name) for name in json.loads(_listing(path).read_text("utf-8"))]


def read_digests(path: Path) -> dict[str, str]:
    """The files of a cached tree, each with its digest. Raises OSError, ValueError."""
    digests = json.loads(_listing(path).read_text("utf-8"))
    if isinstance(digests, dict):
        return digests
    return {name: tree.digest_of(path, [PurePosixPath(name)]) for name in digests}  # 0.1.0 wrote names only


def find_differing(path: Path, names: Iterable[str], digest: str) -> list[str]:
    """Return those of `names` whose content differs from the copied one; all of them if that cannot be
    determined.
    """
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
    """Return the files of a cached tree that were changed later; [] if that cannot be determined."""
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
    """The list of copied files, next to a tree, each with a digest. 0.1.0 wrote names only."""
    return path.with_name(f"{path.name}.json")


def _copy(source: Path, files: Sequence[PurePosixPath], path: Path, digest: str, scratch: Path) -> Stamps:
    """Copy files into scratch, check them, and rename it: a reader never sees an incomplete tree."""
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
            tree.check_link(copy, relative)  # a link that leaves the folder and returns by the source's name
    stamps = {str(relative): stamp_of(copy / relative) for relative in files}
    if tree.digest_of(copy, files) != digest:
        raise BadInput(f"bundle {source} changed while it was being copied; try again")
    listing = scratch / "listing"
    digests = {str(relative): tree.digest_of(copy, [relative]) for relative in files}
    listing.write_text(json.dumps(digests), "utf-8")
    if path.exists():
        path.rename(scratch / "old")
    listing.replace(_listing(path))
    copy.rename(path)
    return stamps
