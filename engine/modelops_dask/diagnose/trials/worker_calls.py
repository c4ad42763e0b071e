"""Functions that run on a Dask worker besides trials: build the environment, probe, end the worker.

Each runs in the diagnosis's folder there (work_folder.py); end_worker runs on a nanny.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose.causes import packages
from modelops_dask.diagnose.trials import probe as probes
from modelops_dask.diagnose.trials.probe import ProbeRequest, ProbeResult
from modelops_dask.diagnose.trials.work_folder import clear, enter
from modelops_dask.environments import venv
from modelops_dask.environments.interpreters import find_python
from modelops_dask.executors.process import Call
from modelops_dask.settings import Settings
from modelops_dask.study.packages import check as check_packages


def prepare(folder_name: str, bundle: Bundle, settings: Settings) -> tuple[tuple[str, ...], str | None]:
    """Build the bundle's environment.

    Returns NAME-VERSION of each package that it has and this process lacks, including its Python, and its
    packages as in Bundle.packages, so that all workers install the same. Raises BadInput.
    """
    bundle, settings = enter(folder_name, bundle, settings)
    check_packages(bundle, settings)
    if settings.executor_environment == "image":
        return (), None
    pinned_packages = bundle.packages if bundle.packages is not None else venv.resolve(bundle, settings)
    python = venv.environment(replace(bundle, packages=pinned_packages), settings).python
    release = find_python(bundle, settings).release
    pythons = set() if release == sys.version_info[:3] else {f"python-{'.'.join(map(str, release))}"}
    bundle_packages = {
        path.stem for path in python.parent.parent.glob("lib/python*/site-packages/*.dist-info")
    }
    worker_packages = {path.stem for folder in sys.path for path in Path(folder).glob("*.dist-info")}
    return (*pythons, *sorted(bundle_packages - worker_packages)), pinned_packages


def list_changed_files(folder_name: str, bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """packages.list_changed_files() on this worker."""
    return packages.list_changed_files(*enter(folder_name, bundle, settings))


def run_probe(
    folder_name: str,
    bundle: Bundle,
    settings: Settings,
    calls: Sequence[Call],
    request: ProbeRequest,
    *,
    timeout_seconds: float,
    threads: int,
) -> ProbeResult:
    """probe.run() on this worker."""
    if request.clears:
        clear(folder_name, bundle, settings)
    bundle, settings = enter(folder_name, bundle, settings)
    return probes.run(bundle, settings, calls, request, timeout_seconds=timeout_seconds, threads=threads)


def end_worker(dask_worker: Any) -> None:
    """On a nanny: end its worker process and all that it started; the nanny starts another."""
    import psutil

    with suppress(psutil.NoSuchProcess, AttributeError):
        worker_process = psutil.Process(dask_worker.process.pid)
        for process in (worker_process, *worker_process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
