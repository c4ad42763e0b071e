"""Put-if-absent: write a file unless there is one of that name, so that of two writers one wins.

in a folder    -> link(): a hard link, or a rename that replaces nothing
behind a URL   -> put(): a conditional PUT (fsspec's mode="create"), and a look at what is there

An answer may be lost, and object stores word a refusal differently: MinIO's and versitygw's 412 lacks the
field by which s3fs knows it, AWS answers 409 to two writers at once, and a PUT that is repeated after a
time-out is refused because of its own first try. So whatever the answer was, the file that is there
decides: it is ours if it holds our bytes. Contents that must have one writer, such as claims, therefore
carry something unique.

Does not know stores or their errors: files.py does.
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

_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)  # before each further try; botocore and s3fs had tries of their own
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class NotSupported(OSError):
    """The file system or object store has no way to write a file only if there is none; str() says so."""


def put(filesystem: "AbstractFileSystem", path: str, data: bytes) -> bool:
    """Write a file behind a URL unless it exists, and return whether the file now holds these bytes.

    Raises what the store raised, when the file is still not there after a few tries.
    """
    # In one request: some servers ignore the condition on the last of several. S3 takes up to 5 GiB in one.
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

    `temporary` may be gone afterwards. NotSupported.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS the answer to a link may be lost, and the call repeated by the client.
        return temporary.samefile(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_to_new(temporary, path)
    return True


def _rename_to_new(temporary: Path, path: Path) -> bool:
    """As link(), where there are no hard links: SMB (Azure Files), exFAT, some FUSE."""
    reason = "its file system has neither hard links nor a rename that replaces nothing (RENAME_NOREPLACE)"
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Linux's
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
