"""The bundle of a study, kept in its store, so that the store is whole by itself.

archive -> bundles/DIGEST.tar.gz, put-if-absent -> its path or URL, from which workers fetch it, once each

The digest is that of the tree, which whoever unpacks it checks. Does not pack or unpack: bundle/ does.
"""

from modelops_dask.store.files import Store

FOLDER = "bundles"


def keep(store: Store, digest: str, archive: bytes) -> str:
    """Put a bundle's archive into the store, unless it is there, and return its path or URL."""
    store.create(_name(digest), archive)
    return store.location(_name(digest))


def find_bundle(store: Store, digest: str) -> str:
    """The path or URL of a bundle in the store; "" when the store does not have it."""
    folder, _, file = _name(digest).rpartition("/")
    return store.location(_name(digest)) if file in store.list(folder) else ""


def _name(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.tar.gz"
