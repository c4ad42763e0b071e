"""What the self-check of a study costs: the same study with three tasks checked and with none, in turn.

each side in turn, on 2 processes -> seconds of a whole run, tables included -> their difference and a bound

The model is benchmarks/busy, which starts in a moment: a model whose import is slow pays for that once more
on each worker, within the budget of a check.
"""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import peers
from figures import holds, row

from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.study.check import LEAST_SECONDS, N_TASKS
from modelops_dask.study.drive import drive
from modelops_dask.workers.local import local_cluster

EXECUTORS = ("direct", "isolated_warm", "isolated_fork")
TASKS, MILLISECONDS, ROUNDS = 1_000, 5, 5


def measure() -> bool:
    """Print seconds of runs with and without a check; whether the cost is within the budget of a check."""
    print(f"self-check: a study of {TASKS:,} tasks of {MILLISECONDS} ms, {N_TASKS} of them checked, and none")
    are_kept = [_measure(kind) for kind in EXECUTORS]
    return all(are_kept)


def _measure(kind: str) -> bool:
    seconds: dict[int, list[float]] = {0: [], N_TASKS: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            executor_type=kind, bundles_cache_dir=folder / "bundles", venvs_dir=folder / "venvs"
        )
        with local_cluster(peers.SHAPE, settings, say=print) as client:
            for number in range(-1, 2 * ROUNDS):  # the first starts processes, and is not counted
                n_checks = (0, N_TASKS)[number % 2]
                store = Store(str(folder / f"store{number}"))
                began = time.monotonic()
                summary = drive(
                    _study(folder),
                    fetch(str(Path(__file__).parent / "busy"), settings.bundles_cache_dir),
                    store,
                    lambda: nullcontext(client),
                    n_checks=n_checks,
                )
                assert summary.exit_code == 0 and (summary.self_check is not None) == bool(n_checks)
                if number >= 0:
                    seconds[n_checks].append(time.monotonic() - began)
    for n_checks, values in seconds.items():
        row(f"{kind}, {n_checks} checked", values, "s", 2)
    return holds(f"{kind}: cost", median(seconds[N_TASKS]) - median(seconds[0]), LEAST_SECONDS / 2, " s")


def _study(folder: Path) -> spec.Spec:
    grid = {"x": list(range(TASKS // 25)), "milliseconds": [MILLISECONDS]}
    content = {"name": "s", "entrypoint": "busy.wire/any", "replicates": 25, "grid": grid}
    return spec.from_content(content, folder)
