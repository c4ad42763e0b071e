"""What it takes to seed a model's own generators before each task: with and without it, in turn in one run.

models with 0, 1 and 10 generators at module level, tasks of a few microseconds -> microseconds of a task
"""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from figures import holds, row

from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.settings import Settings

NONE_AT_MOST_US = 2.0  # for a model that has no generator
TASKS, ROUNDS = 2000, 7
WIRE = """
import numpy as np
generators = [np.random.default_rng(2024) for _ in range({n})]

def wire(entrypoint, params, seed):
    return {{"y": b"%d" % seed}}
"""


def measure() -> bool:
    """Print the times; whether a model without generators pays no more than it may."""
    met = True
    for kind in ("isolated_warm", "direct"):
        print(f"Reseeding before each task, {kind}")
        for n in (0, 1, 10):
            seconds = _measure(kind, n)
            for name, values in seconds.items():
                row(f"{n} generators, {name}", [1e6 * value / TASKS for value in values], "us", 2)
            # Of the quickest rounds: what a busy machine adds to a round is more than what is measured.
            over_us = 1e6 * (min(seconds["reseeded"]) - min(seconds["left alone"])) / TASKS
            if n == 0:
                met = holds("no generator: more than left alone", over_us, NONE_AT_MOST_US, " us") and met
    return met


def _measure(kind: str, n: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"reseeded": [], "left alone": []}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        source = Path(scratch, "model")
        source.mkdir()
        (source / "wire.py").write_text(WIRE.format(n=n))
        settings = Settings(
            bundles_cache_dir=Path(scratch, "bundles"),
            venvs_dir=Path(scratch, "venvs"),
            executor_type=kind,
            executor_environment="image",
        )
        model = fetch(str(source), settings.bundles_cache_dir)
        running = {name: stack.enter_context(executors.create(settings)) for name in seconds}
        for number in range(ROUNDS + 1):
            for name, executor in running.items():
                bundle = replace(model, reseeds=name == "reseeded")
                tasks = [executors.Task(bundle, "m/s", {}, seed) for seed in range(TASKS)]
                started = time.perf_counter()
                executor.run_all(tasks)
                if number:  # the first round starts processes
                    seconds[name].append(time.perf_counter() - started)
    return seconds
