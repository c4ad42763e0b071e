"""What an executor adds to a task: direct, isolated_warm, isolated_fork and cold, in turn in one run.

    python benchmarks/executors.py [starsim]

The model does nothing, so the time of a task is the executor's. With `starsim` also a task of
examples/starsim-sir; its environment (about 1 GB) is built into the user's cache if it is not there. Starting
and the first tasks, which warm a zygote, are left out.
"""

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.settings import Settings

WARM_AT_MOST_MS, FORK_AT_MOST_MS = 0.2, 3.0  # a task, over direct
STARSIM_AT_MOST, COLD_AT_LEAST = 2.0, 50.0  # isolated_fork / isolated_warm, cold / isolated_fork
HERE = Path(__file__).parent
ROUNDS = 5
TASKS = {"direct": 200, "isolated_warm": 200, "isolated_fork": 100, "cold": 3}


def measure() -> bool:
    """Print the times of an empty task; whether the executors add no more than they may."""
    with tempfile.TemporaryDirectory() as scratch:
        caches = {name: Path(scratch) / name for name in ("bundles_cache_dir", "venvs_dir")}
        seconds = _tasks(TASKS, HERE / "empty", "empty.wire/any", {}, caches)
    over = {kind: 1000 * (median(seconds[kind]) - median(seconds["direct"])) for kind in TASKS}
    print(f"isolated_warm over direct  {over['isolated_warm']:.3f} ms, at most {WARM_AT_MOST_MS:g}")
    print(f"isolated_fork over direct  {over['isolated_fork']:.3f} ms, at most {FORK_AT_MOST_MS:g}\n")
    return over["isolated_warm"] <= WARM_AT_MOST_MS and over["isolated_fork"] <= FORK_AT_MOST_MS


def measure_starsim() -> bool:
    """Print the times of a task of Starsim; whether a fork keeps near to warm and far from cold."""
    tasks = {"isolated_warm": 5, "isolated_fork": 5, "cold": 1}
    params = {"beta": 0.05, "n_contacts": 10}
    source = HERE.parent / "examples" / "starsim-sir"
    seconds = _tasks(tasks, source, "models.starsim_sir.StarsimSIR/baseline", params, {})
    warm, fork, cold = (median(seconds[kind]) for kind in tasks)
    print(f"isolated_fork / isolated_warm  {fork / warm:.2f}, at most {STARSIM_AT_MOST:g}")
    print(f"cold / isolated_fork           {cold / fork:.0f}, at least {COLD_AT_LEAST:g}\n")
    return fork / warm <= STARSIM_AT_MOST and cold / fork >= COLD_AT_LEAST


def _tasks(
    tasks: dict[str, int], source: Path, entrypoint: str, params: dict, caches: dict[str, Path]
) -> dict[str, list[float]]:
    """Seconds of each task under each executor, `tasks` of them in each round."""
    seconds: dict[str, list[float]] = {kind: [] for kind in tasks}
    bundle = fetch(str(source), Settings(**caches).bundles_cache_dir)
    with ExitStack() as stack:
        running = {
            kind: stack.enter_context(executors.create(Settings(executor_type=kind, **caches)))
            for kind in tasks
        }
        for turn in range(-1, ROUNDS):  # the first to warm up
            for kind, executor in running.items():
                for number in range(tasks[kind] if turn >= 0 else 2):
                    one = executors.Task(bundle, entrypoint, params, number)
                    start = time.perf_counter()
                    outcome = executor.run(one)
                    if turn >= 0:
                        seconds[kind].append(time.perf_counter() - start)
                    assert outcome.status == "ok", outcome
    for kind, each in seconds.items():
        print(f"{kind:<15}{1000 * median(each):>10.3f} ms ({1000 * min(each):.3f} to {1000 * max(each):.3f})")
    return seconds


if __name__ == "__main__":
    good = measure()
    if "starsim" in sys.argv[1:]:
        good &= measure_starsim()
    sys.exit(0 if good else 1)
