"""Get an archive from this machine, or from any URL that fsspec supports.

Credentials are left to fsspec's file systems: their variables, files and configuration. Archives are not
unpacked here.
"""

from pathlib import Path
from typing import Any

from modelops_dask.bundle.failed import FetchFailed
from modelops_dask.bundle.reference import Reference
from modelops_dask.bundle.unpack import MAX_BYTES, UnpackRefused

SILENCE_SECONDS = 60  # seconds without an answer from a server before giving up


def get(reference: Reference, scratch: Path) -> Path:
    """Return the archive as a file on this machine; a URL is downloaded once, into scratch. Raises
    FetchFailed.
    """
    if reference.kind == "path":
        path = Path(reference.location).expanduser()
        if not path.is_file():
            raise FetchFailed(str(reference), "no such folder or archive on this machine")
        return path
    import fsspec

    archive = scratch / "archive"
    try:
        system, remote_path = fsspec.core.url_to_fs(reference.location, **_options(reference.location))
        system.get_file(remote_path, str(archive), callback=_limit())
    except UnpackRefused:
        raise
    except Exception as error:  # any error of that protocol's file system
        problem = str(error) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            problem = "the file does not exist"
        raise FetchFailed(str(reference), problem) from None
    if not archive.is_file():
        raise FetchFailed(str(reference), "this is a folder; name an archive (zip, tar, tar.gz, tar.zst)")
    return archive


def _options(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # trust_env: proxies, ~/.netrc


def _limit() -> Any:
    from fsspec.callbacks import Callback

    class Limit(Callback):
        """Ends a download that exceeds the limit for unpacking."""

        def call(self, *_: object, **__: object) -> None:
            if self.value > MAX_BYTES:
                raise UnpackRefused(f"more than {MAX_BYTES:,} bytes")

    return Limit()
