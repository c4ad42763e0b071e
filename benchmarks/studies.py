"""A study to be timed: reading what is asked, planning, running every task, and finding all of them stored.

What other ways of running tasks do not have is in its time: ids, seeds, a store that is read back. Starting
the cluster is not, and neither is writing the tables, which `study run` does once all tasks have ended.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.study import begin
from modelops_dask.study import dispatch
from modelops_dask.study.batch import RunContext

if TYPE_CHECKING:
    from distributed import Client

REPLICATES = 25


def run(client: "Client", settings: Settings, store: Path, tasks: int, milliseconds: float = 0) -> None:
    """Run so many tasks (a multiple of REPLICATES) of the model benchmarks/busy, into an empty folder."""
    grid = {"x": list(range(tasks // REPLICATES)), "milliseconds": [milliseconds]}
    content = {"entrypoint": "busy.wire/any", "replicates": REPLICATES, "grid": grid}
    bundle = fetch(str(Path(__file__).parent / "busy"), settings.bundles_cache_dir)
    files = Store(str(store))
    plan = begin(files, spec.from_content(content, store), bundle.digest)
    dispatch.run(client, RunContext(files, plan.request, bundle), plan, fold(files, plan))
    counts = fold(files, plan).counts()
    assert counts["ok"] == tasks, counts
