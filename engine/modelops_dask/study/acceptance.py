"""Continue a store with a bundle whose changes cannot affect a result.

    Bundle, store -> begin_with() -> the store's own bundle: the plan
                                 -> another: compare_bundle() -> all changes harmless: accepted/DIGEST.json, a
                                                                 line, the plan; else OtherStudy

The digest of a bundle does not change. A store keeps the list of the files of each of its bundles in
bundles/DIGEST.json; if it lacks the list, the bundle itself is searched in the cache and in the store. Each
new bundle is compared with all bundles that the store has accepted.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelops_dask import bundle as bundles
from modelops_dask.bundle import Bundle
from modelops_dask.bundle.ignore import IGNORE_FILE
from modelops_dask.bundle.listing import (
    Difference,
    Listing,
    find_changes,
    is_of_the_engine,
    may_be_study,
    parse_listing,
    read_listing,
)
from modelops_dask.bundle.readers import Readers, list_values
from modelops_dask.errors import MopsError
from modelops_dask.plan.plan import Plan
from modelops_dask.plan.spec import Spec, load
from modelops_dask.store.bundles import FOLDER, find_bundle
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy, accept, encode_json, read_json, read_study
from modelops_dask.store.study import OtherStudy, begin


def begin_with(bundle: Bundle, store: Store, spec: Spec, note: Callable[[str], None]) -> Plan:
    """Begin or continue a study with a bundle; `note` receives a message if other files do not count.

    The bundle must have the digest by the store's rule: apply_digest_rule(). Raises the errors of
    study.begin(); OtherStudy has the changes of the bundle.
    """
    try:
        plan = begin(store, spec, bundle.digest, note, digest_rule=bundle.digest_rule)
    except OtherStudy as error:
        if error.kind != "bundle":
            raise
        changes = explain(error, store, bundle, spec)
        if not are_harmless(changes) or spec.entrypoint != read_study(store).entrypoint:
            raise
        accept(store, bundle.digest, list(map(str, changes)))
        note(
            f"{store.location()} continues: its results also count for this bundle, because no file that "
            "the model reads "
            f"changed: {shorten(changes)}"
        )
        plan = begin(store, spec, bundle.digest, note)
    keep_listing(store, bundle)
    return plan


def apply_digest_rule(store: Store, bundle: Bundle) -> Bundle:
    """Return the bundle with its digest by the rule of a store: a study keeps the rule that it started with.

    Raises BadInput for a rule of a later version, FetchFailed if the bundle's source no longer has it.
    """
    try:
        study = read_study(store)
    except NoStudy:
        return bundle
    source = bundle.origin or bundle.source
    has_digest = bundle.digest_rule == study.digest_rule or bundle.digest in study.bundles
    if has_digest or not source or not _has_ignore_file(bundle):
        return replace(bundle, digest_rule=study.digest_rule)
    fetched = bundles.fetch(source, bundle.path.parent, digest_rule=study.digest_rule)
    return replace(
        bundle, path=fetched.path, digest=fetched.digest, stamps=fetched.stamps, digest_rule=study.digest_rule
    )


def _has_ignore_file(bundle: Bundle) -> bool:
    """Whether a bundle has its own patterns; a copy lacks them if they exclude their own file."""
    return any((Path(folder) / IGNORE_FILE).is_file() for folder in (bundle.path, bundle.origin) if folder)


def explain(error: OtherStudy, store: Store, bundle: Bundle, spec: Spec) -> list[Difference]:
    """Compare like compare_bundle(), and add to the error what changed and what to do about it."""
    changes = compare_bundle(store, bundle, spec)
    error.changes = list(map(str, changes))
    if not changes:
        error.advice = (
            "The files of the two cannot be compared: this machine's cache does not have the earlier bundle. "
            "If you still have it, `mops-helm study plan` with that bundle puts it into the cache."
        )
    elif not any(is_of_the_engine(change.file) for change in changes if not change.is_harmless):
        error.advice = (
            f"List files that the model does not read in {IGNORE_FILE}: then they do not count, and the "
            "same command continues."
        )
    return changes


def compare_bundle(store: Store, bundle: Bundle, spec: Spec) -> list[Difference]:
    """Compare a bundle with those that a store has accepted.

    Returns:
        The changes from the bundle with the fewest changes that are not harmless; [] if none is known.
    """
    own = list_files(bundle)
    readers = Readers(bundle, own.files, own.studies, _list_values(store, spec))
    known = (_read_listing(store, digest, bundle) for digest in read_study(store).bundles)
    compared = [find_changes(before, own, bundle, readers) for before in known if before]
    return min(filter(None, compared), key=_n_harmful, default=[])


def _list_values(store: Store, spec: Spec) -> set[str]:
    """The texts that the study passes to its model now, and passed at its last run: they may name files."""
    values = list_values(spec.source)
    with suppress(MopsError, FileNotFoundError):
        last: Any = read_json(store, "spec.json")
        values |= list_values(last["spec"])
    return values


def compare_cached(bundle: Bundle, digest: str, spec: Spec) -> list[Difference]:
    """Compare a bundle with an earlier one; [] if that is not in this machine's cache."""
    try:
        before = list_files(bundles.fetch(digest, bundle.path.parent, digest))
    except (MopsError, OSError, ValueError):
        return []
    own = list_files(bundle)
    readers = Readers(bundle, own.files, own.studies, list_values(spec.source))
    return find_changes(before, own, bundle, readers)


def _n_harmful(changes: Sequence[Difference]) -> int:
    return sum(not change.is_harmless for change in changes)


def are_harmless(changes: Sequence[Difference]) -> bool:
    """Whether there are changes, and none of them can change a result."""
    return bool(changes) and not _n_harmful(changes)


def shorten(changes: Sequence[Difference]) -> str:
    """A description of the first changes."""
    remainder = f" and {len(changes) - 10:,} more" if len(changes) > 10 else ""
    return f"{', '.join(map(str, changes[:10]))}{remainder}"


def keep_listing(store: Store, bundle: Bundle) -> None:
    """Store the list of a bundle's files, unless it exists."""
    file = _file(bundle.digest)
    if file.rpartition("/")[2] not in store.list(FOLDER):
        store.create(file, encode_json(list_files(bundle).as_json()))


def list_files(bundle: Bundle) -> Listing:
    """The files of a bundle, and which of them are studies that can be run."""
    listing = read_listing(bundle, ())
    studies = [name for name in listing.files if _is_study(bundle, name)]
    return Listing(listing.files, frozenset(studies))


def _is_study(bundle: Bundle, name: str) -> bool:
    with suppress(MopsError, OSError):
        return may_be_study(bundle.path / name) and bool(load(bundle.path / name))
    return False


def _read_listing(store: Store, digest: str, bundle: Bundle) -> Listing | None:
    """The files of an earlier bundle: from the store's list, otherwise from the bundle if available."""
    with suppress(FileNotFoundError):
        return parse_listing(store.read(_file(digest)))
    with suppress(MopsError, OSError, ValueError):
        return list_files(bundles.fetch(find_bundle(store, digest) or digest, bundle.path.parent, digest))
    return None


def _file(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.json"
