"""The bundle of a study, stored with it, so that the store is self-contained.

archive -> bundles/DIGEST.tar.gz, put-if-absent -> its path or URL, from which each worker fetches it once

The digest is that of the tree, which the unpacking process checks. Packing and unpacking are done in bundle/.
"""

from modelops_dask.store.files import Store

FOLDER = "bundles"


def keep(store: Store, digest: str, archive: bytes) -> str:
    """Put the archive of a bundle into the store if it is missing, and return its path or URL."""
    store.create(_name(digest), archive)
    return store.location(_name(digest))


def find_bundle(store: Store, digest: str) -> str:
    """The path or URL of a bundle in the store; "" if the store does not have it."""
    folder, _, file = _name(digest).rpartition("/")
    return store.location(_name(digest)) if file in store.list(folder) else ""


def _name(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.tar.gz"
