"""This version beside 0.1.0, whose code is in the history: what right results cost.

    each side in a process of its own, in turn -> tasks/s of studies of 0 and 10 ms tasks; seconds of a fold

0.1.0 shared parameters between tasks, believed whatever came from a model's process, did not say in a part
which study it belongs to, and let tasks write into one folder.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from figures import holds, row

ROOT = Path(__file__).parents[1]
COMMIT = "f55c888"
TASKS = {"direct": {0: 24_000, 10: 1_000}, "isolated_warm": {0: 12_000, 10: 1_000}}
RATE_AT_LEAST = {0: 0.90, 10: 0.98}  # of 0.1.0's, by milliseconds of a task
PARTS = int(os.environ.get("FOLD_PARTS", "2000"))  # of 100 rows; 100000 are those of the stated bound
FOLD_AT_MOST = 1.20  # times 0.1.0's seconds
ROUNDS = 5

SIDE = """
import sys, tempfile, time
from pathlib import Path
import peers, studies
try:
    from modelops_dask.workers.local import local_cluster
except ImportError:  # 0.1.0
    from modelops_dask.local import local_cluster
from modelops_dask.settings import Settings

with tempfile.TemporaryDirectory() as cache:
    folders = {"bundles_cache_dir": Path(cache, "b"), "venvs_dir": Path(cache, "v")}
    settings = Settings(executor_type=sys.argv[1], **folders)
    with local_cluster(peers.SHAPE, settings, say=lambda _: None) as client:
        for line in sys.stdin:
            tasks, milliseconds = map(int, line.split())
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                studies.run(client, settings, Path(folder), tasks, milliseconds)
                print("seconds", time.perf_counter() - start, flush=True)
"""
FOLD = """
import sys, tempfile, time
from pathlib import Path
from modelops_dask.store import parts, study
from modelops_dask.store.fold import fold
try:
    from modelops_dask.plan.spec import from_content
    from modelops_dask.store.files import Store
except ImportError:  # 0.1.0
    from modelops_dask.store.files import Files as Store
    from modelops_dask.study.spec import given as from_content

n_parts, rows, replicates, digest = int(sys.argv[1]), 100, 10, "sha256:" + "a" * 64
with tempfile.TemporaryDirectory() as folder:
    grid = {"x": list(range(n_parts * rows // replicates))}
    spec = from_content({"entrypoint": "m.s/b", "replicates": replicates, "grid": grid}, Path(folder))
    store = Store(folder + "/store")
    plan = study.begin(store, spec, digest)
    Path(folder, "store", "parts").mkdir()
    marks = []
    try:
        from modelops_dask.store.identity import read_study
        marks = [read_study(store).mark(digest)]
    except ImportError:
        pass
    batch = []
    for task in plan.tasks([(0, plan.absent.size)]):
        batch.append(parts.Attempt(task.set, task.replicate, task.seed, "ok", outputs={"y": b"1"}, threads=1))
        if len(batch) == rows:
            name = f"{task.set:016x}{task.replicate:016x}.parquet"
            Path(folder, "store", "parts", name).write_bytes(parts.encode(batch, *marks))
            batch = []
    for _ in sys.stdin:
        start = time.perf_counter()
        assert fold(store, plan).counts()["ok"] == n_parts * rows
        print("seconds", time.perf_counter() - start, flush=True)
"""


def measure() -> bool:
    """Print a row for each comparison; whether all bounds are met."""
    met = []
    with tempfile.TemporaryDirectory() as folder:
        trees = {"0.1.0": extract_previous(Path(folder)), "now": ROOT}
        for kind, tasks in TASKS.items():
            with ExitStack() as stack:
                sides = {name: stack.enter_context(_side(tree, SIDE, kind)) for name, tree in trees.items()}
                for milliseconds, count in tasks.items():
                    rates: dict[str, list[float]] = {name: [] for name in sides}
                    for turn in range(ROUNDS + 1):  # the first warms up
                        for name, side in sides.items():
                            rate = count / _seconds(side, f"{count} {milliseconds}")
                            rates[name] += [rate] if turn else []
                    met.append(_compare(f"{kind}, {milliseconds} ms", rates, RATE_AT_LEAST[milliseconds]))
        with ExitStack() as stack:
            sides = {name: stack.enter_context(_side(tree, FOLD, PARTS)) for name, tree in trees.items()}
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(ROUNDS + 1):
                for name, side in sides.items():
                    taken = _seconds(side, "fold")
                    seconds[name] += [taken] if turn else []
        ratio = median(seconds["now"]) / median(seconds["0.1.0"])
        for name, values in seconds.items():
            row(f"fold of {PARTS:,} parts, {name}", values, "s", 2)
        met.append(holds(f"fold of {PARTS:,} parts beside 0.1.0", ratio, FOLD_AT_MOST))
    return all(met)


def _compare(what: str, rates: dict[str, list[float]], least: float) -> bool:
    for name, values in rates.items():
        row(f"{what}, {name}", values, "tasks/s")
    return holds(f"{what} beside 0.1.0", median(rates["now"]) / median(rates["0.1.0"]), least, at_least=True)


def extract_previous(folder: Path) -> Path:
    """The code of 0.1.0, from the history."""
    command = ["git", "-C", str(ROOT), "archive", COMMIT, "engine", "benchmarks"]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def _side(tree: Path, code: str, argument: object) -> Iterator[subprocess.Popen]:
    path = os.pathsep.join([str(tree / "engine"), str(tree / "benchmarks")])
    # As they are installed: with their bytecode.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(argument)],
        env={**variables, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as side:
        yield side
        assert side.stdin is not None
        side.stdin.close()


def _seconds(side: subprocess.Popen, line: str) -> float:
    """What a side says of one turn."""
    print(line, file=side.stdin, flush=True)
    assert side.stdout is not None
    for answer in side.stdout:
        if answer.startswith("seconds "):
            return float(answer.split()[1])
    raise RuntimeError(f"a side ended with {side.wait()}")
