"""Remove tables that no manifest names from an object store, where results/ is never replaced.

results/STAMP/... -> results/manifest.json -> another run's results/STAMP/... and manifest.json -> remove()

The tables of the current and the previous manifest are kept, for their readers, and those of runs that may be
writing. A run that was killed, or that wrote its manifest at the same moment as another, leaves tables
without a manifest: they are removed when they are a day old, by the store's own clock.

The content of the tables is decided elsewhere: in compact.py.
"""

import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from modelops_dask.store.files import Store, StoreFailed
from modelops_dask.store.manifest import Manifest

_STAMP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_DAY_SECONDS = 86_400


def new_stamp() -> str:
    """A unique name for each run; the time in it is for people."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def remove(store: Store, folder: str, manifest: Manifest, replaced: Manifest | None) -> None:
    """Remove the files of `folder` that are superfluous once `manifest` has replaced `replaced`.

    A store that refuses to delete keeps them all.
    """
    names_in_use = {*manifest["files"], *(replaced["files"] if replaced else ())}
    with suppress(StoreFailed, FileNotFoundError):
        for name in replaced.get("replaced", ()) if replaced else ():
            if name not in names_in_use:
                store.remove(f"{folder}/{name}")
        stamps_in_use = {name.partition("/")[0] for name in names_in_use}
        names_by_stamp: dict[str, list[str]] = {}
        for name in store.list_below(folder):
            if _STAMP.fullmatch(stamp := name.partition("/")[0]) and stamp not in stamps_in_use:
                names_by_stamp.setdefault(stamp, []).append(f"{folder}/{name}")
        for names in names_by_stamp.values():
            if _a_day_old(store, names, f"{folder}/manifest.json"):
                for name in names:
                    store.remove(name)


def _a_day_old(store: Store, names: Sequence[str], newest: str) -> bool:
    """Whether all files were written a day before `newest` was, as far as the store reports it."""
    times = [store.modified_at(name) for name in names]
    now = store.modified_at(newest)
    return now is not None and all(time and (now - time).total_seconds() > _DAY_SECONDS for time in times)
