"""A bundle: the folder of a model, identified by the digest of its contents.

    reference -> folder | archive by URL | artifact of a registry -> tree -> digest -> a copy in the cache

reference.py parses the text, archive.py and artifact.py download, unpack.py writes the files, tree.py decides
which files count, cache.py stores them. Nothing is installed or imported here: venv.py and the runner do
that.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelops_dask import metrics
from modelops_dask.bundle.cache import Cache, Stamps, list_contents
from modelops_dask.bundle.failed import FetchFailed
from modelops_dask.bundle.ignore import DIGEST_RULE, DIGEST_RULES
from modelops_dask.bundle.reference import Reference, parse
from modelops_dask.bundle.tree import digest, digest_of, find, is_bundle
from modelops_dask.bundle.unpack import Unpacking, UnpackRefused, unpack_archive
from modelops_dask.errors import BadInput

__all__ = ["Bundle", "FetchFailed", "digest", "fetch", "find"]


@dataclass(frozen=True)
class Bundle:
    """A tree in the cache and its digest, "sha256:" and 64 hexadecimal digits.

    Attributes:
        source: The reference by which another machine gets the same tree; "" if there is only the path.
        program: The program that its study runs instead of a Python function (plan/program.py); "" for none.
        packages: The packages that its study installs, as a requirements file; None: each machine chooses.
        python: The Python version that its study runs with, such as 3.12; "": any suitable version.
        reseeds: Whether generators that the model keeps at module level are seeded before each task, unless
            its study started without that.
        origin: The folder or archive on this machine that the tree was copied from, if any.
        stamps: The stamps of its files when they were checked on this machine; empty if not known.
        digest_rule: The rule that chose its files (ignore.py).
    """

    path: Path
    digest: str
    source: str = field(default="", compare=False, repr=False)
    packages: str | None = field(default=None, repr=False)
    python: str = field(default="", repr=False)
    reseeds: bool = field(default=True, repr=False)
    program: str = field(default="", repr=False)
    origin: str = field(default="", compare=False, repr=False)
    stamps: Stamps = field(default_factory=dict, compare=False, repr=False)
    digest_rule: int = field(default=DIGEST_RULE, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "stamps": {}}  # useless on other machines, and there may be many


def fetch(reference: str, cache_dir: Path, expected: str = "", digest_rule: int = DIGEST_RULE) -> Bundle:
    """Return the bundle that a reference means, from the cache or newly fetched.

    With a digest, expected or in the reference, a tree in the cache is enough and no server is contacted;
    among several callers one fetches while the others wait. Without a digest, a URL or a tag is requested
    each time. A cached copy whose files have changed is replaced, and the log reports it.

    Args:
        expected: The digest that the tree must have; "" for any. It is compared under every digest rule.
        digest_rule: The rule that chooses the files if no digest is expected.

    Raises:
        FetchFailed: The bundle cannot be fetched or does not have the digest.
        BadInput: The reference or the bundle is unusable.
    """
    parsed_reference, cache = parse(reference), Cache(cache_dir)
    with _failures(parsed_reference):
        cache_dir.mkdir(parents=True, exist_ok=True)
        if parsed_reference.kind == "artifact" and not (parsed_reference.digest or expected):
            from modelops_dask.bundle import artifact

            parsed_reference = artifact.pin(parsed_reference)
        # The contents of a folder are known only after reading it. The cache has trees of the current rule.
        is_unknown = not expected and (_is_folder(parsed_reference) or digest_rule != DIGEST_RULE)
        bundle = None if is_unknown else _find_cached(parsed_reference, cache, expected)
        metrics.count("cache_lookups", "bundle", "hit" if bundle else "miss")
        if not bundle:
            key = parsed_reference.digest or expected
            with cache.lock(key) if key else nullcontext():
                bundle = _fetch_tree(parsed_reference, cache, expected, digest_rule)
    return bundle


def _is_folder(reference: Reference) -> bool:
    return reference.kind == "path" and Path(reference.location).expanduser().is_dir()


def _find_cached(reference: Reference, cache: Cache, expected: str) -> Bundle | None:
    tree_digest = expected or cache.tree_of(reference.digest) or reference.digest
    tree = cache.find(tree_digest) if tree_digest else None
    return _make_bundle(reference, tree_digest, *tree) if tree else None


def _make_bundle(reference: Reference, digest: str, path: Path, stamps: Stamps) -> Bundle:
    source = reference.text() if reference.kind in ("url", "artifact") else ""
    origin = str(Path(reference.location).expanduser().absolute()) if reference.kind == "path" else ""
    return Bundle(path, digest, source, origin=origin, stamps=stamps)


def _fetch_tree(reference: Reference, cache: Cache, expected: str, digest_rule: int) -> Bundle:
    """Fetch a tree, unless another process has already fetched it."""
    if reference.kind == "digest":
        raise FetchFailed(
            str(reference),
            f"missing or changed in {cache.folder}; name its folder, a URL, or HOST/REPOSITORY@sha256:…",
        )
    if _is_folder(reference):
        return _keep(Path(reference.location).expanduser(), reference, cache, expected, digest_rule)
    if digest_rule == DIGEST_RULE and (bundle := _find_cached(reference, cache, expected)):
        return bundle
    with cache.new_folder() as scratch:
        (scratch / "tree").mkdir()
        into = Unpacking(scratch / "tree")
        if reference.kind == "artifact":
            from modelops_dask.bundle import artifact

            reference = reference if reference.digest else artifact.pin(reference)
            artifact.pull(reference, scratch, into)
        else:
            from modelops_dask.bundle import archive

            unpack_archive(archive.get(reference, scratch), into, scratch)
        into.finish()
        top = _top(scratch / "tree", expected or reference.digest)
        try:
            return _keep(top, reference, cache, expected, digest_rule)
        except FetchFailed:
            raise
        except BadInput as error:  # it names a temporary folder
            raise FetchFailed(str(reference), str(error).replace(f"{top}/", "")) from None


def _top(folder: Path, expected: str) -> Path:
    """The unpacked folder, or the single folder in it, because many archives contain one.

    A bundle may consist of a single package, so the expected digest, if any, decides.
    """
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    if len(inside) != 1 or not inside[0].is_dir() or inside[0].is_symlink() or is_bundle(folder):
        return folder
    return folder if expected and expected in (digest(folder, rule) for rule in DIGEST_RULES) else inside[0]


def _keep(folder: Path, reference: Reference, cache: Cache, expected: str, digest_rule: int) -> Bundle:
    needed_digest = expected or ("" if reference.kind == "artifact" else reference.digest)
    digests = {}
    for rule in DIGEST_RULES if needed_digest else (digest_rule,):
        files = list_contents(folder, rule)
        digests[rule] = tree_digest = digest_of(folder, files)
        if needed_digest in ("", tree_digest):
            break
    else:
        raise FetchFailed(
            str(reference), f"its tree has digest {digests[DIGEST_RULE]}, expected {needed_digest}"
        )
    path, stamps = cache.keep(folder, files, tree_digest)
    if reference.kind == "artifact" and rule == DIGEST_RULE:
        cache.note(reference.digest, tree_digest)
    return replace(_make_bundle(reference, tree_digest, path, stamps), digest_rule=rule)


@contextmanager
def _failures(reference: Reference) -> Iterator[None]:
    """Turn errors of unpacking and of the disk into FetchFailed."""
    try:
        yield
    except UnpackRefused as refused:
        raise FetchFailed(str(reference), str(refused)) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise FetchFailed(str(reference), f"{place}{error.strerror or error}") from None
