"""Tasks a second, of tasks that compute for 0, 1 and 10 ms: studies, stored durably, beside others.

    each side in turn, alone on the machine, on 2 processes -> a row of tasks/s for each length of task
    the rows -> bounds: direct and isolated_warm beside client.map, direct beside each that stores results

A study's time is that of studies.run; the others' (peers.py) ends when results are in this process, or are
stored. Starting processes and a first short run are left out of all. A side that is slow has fewer tasks: the
row says how many.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import peers
import studies
from figures import ahead, holds, row
from peers import Job, Run

from modelops_dask.settings import Settings
from modelops_dask.workers.local import local_cluster

DIRECT_AT_LEAST, WARM_AT_LEAST = 100.0, 30.0  # times client.map, for tasks that do nothing
TASKS = {0: 12_000, 1: 6_000, 10: 2_000}  # by milliseconds
FEW_TASKS = {0: 2_000, 1: 1_000, 10: 200}
ROUNDS = 3
TURN_SECONDS = 1.0  # what ends sooner is run again


@dataclass(frozen=True)
class Side:
    """Who runs tasks: `opened` starts its processes; for every length of task, how many."""

    opened: Callable[[], AbstractContextManager[Run]]
    tasks: dict[int, int]
    stores: bool


@contextmanager
def _study(kind: str) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as cache:
        settings = Settings(
            executor_type=kind, bundles_cache_dir=Path(cache, "b"), venvs_dir=Path(cache, "v")
        )
        with local_cluster(peers.SHAPE, settings, say=print) as client:

            def run(job: Job) -> None:
                assert job.folder is not None
                studies.run(client, settings, job.folder, job.count, job.milliseconds)

            yield run


OURS = {
    "direct": Side(partial(_study, "direct"), TASKS, True),
    "isolated_warm": Side(partial(_study, "isolated_warm"), TASKS, True),
    "isolated_fork": Side(partial(_study, "isolated_fork"), FEW_TASKS, True),
}
PEERS = {
    "client.map": Side(peers.client_map, TASKS, False),
    "client.map, a file a task": Side(peers.client_map, FEW_TASKS, True),
    "as_completed": Side(peers.dask_as_completed, FEW_TASKS, False),
    "as_completed, a line a task": Side(peers.dask_as_completed, FEW_TASKS, True),
    "Ray": Side(peers.ray_tasks, FEW_TASKS, False),
    "Ray, a file a task": Side(peers.ray_tasks, FEW_TASKS, True),
    "process pool": Side(peers.pool_submit, TASKS, False),
    "process pool, a line a task": Side(peers.pool_submit, TASKS, True),
    "process pool, chunks": Side(peers.pool_chunks, TASKS, False),
    "process pool, a file a chunk": Side(peers.pool_chunks, TASKS, True),
}
SIDES = OURS | PEERS

CUT_BEFOREHAND = "process pool, a file a chunk"  # for empty tasks the least there can be: shown, not a bound

Rates = dict[str, list[float]]  # by side: tasks/s of each round


def measure() -> bool:
    """Print the rates of all sides; whether the bounds are kept."""
    rates: dict[int, Rates] = {milliseconds: {name: [] for name in SIDES} for milliseconds in TASKS}
    for _ in range(ROUNDS):
        for name, side in SIDES.items():
            with side.opened() as run:
                _turn(run, Job(0, 50), side.stores, 0)
                for milliseconds, tasks in side.tasks.items():
                    job = Job(milliseconds, tasks)
                    rates[milliseconds][name].append(_turn(run, job, side.stores, TURN_SECONDS))
    for milliseconds, by_side in rates.items():
        print(f"tasks of {milliseconds} ms")
        for name, each in by_side.items():
            row(name, each, f"tasks/s of {SIDES[name].tasks[milliseconds]:>6,}")
    print("studies beside others")
    kept = _beside_map(rates[0])
    for milliseconds, by_side in rates.items():
        kept += _beside_storing(milliseconds, by_side)
    return all(kept)


def _turn(run: Run, job: Job, stores: bool, at_least_seconds: float) -> float:
    """Tasks/s of a job, the median of the times that it is run, each into a new folder."""
    rates: list[float] = []
    begin = time.perf_counter()
    while not rates or time.perf_counter() - begin < at_least_seconds:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run(replace(job, folder=Path(folder)) if stores else job)
            rates.append(job.count / (time.perf_counter() - start))
    return median(rates)


def _beside_map(rates: Rates) -> list[bool]:
    middle = {name: median(each) for name, each in rates.items()}
    bounds = {"direct": DIRECT_AT_LEAST, "isolated_warm": WARM_AT_LEAST}
    return [
        holds(f"0 ms, {name} / client.map", middle[name] / middle["client.map"], bound, at_least=True)
        for name, bound in bounds.items()
    ]


def _beside_storing(milliseconds: int, rates: Rates) -> list[bool]:
    kept = []
    for name in (name for name, side in PEERS.items() if side.stores):
        ratios = [ours / theirs for ours, theirs in zip(rates["direct"], rates[name], strict=True)]
        title = f"{milliseconds} ms, direct / {name}"
        if milliseconds == 0 and name == CUT_BEFOREHAND:
            print(f"  {title:<44}{median(ratios):>7,.2f} times   no bound")
        else:
            kept.append(ahead(title, ratios))
    return kept
