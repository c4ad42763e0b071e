"""A bundle as one file, to be carried to where this machine's folders are not.

    a tree in the cache -> its files and links -> tar.gz, the same bytes each time

Holds what the digest is made of and nothing else, so that fetch() of the archive finds the same digest. Does
not carry it anywhere.
"""

import gzip
import io
import tarfile

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import read_listing


def pack(bundle: Bundle) -> bytes:
    """The archive of a bundle. Files that a model wrote into the cache's copy are left out."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in read_listing(bundle.path):
            info = archive.gettarinfo(bundle.path / name, arcname=str(name))
            info.mtime = info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                with (bundle.path / name).open("rb") as stream:
                    archive.addfile(info, stream)
            else:
                archive.addfile(info)
    return gzip.compress(plain.getvalue(), mtime=0)
