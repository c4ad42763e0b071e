"""The bundle of a study, kept in its store, so that the store is whole by itself.

archive -> bundles/DIGEST.tar.gz, put-if-absent -> its path or URL, from which workers fetch it, once each

The digest is that of the tree, which whoever unpacks it checks. Does not pack or unpack: bundle/ does.
"""

from modelops_dask.store.files import Files

FOLDER = "bundles"


def keep(files: Files, digest: str, archive: bytes) -> str:
    """Put a bundle's archive into the store, unless it is there; where it is."""
    files.create(_name(digest), archive)
    return files.where(_name(digest))


def held(files: Files, digest: str) -> str:
    """Where the store has a bundle; "" when it has not."""
    folder, _, file = _name(digest).rpartition("/")
    return files.where(_name(digest)) if file in files.list(folder) else ""


def _name(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.tar.gz"
