"""A million empty tasks (`make bench-million`, not part of `make bench`): rates beside client.map's, memory.

    scheduler, driver (this process) and 2 worker processes
        -> studies of 10^4 and of 10^6 tasks, `direct`, stored durably
        -> the same of 10^6 where the global generators are not seeded: what seeding costs
        -> client.map of 10^6, stored nowhere, on a cluster of its own: tens of minutes, gigabytes

A study's time is that of studies.run. Resident memory of scheduler and driver is read five times a second;
what counts is how far it goes beyond that before the study. client.map is given CLIENT_MAP_AT_MOST_SECONDS;
when it does not end within them, its rate is that of the tasks that ended, from the first of them on.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil
import studies
from figures import holds, row

from modelops_dask.settings import Settings
from modelops_dask.shape import MIB
from modelops_dask.workers.local import environment

if TYPE_CHECKING:
    from distributed import Client

FEW, MANY = 10_000, 1_000_000
MAP_AT_LEAST = 300.0  # direct / client.map, at 10^6
AS_AT_FEW = 0.9  # rate at 10^6 / rate at 10^4
GROWTH_AT_MOST_MIB = 64.0  # of scheduler and driver during a study of 10^6
ROUNDS = 5
CLIENT_MAP_AT_MOST_SECONDS = 2400
# Given a million tasks at once, a scheduler does not answer for longer than Dask waits (30 seconds).
PATIENT = {"distributed.comm.timeouts": {"connect": "600s", "tcp": "600s"}}
LIKE_LOCAL = {  # what local.py sets for workers of studies
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
}


def measure() -> bool:
    """Print rates and memory of both; whether all bounds are kept."""
    growth: dict[str, list[float]] = {"scheduler": [], "driver": []}
    rates = _rates([FEW, MANY], growth)
    unseeded = _rates([MANY], growth, seed_globals=False)[MANY]
    for tasks, each in rates.items():
        row(f"study of {tasks:,}, stored", each, "tasks/s")
    row(f"study of {MANY:,}, not seeded", unseeded, "tasks/s")
    with tempfile.TemporaryDirectory() as scratch, _cluster({}, Path(scratch)) as client:
        theirs = _client_map(client)
    print(f"  {f'client.map of {MANY:,}':<34}{theirs:>11,.0f} tasks/s")
    print(f"  {'10^6 not seeded / client.map':<34}{median(unseeded) / theirs:>11,.2f} times   no bound")
    kept = [
        holds("10^6 / client.map of 10^6", median(rates[MANY]) / theirs, MAP_AT_LEAST, at_least=True),
        holds("10^6 / 10^4", median(rates[MANY]) / median(rates[FEW]), AS_AT_FEW, at_least=True),
        *(holds(f"{name} grew by", max(each), GROWTH_AT_MOST_MIB, " MiB") for name, each in growth.items()),
    ]
    return all(kept)


def _rates(
    sizes: list[int], growth: dict[str, list[float]], seed_globals: bool = True
) -> dict[int, list[float]]:
    """Tasks a second of studies, by their size; `growth` gets the MiB by which each of MANY made a process
    grow.
    """
    rates: dict[int, list[float]] = {tasks: [] for tasks in sizes}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(
            executor_type="direct", bundles_cache_dir=folder / "cache", seed_globals=seed_globals
        )
        with _cluster({**settings.to_env(), **LIKE_LOCAL}, folder) as client:
            studies.run(client, settings, folder / "warm-up", FEW)
            for number in range(ROUNDS):
                for tasks in rates:
                    with _Memory(client) as memory:
                        start = time.perf_counter()
                        studies.run(client, settings, folder / f"{tasks}-{number}", tasks)
                        rates[tasks].append(tasks / (time.perf_counter() - start))
                    memory.show(f"{tasks:,} tasks")
                    if tasks == MANY:
                        for name, series in memory.series.items():
                            growth[name].append((max(series) - series[0]) / MIB)
    return rates


def nothing(_: int) -> bytes:
    """A task of client.map."""
    return b""


def _client_map(client: "Client") -> float:
    """Tasks a second of client.map, and how it gets there."""
    with _Memory(client) as memory:
        start = time.perf_counter()
        futures = client.map(nothing, range(MANY), pure=False)
        print(f"  client.map returned after {time.perf_counter() - start:,.0f} s", flush=True)
        seen: list[tuple[float, int]] = []  # seconds, tasks that ended, from the first that did
        seconds, ended = 0.0, 0
        while ended < MANY and seconds < CLIENT_MAP_AT_MOST_SECONDS:
            time.sleep(1 if ended > 0.98 * MANY else 30)
            seconds = time.perf_counter() - start
            ended = sum(future.status == "finished" for future in futures)
            print(f"  {seconds:>6,.0f} s {ended:>9,} tasks", flush=True)
            if ended:
                seen.append((seconds, ended))
        if ended == MANY:
            client.gather(futures)
            seconds = time.perf_counter() - start
            print(f"  client.map took {seconds:,.0f} s, results gathered")
            rate = MANY / seconds
        else:
            print(f"  client.map was stopped after {seconds:,.0f} s: {ended:,} of {MANY:,} tasks had ended")
            assert len(seen) > 1, "no rate is known: measure on a machine that does nothing else"
            rate = (ended - seen[0][1]) / (seconds - seen[0][0])
    memory.show("client.map")
    return rate


@dataclass
class _Memory:
    """Resident bytes of scheduler and driver over the time of a `with`, and their seconds of a processor."""

    client: "Client"
    series: dict[str, list[int]] = field(default_factory=dict)

    def __enter__(self) -> "_Memory":
        pids = {"scheduler": self.client.run_on_scheduler(os.getpid), "driver": os.getpid()}
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._cpu_seconds = {name: -_cpu_seconds(process) for name, process in self._processes.items()}
        self.series = {name: [process.memory_info().rss] for name, process in self._processes.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for name, process in self._processes.items():
            self._cpu_seconds[name] += _cpu_seconds(process)

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            for name, process in self._processes.items():
                self.series[name].append(process.memory_info().rss)

    def show(self, what: str) -> None:
        """A line for each process: MiB at the start, at each quarter and at the end, and the most."""
        for name, series in self.series.items():
            quarters = [series[(len(series) - 1) * quarter // 4] for quarter in range(5)]
            words = ", ".join(f"{each / MIB:,.0f}" for each in quarters)
            took = f"{self._cpu_seconds[name]:,.1f} s of a processor"
            print(
                f"  {what:<18} {name:<10} {words} MiB, at most {max(series) / MIB:,.0f}; {took}", flush=True
            )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def _cluster(variables: Mapping[str, str], folder: Path) -> Iterator["Client"]:
    """A scheduler process and 2 worker processes on loopback with variables, and a Client of them."""
    import dask
    from distributed import Client

    address_file = folder / "scheduler.json"
    program = [sys.executable, "-m", "dask"]
    scheduler = [*program, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    workers = [
        *program,
        "worker",
        "--host",
        "127.0.0.1",
        "--nworkers",
        "2",
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    started = []
    patient = {f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{name}": "600s" for name in ("CONNECT", "TCP")}
    with environment({**variables, **patient}):
        for command in (scheduler, [*workers, "--preload", "modelops_dask.worker"]):
            line = [*command, "--scheduler-file", str(address_file)]
            started.append(subprocess.Popen(line, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent))
    try:
        with (
            dask.config.set(PATIENT),
            Client(scheduler_file=str(address_file), set_as_default=False, timeout=60) as client,
        ):
            client.wait_for_workers(2, timeout=60)
            yield client
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()
