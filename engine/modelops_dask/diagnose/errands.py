"""What a worker is asked besides trials: the environment, a probe, its own end.

Each runs on a worker, in the room of the diagnosis; end_worker on a nanny.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelops_dask import venv
from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import packages
from modelops_dask.diagnose import probe as probes
from modelops_dask.diagnose.probe import Ask, Probed
from modelops_dask.diagnose.room import enter
from modelops_dask.executors.process import Call
from modelops_dask.settings import Settings
from modelops_dask.study.packages import check as check_lock


def prepare(room: str, bundle: Bundle, settings: Settings) -> tuple[tuple[str, ...], str | None]:
    """Build the bundle's environment; NAME-VERSION of what it has and this process has not, and its packages
    as in Bundle.packages, so that all workers install the same.

    Raises BadInput.
    """
    bundle, settings = enter(room, bundle, settings)
    if settings.executor_environment == "image":
        return (), None
    check_lock(bundle, settings)
    listed = bundle.packages if bundle.packages is not None else venv.resolve(bundle, settings)
    python = venv.environment(replace(bundle, packages=listed), settings).python
    there = {path.stem for path in python.parent.parent.glob("lib/python*/site-packages/*.dist-info")}
    ours = {path.stem for place in sys.path for path in Path(place).glob("*.dist-info")}
    return tuple(sorted(there - ours)), listed


def changed(room: str, bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """packages.changed here."""
    return packages.changed(*enter(room, bundle, settings))


def probe(
    room: str,
    bundle: Bundle,
    settings: Settings,
    calls: Sequence[Call],
    ask: Ask,
    seconds: float,
    threads: int,
) -> Probed:
    """probe.run here."""
    bundle, settings = enter(room, bundle, settings)
    return probes.run(bundle, settings, calls, ask, timeout_seconds=seconds, threads=threads)


def end_worker(dask_worker: Any) -> None:
    """On a nanny: end its worker process and all that it started; the nanny starts another."""
    import psutil

    with suppress(psutil.NoSuchProcess, AttributeError):
        process = psutil.Process(dask_worker.process.pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
