"""A bundle as a single file, to be sent to machines that cannot see this machine's folders.

    a tree in the cache -> its files and links -> tar.gz, the same bytes each time

The archive holds exactly the contents of the digest, so that fetch() of the archive gives the same digest.
This module does not send it.
"""

import gzip
import io
import tarfile

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import read_listing


def pack(bundle: Bundle) -> bytes:
    """Create the archive of a bundle. Files that a model wrote into the cached copy are left out."""
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
