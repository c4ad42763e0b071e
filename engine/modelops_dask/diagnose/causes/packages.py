"""The files of a bundle's cached environment that differ from a newly built one.

bundle, settings -> the cached environment, a fresh one -> names of files that differ

Compiled code and installers' records are left out, because they always differ. Runs on a worker.
"""

import hashlib
from pathlib import Path

from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.settings import Settings

NOTES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}
MOST = 20  # files that are named


def list_changed_files(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """ "FILE: changed", "FILE: added" or "FILE: gone", by the path below site-packages. Raises BadInput."""
    cached = _digest_files(venv.environment(bundle, settings).python)
    with venv.fresh_environment(bundle, settings) as environment:
        new = _digest_files(environment.python)
    names = sorted(name for name in {*cached, *new} if cached.get(name) != new.get(name))
    lines = [
        f"{name}: {'added' if name not in new else 'gone' if name not in cached else 'changed'}"
        for name in names[:MOST]
    ]
    return (*lines, f"and {len(names) - MOST} more") if len(names) > MOST else tuple(lines)


def _digest_files(python: Path) -> dict[str, bytes]:
    """Digests of the installed files, by the path below site-packages."""
    digests = {}
    for folder in python.parent.parent.glob("lib/python*/site-packages"):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.name not in NOTES:
                with path.open("rb") as file:
                    digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "blake2b").digest()
    return digests
