"""The incident at its size: a pod of 4 GiB with 4 worker processes, tasks that hold 100 MB to 2 GB and more.

    a cgroup with a limit = the pod, `dask worker` in it; the scheduler and whoever submits are outside
    -> all tasks at once, as it was: the control
    -> the tasks that fit, 1 to 4 side by side: what a person finds by trying; no limit but the pod's
    -> a study, with tasks that cannot fit among them: the time of the best of those, and no death
    -> a study in which nothing fits; then with the values that it was told to use

Memory rises from task to task, as in a sweep; a task holds it for some seconds. Needs Linux and leave to make
a cgroup, which root has; elsewhere it says so. Takes about half an hour: `make bench-incident`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import holds

from modelops_dask import bundle
from modelops_dask.limits import cgroup
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape, process_limit
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.study.drive import drive
from modelops_dask.workers import memory
from modelops_dask.workers.local import environment

if TYPE_CHECKING:
    from distributed import Client

POD_BYTES, PROCESSES = 4096 * MIB, 4
FITTING = range(100, 2001, 100)  # megabytes
TOO_LARGE = (3700, 3800, 3900, 4000)
REPLICATES = 6
SECONDS = 3.0
AT_MOST = 1.15  # a study's time / the best fixed number's
VERDICT_WITHIN_SECONDS, STOPPED = 120, 4  # and its exit status
GIVE_UP_SECONDS = 900
MODEL = Path(__file__).parent / "hungry"
VALUES = r"(workers:\n  processes: 1\n  memoryPerProcess: .*pods of (\d+)Mi)"  # of a verdict
JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execvp(sys.argv[2], sys.argv[2:])"


def measure() -> bool:
    """Print what became of each way, and its time; whether the bounds are kept."""
    try:
        with _pod_of(POD_BYTES):
            pass
    except OSError as error:
        sys.exit(f"The incident is not measured: no cgroup with a limit can be made here ({error})")
    fitting = sorted([*FITTING] * REPLICATES)
    control = _naive("all at once", [*fitting, *TOO_LARGE], PROCESSES, process_limit(POD_BYTES, PROCESSES))
    fixed = [_naive(f"{n} side by side", fitting, n, 0) for n in range(1, PROCESSES + 1)]
    best = min((tried.seconds for tried in fixed if not tried.lost), default=float("inf"))
    ours = _study()
    kept = [
        holds("tasks lost by the control", control.lost, 1, " ", at_least=True),
        holds("study / the best fixed number", ours.seconds / best, AT_MOST),
        holds("tasks that fit and are not ok", ours.lost, 0, " "),
        holds("others, poisoned with peak, limit", ours.poisoned, len(TOO_LARGE), " ", at_least=True),
        holds("processes that the kernel killed", ours.kernel_kills, 0, " "),
        _verdict(),
    ]
    return all(kept)


@dataclass(frozen=True)
class _Ran:
    """`lost`: tasks that fit and have no result; `poisoned`: those whose record says peak and limit."""

    seconds: float
    lost: int
    kernel_kills: int
    poisoned: int = 0


@dataclass
class _Pod:
    """A cgroup, and after its end what the kernel says of it."""

    folder: Path
    join: Sequence[str] = ()  # the beginning of a command line that runs the rest in it
    kernel_kills: int = field(default=0, init=False)
    peak_bytes: int = field(default=0, init=False)


@contextmanager
def _pod_of(limit_bytes: int) -> Iterator[_Pod]:
    """A new cgroup inside of our own. OSError where none can be made."""
    version, levels = cgroup.find_levels(Path("/"))
    if not levels:
        raise OSError("no cgroup counts memory")
    folder = levels[0] / f"modelops-bench-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    limit, events, peak = {
        1: ("memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes"),
        2: ("memory.max", "memory.events", "memory.peak"),
    }[version]
    pod = _Pod(folder, (sys.executable, "-c", JOIN, str(folder / "cgroup.procs")))
    try:
        (folder / limit).write_text(str(limit_bytes))
        yield pod
    finally:
        if (folder / events).exists():
            found = re.search(r"^oom_kill (\d+)$", (folder / events).read_text(), re.MULTILINE)
            pod.kernel_kills = int(found[1]) if found else 0
        if (folder / peak).exists():
            pod.peak_bytes = int((folder / peak).read_text())
        _remove(folder)


def _remove(folder: Path) -> None:
    """What was killed in it may take a moment to leave."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _workers(
    pod: _Pod, processes: int, memory_bytes: int, *more: str, env: dict[str, str]
) -> Iterator["Client"]:
    """A client of a scheduler here, and of `dask worker` in the pod."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as scheduler,
        Client(scheduler, set_as_default=False) as client,
        environment(env),
    ):
        options = ["--nworkers", processes, "--nthreads", 1, "--memory-limit", memory_bytes, "--no-dashboard"]
        command = [
            *pod.join,
            sys.executable,
            "-m",
            "dask",
            "worker",
            client.scheduler.address,
            *options,
            *more,
        ]
        with subprocess.Popen(
            list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            try:
                client.wait_for_workers(processes, timeout=60)
                yield client
            finally:
                process.terminate()


def _naive(name: str, megabytes: list[int], processes: int, memory_bytes: int) -> _Ran:
    """Everything submitted at once to so many processes; with memory_bytes Dask's own limit."""

    def hold(megabytes: int) -> int:
        from wire import hold

        return hold(megabytes, SECONDS)

    with (
        _pod_of(POD_BYTES) as pod,
        _workers(pod, processes, memory_bytes, env={"PYTHONPATH": str(MODEL)}) as client,
    ):
        start = time.perf_counter()
        futures = client.map(hold, megabytes, pure=False)
        while not all(future.done() for future in futures) and time.perf_counter() < start + GIVE_UP_SECONDS:
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        finished = sum(future.status == "finished" for future in futures)
    lost = min(len(FITTING) * REPLICATES, len(megabytes)) - finished
    return _told(name, _Ran(seconds, max(0, lost), pod.kernel_kills), len(megabytes), pod)


