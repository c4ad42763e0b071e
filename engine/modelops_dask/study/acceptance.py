"""A store goes on with a bundle that differs from its own in nothing that can change a result.

Bundle, store -> begin_with() -> the store's own bundle: the plan
                             -> another: compare_bundle() -> all changes are harmless: accepted/DIGEST.json, a
                                                             line, the plan; else OtherStudy

The digest of a bundle stays what it is. A store keeps the list of the files of each of its bundles in
bundles/DIGEST.json; of a store that does not, the bundle itself is looked for, in the cache and in the store.
Each new bundle is compared with all that the store has accepted.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from modelops_dask import bundle as bundles
from modelops_dask.bundle import Bundle
from modelops_dask.bundle.ignore import IGNORE_FILE
from modelops_dask.bundle.listing import (
    Difference,
    Listing,
    find_changes,
    may_be_study,
    parse_listing,
    read_listing,
)
from modelops_dask.errors import MopsError
from modelops_dask.plan.plan import Plan
from modelops_dask.plan.spec import Spec, load
from modelops_dask.store.bundles import FOLDER, find_bundle
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy, accept, encode_json, read_study
from modelops_dask.store.study import OtherStudy, begin


def begin_with(bundle: Bundle, store: Store, spec: Spec, note: Callable[[str], None]) -> Plan:
    """Begin a study with a bundle, or go on with it; `note` is told that other files do not count.

    The bundle must have the digest by the store's rule: apply_digest_rule(). Raises as study.begin();
    OtherStudy has the changes of the bundle.
    """
    try:
        plan = begin(store, spec, bundle.digest, note, digest_rule=bundle.digest_rule)
    except OtherStudy as error:
        if error.kind != "bundle":
            raise
        changes = compare_bundle(store, bundle)
        error.changes = list(map(str, changes))
        if not are_harmless(changes) or spec.entrypoint != read_study(store).entrypoint:
            raise
        accept(store, bundle.digest, error.changes)
        note(
            f"{store.location()} goes on: its results count for this bundle too, which differs from the one "
            f"before in nothing that the model reads: {shorten(changes)}"
        )
        plan = begin(store, spec, bundle.digest, note)
    keep_listing(store, bundle)
    return plan


def apply_digest_rule(store: Store, bundle: Bundle) -> Bundle:
    """Return the bundle with the digest that it has in a store: studies keep the rule that they began with.

    Raises BadInput for a rule of a later version, FetchFailed where the bundle is gone from its source.
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
    """Whether a bundle has patterns of its own; a copy lacks them if they leave out their own file."""
    return any((Path(folder) / IGNORE_FILE).is_file() for folder in (bundle.path, bundle.origin) if folder)


def compare_bundle(store: Store, bundle: Bundle) -> list[Difference]:
    """Compare a bundle with those that a store has accepted.

    Returns:
        The changes since the one from which the fewest are not harmless; [] if nothing is known of any.
    """
    own = list_files(bundle)
    known = (_read_listing(store, digest, bundle) for digest in read_study(store).bundles)
    compared = [find_changes(before, own, bundle) for before in known if before]
    return min(filter(None, compared), key=_n_harmful, default=[])


def compare_cached(bundle: Bundle, digest: str) -> list[Difference]:
    """Compare a bundle with an earlier one; [] if this machine's cache does not have that."""
    try:
        before = list_files(bundles.fetch(digest, bundle.path.parent, digest))
    except (MopsError, OSError, ValueError):
        return []
    return find_changes(before, list_files(bundle), bundle)


def _n_harmful(changes: Sequence[Difference]) -> int:
    return sum(not change.is_harmless for change in changes)


def are_harmless(changes: Sequence[Difference]) -> bool:
    """Whether there are changes, and none of them can change a result."""
    return bool(changes) and not _n_harmful(changes)


def shorten(changes: Sequence[Difference]) -> str:
    """The first changes, in words."""
    remainder = f" and {len(changes) - 10:,} more" if len(changes) > 10 else ""
    return f"{', '.join(map(str, changes[:10]))}{remainder}"


def keep_listing(store: Store, bundle: Bundle) -> None:
    """Keep the list of a bundle's files in the store, unless it is there."""
    file = _file(bundle.digest)
    if file.rpartition("/")[2] not in store.list(FOLDER):
        store.create(file, encode_json(list_files(bundle).as_json()))


def list_files(bundle: Bundle) -> Listing:
    """The files of a bundle, and which of them are studies that can be run as they are."""
    listing = read_listing(bundle, ())
    studies = [name for name in listing.files if _is_study(bundle, name)]
    return Listing(listing.files, frozenset(studies))


def _is_study(bundle: Bundle, name: str) -> bool:
    with suppress(MopsError, OSError):
        return may_be_study(bundle.path / name) and bool(load(bundle.path / name))
    return False


def _read_listing(store: Store, digest: str, bundle: Bundle) -> Listing | None:
    """The files of an earlier bundle: by the store's list, else by the bundle, if it can be had."""
    with suppress(FileNotFoundError):
        return parse_listing(store.read(_file(digest)))
    with suppress(MopsError, OSError, ValueError):
        return list_files(bundles.fetch(find_bundle(store, digest) or digest, bundle.path.parent, digest))
    return None


def _file(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.json"
