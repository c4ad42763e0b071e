"""What an executor adds to a task, beside loky and concurrent.futures; and what it means for real models.

    an empty model, examples/sir, examples/starsim-sir of 30 and of 180 days -> seconds of each task

All take turns in one run. Starting processes and the first tasks, which warm a zygote, are left out, except
where each task has a process of its own. Starsim's environment (about 1 GB) is built into the user's cache if
it is not there; the others' are temporary.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import loky
from figures import holds, row

from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.settings import Settings

WARM_AT_MOST_MS, FORK_AT_MOST_MS = 0.2, 3.0  # a task, over direct
FORK_AT_MOST, COLD_AT_LEAST = 2.0, 50.0  # isolated_fork / isolated_warm, cold / isolated_fork
HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
ROUNDS = 5
STARSIM = {"beta": 0.05, "n_contacts": 10}

Runner = Callable[[int], object]  # runs the task with this seed


def measure() -> bool:
    """Print the times of tasks; whether the executors add no more than they may."""
    with tempfile.TemporaryDirectory() as scratch:
        own = Settings(bundles_cache_dir=Path(scratch, "bundles"), venvs_dir=Path(scratch, "venvs"))
        kept = _empty(own)
        _sir(own)
    return _starsim() and kept


def _empty(settings: Settings) -> bool:
    tasks = {"direct": 200, "isolated_warm": 200, "isolated_fork": 100, "cold": 4}
    one: dict[str, Any] = {"source": HERE / "empty", "entrypoint": "empty.wire/any", "params": {}}
    with ExitStack() as stack:
        running = {kind: stack.enter_context(_ours(kind, settings, **one)) for kind in tasks}
        peers = stack.enter_context(_peers())
        seconds = _in_turn(running | peers, tasks | {name: 4 if "each" in name else 200 for name in peers})
    print("A model that does nothing")
    _rows(seconds)
    over_ms = {name: 1000 * (median(each) - median(seconds["direct"])) for name, each in seconds.items()}
    warm = holds("isolated_warm over direct", over_ms["isolated_warm"], WARM_AT_MOST_MS, " ms")
    return holds("isolated_fork over direct", over_ms["isolated_fork"], FORK_AT_MOST_MS, " ms") and warm


def _sir(settings: Settings) -> None:
    """What warm processes are worth to a NumPy model; the guides speak of 2 to 5 times."""
    tasks = {"isolated_warm": 20, "isolated_fork": 20, "cold": 2}
    one: dict[str, Any] = {
        "source": EXAMPLES / "sir",
        "entrypoint": "models.sir.simulate/baseline",
        "params": {"r0": 2.5, "infectious_days": 5},
    }
    with ExitStack() as stack:
        running = {kind: stack.enter_context(_ours(kind, settings, **one)) for kind in tasks}
        seconds = _in_turn(running, tasks)
    print("\nexamples/sir, in NumPy")
    _rows(seconds)
    _without_warm(seconds)


def _starsim() -> bool:
    """A short task, which the bound is for, and the example's own: the longer, the less isolation costs."""
    kept = True
    tasks = {"isolated_warm": 6, "isolated_fork": 6, "cold": 1}
    for days in (30, 180):
        one: dict[str, Any] = {
            "source": EXAMPLES / "starsim-sir",
            "entrypoint": "models.starsim_sir.StarsimSIR/baseline",
            "params": STARSIM | {"days": days},
        }
        with ExitStack() as stack:
            running = {kind: stack.enter_context(_ours(kind, Settings(), **one)) for kind in tasks}
            seconds = _in_turn(running, tasks)
        print(f"\nexamples/starsim-sir, {days} days")
        _rows(seconds)
        _without_warm(seconds)
        warm, fork, cold = (median(seconds[kind]) for kind in tasks)
        kept &= holds("isolated_fork / isolated_warm", fork / warm, FORK_AT_MOST)
        if days == 30:
            kept &= holds("cold / isolated_fork", cold / fork, COLD_AT_LEAST, at_least=True)
        else:  # the task itself, which is in both sides, is most of it
            print(f"  {'cold / isolated_fork':<34}{cold / fork:>11,.2f} times")
    return kept


def _rows(seconds: dict[str, list[float]]) -> None:
    for name, each in seconds.items():
        row(name, [1000 * one for one in each], "ms", 3)


def _without_warm(seconds: dict[str, list[float]]) -> None:
    ratio = median(seconds["cold"]) / median(seconds["isolated_warm"])
    print(f"  {'cold / isolated_warm':<34}{ratio:>11,.2f} times   the guides: 2 to 5")


def _in_turn(running: dict[str, Runner], tasks: dict[str, int]) -> dict[str, list[float]]:
    """Seconds of each task, `tasks` of them in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(-1, ROUNDS):  # the first to warm up
        for name, run in running.items():
            for number in range(tasks[name] if turn >= 0 else 2):
                start = time.perf_counter()
                run(number)
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


@contextmanager
def _ours(kind: str, settings: Settings, source: Path, entrypoint: str, params: dict) -> Iterator[Runner]:
    """An executor of the project, `direct` and NumPy's example in this environment."""
    environment = "image" if source.name == "sir" else "bundle"
    chosen = replace(settings, executor_type=kind, executor_environment=environment)
    bundle = fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:

        def run(seed: int) -> None:
            outcome = executor.run(executors.Task(bundle, entrypoint, params, seed))
            assert outcome.status == "ok", outcome

        yield run


def _submit(pool: Any, wire: Callable[..., object], seed: int) -> object:
    return pool.submit(wire, "empty.wire/any", {}, seed).result()


@contextmanager
def _peers() -> Iterator[dict[str, Runner]]:
    """What others do with the same function: a process that stays, and one for each task."""
    sys.path.insert(0, str(HERE / "empty"))
    from wire import wire

    context = get_context("spawn")
    with ExitStack() as stack:
        pools = {
            "loky": loky.ProcessPoolExecutor(1),
            "concurrent.futures": ProcessPoolExecutor(1, context),
            "concurrent.futures, one each": ProcessPoolExecutor(1, context, max_tasks_per_child=1),
        }
        running: dict[str, Runner] = {}
        for name, pool in pools.items():
            stack.enter_context(pool)
            running[name] = partial(_submit, pool, wire)
        yield running
