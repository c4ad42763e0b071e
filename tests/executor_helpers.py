"""Executors and tasks for the tests of executors: real processes, in folders of their own."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from distributed import get_worker

from modelops_dask import bundle, executors
from modelops_dask.settings import Settings
from modelops_dask.workers.runtime import Runtime

FAULTS = Path(__file__).parent / "bundles" / "faults"


def settings(folder: Path, **chosen) -> Settings:
    """Settings whose caches are under a folder."""
    return Settings(bundles_cache_dir=folder / "bundles", venvs_dir=folder / "venvs", **chosen)


def write_bundle(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def task(source: Path, chosen: Settings, name: str = "ok", seed: int = 1, **params) -> executors.Task:
    return executors.Task(bundle.fetch(str(source), chosen.bundles_cache_dir), f"faults/{name}", params, seed)


def descriptors(process: int | str = "self") -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def state_of(pid: int) -> str:
    """A process's state letter, "" when there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie whose parent is not us counts as ended."""
    return state_of(pid) in ("", "Z")


def children() -> set[int]:
    """Processes, zombies too, that this process started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


# Functions that tests submit to Dask workers, which import them by this module's name.


def run_here(one: executors.Task) -> executors.Outcome:
    return get_worker().modelops.executor.run(one)


def runtime_of() -> Runtime:
    return replace(get_worker().modelops, executor=None)  # an executor cannot travel


def pid_of_runner() -> int:
    (runner,) = get_worker().modelops.executor.idle()
    return runner.pid


def busy_runners(dask_worker) -> list[int]:
    """For Client.run: the processes whose model has begun to hang."""
    return [runner.pid for runner in dask_worker.modelops.executor.busy() if "hanging" in runner.log]
