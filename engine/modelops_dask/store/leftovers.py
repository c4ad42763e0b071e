"""Remove tables that no manifest names any more from an object store, where results/ is never replaced.

results/STAMP/... -> results/manifest.json -> another run's results/STAMP/... and manifest.json -> remove()

Kept are the tables of the manifest and of the one that it replaced, for readers that are at them, and those
of runs that may be writing just now. A run that was killed, or that wrote its manifest at the same moment
as another, leaves tables that no manifest leads to: they are removed when they are a day old, by the
store's own clock.

Does not decide what is in the tables: compact.py does.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from modelops_dask.store.files import Files, StoreFailed

_STAMP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_DAY_SECONDS = 86_400


def new_stamp() -> str:
    """A name that no other run has; the time in it is for people."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def remove(files: Files, folder: str, manifest: Mapping[str, Any], replaced: Mapping[str, Any]) -> None:
    """Remove what `manifest`, which was just written in the place of `replaced`, makes superfluous in
    `folder`.

    A store that refuses to delete keeps it all.
    """
    named = {*manifest["files"], *replaced.get("files", ())}
    with suppress(StoreFailed, FileNotFoundError):
        for name in replaced.get("replaced", ()):
            if name not in named:
                files.remove(f"{folder}/{name}")
        in_use = {name.partition("/")[0] for name in named}
        strangers: dict[str, list[str]] = {}
        for name in files.below(folder):
            if _STAMP.fullmatch(stamp := name.partition("/")[0]) and stamp not in in_use:
                strangers.setdefault(stamp, []).append(f"{folder}/{name}")
        for names in strangers.values():
            if _a_day_old(files, names, f"{folder}/manifest.json"):
                for name in names:
                    files.remove(name)


def _a_day_old(files: Files, names: Sequence[str], newest: str) -> bool:
    """Whether all files were written a day before `newest` was, as far as the store says."""
    times = [files.changed(name) for name in names]
    now = files.changed(newest)
    return now is not None and all(time and (now - time).total_seconds() > _DAY_SECONDS for time in times)
