"""What a second environment with the same packages takes of the first one's time, by each way to get one.

empty caches -> the first environment -> one by another key, one of a single process -> seconds, their ratio

The packages of each bundle are chosen, too: for the second one by what uv has in its cache.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import holds, row

from modelops_dask.bundle import Bundle, fetch
from modelops_dask.environments import venv
from modelops_dask.settings import Settings
from modelops_dask.workers.local import environment

AT_MOST = 0.20
ROUNDS = 5
PACKAGES = ("numpy", "pandas", "scipy")


def measure() -> bool:
    """Print the times; whether each second environment takes no more of the first one's than it may."""
    print(f"Environments with {', '.join(PACKAGES)}, from empty caches")
    seconds: dict[str, list[float]] = {"first": [], "second, another key": [], "second, one process": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as scratch, environment({"UV_CACHE_DIR": f"{scratch}/uv"}):
            for name, taken in _measure_round(Path(scratch)).items():
                seconds[name].append(taken)
    for name, values in seconds.items():
        row(name, values, "s", 2)
    first = sorted(seconds["first"])[ROUNDS // 2]
    met = [
        holds(f"{name} / first", sorted(values)[ROUNDS // 2] / first, AT_MOST)
        for name, values in seconds.items()
        if name != "first"
    ]
    return all(met)


def _measure_round(folder: Path) -> dict[str, float]:
    settings = Settings(bundles_cache_dir=folder / "bundles", venvs_dir=folder / "venvs")
    one, other = (_write(folder / name, settings, comment=name) for name in ("one", "other"))
    taken: dict[str, float] = {}
    with _timed(taken, "first"):
        venv.environment(one, settings)
    with _timed(taken, "second, another key"):
        venv.environment(other, settings)
    started = time.perf_counter()
    with venv.fresh_environment(one, settings):
        taken["second, one process"] = time.perf_counter() - started
    return taken


@contextmanager
def _timed(taken: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    taken[name] = time.perf_counter() - started


def _write(folder: Path, settings: Settings, comment: str) -> Bundle:
    folder.mkdir()
    lines = "\n".join([f"# {comment}", *PACKAGES])
    (folder / "requirements.txt").write_text(f"{lines}\n")
    (folder / "wire.py").write_text("def wire(entrypoint, params, seed): ...\n")
    return fetch(str(folder), settings.bundles_cache_dir)
