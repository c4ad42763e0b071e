"""The folder of a diagnosis on a worker: a private copy of the bundle and a private temporary folder.

folder name, bundle, settings -> the same two paths throughout -> cleared of files left by tasks -> removed

Files outlive processes: otherwise all later runs would find the files of the first one, and look the same.
The bundle's copy that studies use is not touched.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.cache import read_listing
from modelops_dask.scratch import TEMPORARY
from modelops_dask.settings import Settings
from modelops_dask.study.batch import fetch_bundle


def enter(folder_name: str, bundle: Bundle, settings: Settings) -> tuple[Bundle, Settings]:
    """Create the folder if it is missing.

    Returns the bundle's copy in it, and the settings with this worker's cache folders. TMPDIR of processes
    started from now on is in the folder.
    """
    from modelops_dask.workers.runtime import current_runtime

    temporary, copy = path_of(folder_name) / "tmp", path_of(folder_name) / "bundle"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    worker_settings = current_runtime().settings
    if not copy.exists():
        source = fetch_bundle(bundle, worker_settings.bundles_cache_dir).path
        for name in read_listing(source):  # without files that models have added
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, copy / name, follow_symlinks=False)
    own_settings = replace(
        settings, bundles_cache_dir=worker_settings.bundles_cache_dir, venvs_dir=worker_settings.venvs_dir
    )
    own_bundle = Bundle(
        copy, bundle.digest, packages=bundle.packages, reseeds=bundle.reseeds, program=bundle.program
    )
    return own_bundle, own_settings


def clear(folder_name: str, bundle: Bundle, settings: Settings) -> None:
    """Restore the bundle's copy and empty the temporary folder."""
    for name in ("bundle", "tmp"):
        shutil.rmtree(path_of(folder_name) / name, ignore_errors=True)
    enter(folder_name, bundle, settings)


def leave(folder_name: str) -> None:
    """Remove the folder."""
    shutil.rmtree(path_of(folder_name), ignore_errors=True)


def path_of(folder_name: str) -> Path:
    """The path of the folder of that name on this machine."""
    return TEMPORARY / f"modelops-diagnose-{os.getuid()}-{folder_name}"