def _study() -> _Ran:
    settings = Settings(executor_environment="image")
    limit_bytes = process_limit(POD_BYTES, PROCESSES)
    room = memory.compute_for_pods(Shape(1, PROCESSES, 1, POD_BYTES), settings)
    with tempfile.TemporaryDirectory() as scratch:
        loaded = spec.from_content(_content(), Path(scratch))
        held = bundle.fetch(str(MODEL), Path(scratch, "cache"))
        env = settings.to_env() | {"MODELOPS_BUNDLES_CACHE_DIR": str(Path(scratch, "cache"))}
        with (
            _pod_of(POD_BYTES) as pod,
            _workers(pod, PROCESSES, limit_bytes, "--preload", "modelops_dask.worker", env=env) as client,
        ):
            files = Store(str(Path(scratch, "store")))
            start = time.perf_counter()
            summary = drive(loaded, held, files, lambda: nullcontext(client), memory=room)
            seconds = time.perf_counter() - start
        poisoned = _poisoned(files)
    lost = len(FITTING) * REPLICATES - summary.counts["ok"]
    return _told("study", _Ran(seconds, lost, pod.kernel_kills, poisoned), summary.total, pod)


def _poisoned(files: Store) -> int:
    """Tasks with a row that says so, with the peak and the limit."""
    found = set()
    for rows in parts.scan(files, ["set", "status", "peak_bytes", "limit_bytes"]):
        for row in rows.table.to_pylist():
            if row["status"] == "poisoned" and row["peak_bytes"] and row["limit_bytes"]:
                found.add(row["set"])
    return len(found)


def _content() -> dict:
    """A sweep of what fits, with replicates, and a task each of what does not."""
    sets: list[dict[str, Any]] = [{"params": {"megabytes": size, "seconds": SECONDS}} for size in FITTING]
    sets += [{"params": {"megabytes": size, "seconds": SECONDS}, "seed": 1} for size in TOO_LARGE]
    return {"entrypoint": "hungry.wire/any", "replicates": REPLICATES, "sets": sets}


def _verdict() -> bool:
    """A study of tasks that cannot fit, by the command; and again with the first values of its verdict."""
    content = {"name": "none", "entrypoint": "hungry.wire/any", "bundle": str(MODEL)}
    sweep = {"fixed": {"seconds": 0.1}, "grid": {"megabytes": list(TOO_LARGE)}}
    pod = f"workers.replicas=1,workers.processes={PROCESSES},workers.memoryPerProcess=1000Mi"
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "study.json").write_text(json.dumps(content | sweep))
        seconds, stopped = _command(scratch, POD_BYTES, "--set", f"{pod},executor.environment=image")
        print(f"  {'nothing fits':<20}{seconds:>8.1f} s   exit {stopped.returncode}")
        values = re.search(VALUES, stopped.stderr)
        if stopped.returncode != STOPPED or not values:
            print(stopped.stderr)
            return False
        Path(scratch, "more.yaml").write_text(values[1])
        pod_bytes = (int(values[2]) + 300) * MIB  # the driver is in it too
        again, done = _command(scratch, pod_bytes, "-f", "more.yaml", "--set", "executor.environment=image")
        print(f"  {'with its values':<20}{again:>8.1f} s   exit {done.returncode}, pods of {values[2]} MiB")
    return holds("time to the verdict", seconds, VERDICT_WITHIN_SECONDS, " s") and done.returncode == 0


def _command(folder: str, pod_bytes: int, *words: str) -> tuple[float, subprocess.CompletedProcess]:
    """`mops-helm study run` in a pod, with its seconds."""
    program = str(Path(sys.executable).with_name("mops-helm"))
    with _pod_of(pod_bytes) as pod:
        start = time.perf_counter()
        done = subprocess.run(
            [*pod.join, program, "study", "run", "study.json", *words],
            cwd=folder,
            env={**os.environ, "MODELOPS_BUNDLES_CACHE_DIR": str(Path(folder, "cache"))},
            capture_output=True,
            text=True,
            check=False,
        )
        return time.perf_counter() - start, done


def _told(name: str, ran: _Ran, tasks: int, pod: _Pod) -> _Ran:
    print(
        f"  {name:<20}{ran.seconds:>8.1f} s   {tasks:,} tasks, {ran.lost} of those that fit lost, "
        f"{ran.kernel_kills} processes killed by the kernel, peak {pod.peak_bytes // MIB:,} MiB",
        flush=True,
    )
    return ran
