"""Put-if-absent: write a file unless the name exists, so that one of two writers wins.

    in a folder    -> link(): a hard link, or a rename that does not replace
    behind a URL   -> put(): a conditional PUT (fsspec's mode="create"), and a look at the existing file

A response may be lost, and object stores report a refusal differently. MinIO's and versitygw's 412 lacks the
field by which s3fs recognizes it, AWS sends 409 to two concurrent writers, and a PUT that is repeated after a
time-out is refused because of its own first try. So the existing file always decides: it is ours if it holds
our bytes. Contents with a single writer, such as claims, therefore contain something unique.

This module does not know stores or their errors: files.py does.
"""

import ctypes
import errno
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# seconds before each further try; botocore and s3fs retry on their own
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class NotSupported(OSError):
    """The file system or object store cannot write a file only if it does not exist; str() explains why."""


def put(filesystem: "AbstractFileSystem", path: str, data: bytes) -> bool:
    """Write a file behind a URL unless it exists, and return whether the file now holds these bytes.

    Raises the store's error if the file still does not exist after a few tries.
    """
    # In one request, because some servers ignore the condition on the last of several. S3 accepts up to 5 GiB
    # in one.
    options = {"chunksize": len(data) + 1} if "s3" in filesystem.protocol else {}
    for pause_seconds in (*_PAUSES_SECONDS, None):
        try:
            filesystem.pipe_file(path, data, mode="create", **options)
        except PermissionError:
            raise
        except (NotImplementedError, TypeError) as error:
            raise NotSupported(f"it has no conditional writes ({error})") from error
        except Exception as error:
            if (content := _content(filesystem, path)) is not None:
                return content == data
            if getattr(error, "errno", None) == errno.ENOSYS:
                raise NotSupported(f"it has no conditional writes ({error})") from error
            if pause_seconds is None or isinstance(error, FileNotFoundError):
                raise
            time.sleep(pause_seconds * random.uniform(0.5, 1.5))
        else:
            return True
    raise AssertionError("unreachable: the last try returns or raises")


def _content(filesystem: "AbstractFileSystem", path: str) -> bytes | None:
    try:
        return filesystem.cat_file(path)
    except FileNotFoundError:
        return None


def link(temporary: Path, path: Path) -> bool:
    """Give a complete file its name unless that name is taken, and return whether this call did.

    `temporary` may no longer exist afterwards. Raises NotSupported.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS the response to a link may be lost, and the call repeated by the client.
        return temporary.samefile(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_to_new(temporary, path)
    return True


def _rename_to_new(temporary: Path, path: Path) -> bool:
    """Like link(), for file systems without hard links: SMB (Azure Files), exFAT, some FUSE."""
    reason = "its file system has neither hard links nor a rename that replaces nothing (RENAME_NOREPLACE)"
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # the Linux value
    if rename is None:
        raise NotSupported(errno.EOPNOTSUPP, reason)
    names = os.fsencode(temporary), os.fsencode(path)
    if not rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE):
        return True
    error_number = ctypes.get_errno()
    if error_number == errno.EEXIST:
        return False
    if error_number in _NO_LINKS:
        raise NotSupported(errno.EOPNOTSUPP, reason)
    raise OSError(error_number, os.strerror(error_number), str(path))
