"""What a second environment with the same packages takes of the first one's time, by each way to get one.

empty caches -> the first environment -> one by another key, one of a single process -> seconds, their ratio

The packages of each bundle are chosen, too: for the second one by what uv has in its cache.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median

from figures import holds, row

from modelops_dask.bundle import Bundle, fetch
from modelops_dask.environments import venv
from modelops_dask.settings import Settings
from modelops_dask.workers.local import environment

AT_MOST = 0.20
ROUNDS = 3
PACKAGES = ("numpy", "pandas", "scipy")


def measure() -> bool:
    """Print the times; whether each second environment takes no more of the first one's than it may."""
    print(f"Environments with {', '.join(PACKAGES)}, from empty caches")
    seconds: dict[str, list[float]] = {"first": [], "another key": [], "one process": []}
    with (
        tempfile.TemporaryDirectory() as scratch
    ):  # of all rounds: what is deleted makes the next writes slow
        for number in range(ROUNDS):
            folder = Path(scratch, str(number))
            with environment({"UV_CACHE_DIR": f"{folder}/uv"}):
                for name, taken in _measure_round(folder, keys_first=number % 2 == 0):
                    seconds[name].append(taken)
    for name, values in seconds.items():
        row(name if name == "first" else f"second, {name}", values, "s", 2)
    met = True
    for name in ("another key", "one process"):
        ratios = [second / first for second, first in zip(seconds[name], seconds["first"], strict=True)]
        met = holds(f"second, {name} / first", median(ratios), AT_MOST) and met
    return met


def _measure_round(folder: Path, *, keys_first: bool) -> Iterator[tuple[str, float]]:
    settings = Settings(bundles_cache_dir=folder / "bundles", venvs_dir=folder / "venvs")
    one, other = (_write(folder / name, settings, comment=name) for name in ("one", "other"))
    yield "first", _time(lambda: nullcontext(venv.environment(one, settings)))
    seconds: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "another key": lambda: nullcontext(venv.environment(other, settings)),
        "one process": lambda: venv.fresh_environment(one, settings),
    }
    for name in sorted(seconds, reverse=not keys_first):
        yield name, _time(seconds[name])


def _time(build: Callable[[], AbstractContextManager[object]]) -> float:
    os.sync()  # or one waits for what the one before it wrote
    started = time.perf_counter()
    with build():
        return time.perf_counter() - started


def _write(folder: Path, settings: Settings, comment: str) -> Bundle:
    folder.mkdir(parents=True)
    lines = "\n".join([f"# {comment}", *PACKAGES])
    (folder / "requirements.txt").write_text(f"{lines}\n")
    (folder / "wire.py").write_text("def wire(entrypoint, params, seed): ...\n")
    return fetch(str(folder), settings.bundles_cache_dir)
