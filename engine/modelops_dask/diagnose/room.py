"""Where a diagnosis runs on a worker: a copy of the bundle and a temporary folder that nobody else uses.

room, bundle, settings -> the same two paths throughout -> emptied of what tasks left there -> removed

Files outlive processes: what the first run of a task left would else be found by all that follow, and look
the same to all of them. Does not touch the bundle's copy that studies use.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import listed
from modelops_dask.scratch import TEMPORARY
from modelops_dask.settings import Settings
from modelops_dask.study.batch import bundle_here


def enter(room: str, bundle: Bundle, settings: Settings) -> tuple[Bundle, Settings]:
    """The bundle's copy in the room, and the settings with this worker's folders.

    TMPDIR of what is started from now on is the room's.
    """
    from distributed import get_worker

    temporary, copy = folder(room) / "tmp", folder(room) / "bundle"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    own = get_worker().modelops.settings
    if not copy.exists():
        held = bundle_here(bundle, own.bundles_cache_dir).path
        for name in listed(held):  # and nothing that models have added
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(held / name, copy / name, follow_symlinks=False)
    mine = replace(settings, bundles_cache_dir=own.bundles_cache_dir, venvs_dir=own.venvs_dir)
    return Bundle(copy, bundle.digest, packages=bundle.packages), mine


def clear(room: str, bundle: Bundle, settings: Settings) -> None:
    """Put the bundle's copy back as it was given, and empty the temporary folder."""
    for name in ("bundle", "tmp"):
        shutil.rmtree(folder(room) / name, ignore_errors=True)
    enter(room, bundle, settings)


def leave(room: str) -> None:
    """Remove the room."""
    shutil.rmtree(folder(room), ignore_errors=True)


def folder(room: str) -> Path:
    return TEMPORARY / f"modelops-diagnose-{os.getuid()}-{room}"
