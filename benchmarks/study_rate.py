"""12,000 empty tasks: as a study, under `direct` and stored durably, and by client.map on the same cluster.

The study's time begins with an empty store and ends when every task's row is on the disk and folded; starting
the cluster, which both share, and writing the tables are left out. client.map's ends with the gathered
results, which are stored nowhere.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle, fetch
from modelops_dask.local import local_cluster
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Files
from modelops_dask.store.fold import fold
from modelops_dask.store.study import begin
from modelops_dask.study import dispatch, spec
from modelops_dask.study.batch import Source

if TYPE_CHECKING:
    from distributed import Client

AT_LEAST = 50.0
SETS, REPLICATES = 400, 30
TASKS = SETS * REPLICATES
ROUNDS = 3
STUDIES_A_ROUND = 5


def measure() -> bool:
    """Print both rates and their ratio; whether it is within the bound."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(executor_type="direct", bundles_cache_dir=folder / "cache")
        study = folder / "study.yaml"
        study.write_text(
            f"entrypoint: empty.wire/any\nreplicates: {REPLICATES}\ngrid:\n  x: {list(range(SETS))}\n"
        )
        loaded = spec.load(study)
        bundle = fetch(str(Path(__file__).parent / "empty"), settings.bundles_cache_dir)
        ours, theirs = [], []
        with local_cluster(Shape(1, 2, 1, 2 * 1024**3), settings, say=print) as client:
            _study(
                client, loaded, bundle, folder / "warm-up"
            )  # each worker imports Arrow and, where it is, pandas
            for number in range(ROUNDS):
                for again in range(STUDIES_A_ROUND):  # client.map takes as long as fifty of them
                    store = folder / f"store-{number}-{again}"
                    ours.append(TASKS / _study(client, loaded, bundle, store))
                theirs.append(TASKS / _map(client))
    ratio = median(ours) / median(theirs)
    print(f"study, stored       {_spread(ours)}")
    print(f"client.map          {_spread(theirs)}")
    print(f"ratio of medians    {ratio:.0f}, at least {AT_LEAST:g}\n")
    return ratio >= AT_LEAST


def _study(client: "Client", loaded: spec.Spec, bundle: Bundle, store: Path) -> float:
    start = time.perf_counter()
    files = Files(str(store))
    plan = begin(files, loaded, bundle.digest)
    dispatch.run(client, Source(files, plan.request, bundle), plan, fold(files, plan))
    counts = fold(files, plan).counts()
    seconds = time.perf_counter() - start
    assert counts["ok"] == TASKS, counts
    return seconds


def _map(client: "Client") -> float:
    start = time.perf_counter()
    results = client.gather(client.map(_nothing, range(TASKS), pure=False))
    seconds = time.perf_counter() - start
    assert len(results) == TASKS
    return seconds


def _nothing(_: int) -> bytes:
    return b""


def _spread(rates: list[float]) -> str:
    return f"{median(rates):>9,.0f} tasks/s ({min(rates):,.0f} to {max(rates):,.0f})"
