"""A bundle: the folder that holds a model, known by the digest of what is in it.

    reference -> folder | archive by URL | artifact of a registry -> tree -> digest -> a copy in the cache

reference.py reads the text, archive.py and artifact.py get what is elsewhere, unpack.py writes it, tree.py
says what counts, cache.py keeps it. Does not install or import anything: venv.py and the runner do.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from modelops_dask import metrics
from modelops_dask.bundle.cache import Cache, Stamps, changes, contents
from modelops_dask.bundle.failed import FetchFailed
from modelops_dask.bundle.reference import Reference, parse
from modelops_dask.bundle.tree import digest, digest_of, find, is_bundle
from modelops_dask.bundle.unpack import Refused, Unpacking, unpack_archive
from modelops_dask.errors import BadInput

__all__ = ["Bundle", "FetchFailed", "changes", "digest", "fetch", "find"]


@dataclass(frozen=True)
class Bundle:
    """A tree in the cache and its digest, "sha256:" and 64 hexadecimal digits.

    `source` is the reference by which another machine gets the same tree, "" if there is only the path.
    `packages` is the list that its study installs, in the form of a requirements file; None: each machine
    chooses for itself.
    `origin` is the folder or archive, on this machine, that the tree was copied from, if any. `stamps` are
    those of its files when they were checked, on this machine; empty: not known.
    """

    path: Path
    digest: str
    source: str = field(default="", compare=False, repr=False)
    packages: str | None = field(default=None, repr=False)
    origin: str = field(default="", compare=False, repr=False)
    stamps: Stamps = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "stamps": {}}  # of no use elsewhere, and there may be many


def fetch(reference: str, cache_dir: Path, expected: str = "") -> Bundle:
    """The bundle in the cache that a reference means; fetched if it is not there.

    `expected` is the digest that its tree must have, "" for any. With it, or with a digest in the reference,
    a tree in the cache is enough and nothing is asked; of many callers one fetches, and the others wait.
    Without either, a URL or a tag is asked anew each time. A copy whose files are not what they were is made
    again, and the log says so. Raises FetchFailed, BadInput.
    """
    asked, cache = parse(reference), Cache(cache_dir)
    with _failures(asked):
        cache_dir.mkdir(parents=True, exist_ok=True)
        if asked.kind == "artifact" and not (asked.digest or expected):
            from modelops_dask.bundle import artifact

            asked = artifact.pinned(asked)
        found = None if _is_folder(asked) and not expected else _known(asked, cache, expected)
        metrics.count("cache_lookups", "bundle", "hit" if found else "miss")
        if not found:
            key = asked.digest or expected
            with cache.lock(key) if key else nullcontext():
                found = _fetched(asked, cache, expected)
    return found


def _is_folder(asked: Reference) -> bool:
    return asked.kind == "path" and Path(asked.where).expanduser().is_dir()


def _known(asked: Reference, cache: Cache, expected: str) -> Bundle | None:
    wanted = expected or cache.tree_of(asked.digest) or asked.digest
    found = cache.held(wanted) if wanted else None
    return _bundle(asked, wanted, *found) if found else None


def _bundle(asked: Reference, digest: str, path: Path, stamps: Stamps) -> Bundle:
    source = asked.text() if asked.kind in ("url", "artifact") else ""
    origin = str(Path(asked.where).expanduser().absolute()) if asked.kind == "path" else ""
    return Bundle(path, digest, source, origin=origin, stamps=stamps)


def _fetched(asked: Reference, cache: Cache, expected: str) -> Bundle:
    """Get a tree from where it is; another process may have done so by now."""
    if asked.kind == "digest":
        raise FetchFailed(
            str(asked),
            f"not in {cache.folder}, or changed there; name its folder, a URL, or HOST/REPOSITORY@sha256:…",
        )
    if _is_folder(asked):
        return _kept(Path(asked.where).expanduser(), asked, cache, expected)
    if found := _known(asked, cache, expected):
        return found
    with cache.making() as scratch:
        (scratch / "tree").mkdir()
        into = Unpacking(scratch / "tree")
        if asked.kind == "artifact":
            from modelops_dask.bundle import artifact

            asked = asked if asked.digest else artifact.pinned(asked)
            artifact.pull(asked, scratch, into)
        else:
            from modelops_dask.bundle import archive

            unpack_archive(archive.get(asked, scratch), into, scratch)
        into.finish()
        top = _top(scratch / "tree")
        try:
            return _kept(top, asked, cache, expected)
        except FetchFailed:
            raise
        except BadInput as error:  # names a place that is about to go
            raise FetchFailed(str(asked), str(error).replace(f"{top}/", "")) from None


def _top(folder: Path) -> Path:
    """What was unpacked, or the one folder in it: many archives have such a folder of their own."""
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() and not is_bundle(folder):
        return inside[0]
    return folder


def _kept(folder: Path, asked: Reference, cache: Cache, expected: str) -> Bundle:
    found = digest_of(folder, contents(folder))
    wanted = expected or ("" if asked.kind == "artifact" else asked.digest)
    if wanted not in ("", found):
        raise FetchFailed(str(asked), f"its tree is {found}, and {wanted} is needed")
    path, stamps = cache.keep(folder, found)
    if asked.kind == "artifact":
        cache.note(asked.digest, found)
    return _bundle(asked, found, path, stamps)


@contextmanager
def _failures(asked: Reference) -> Iterator[None]:
    """What unpacking and the disk have to say, as FetchFailed."""
    try:
        yield
    except Refused as refused:
        raise FetchFailed(str(asked), str(refused)) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise FetchFailed(str(asked), f"{place}{error.strerror or error}") from None
