"""A study that is run and disturbed: its folder, its processes, its store, and what they are now.

Conditions -> Disturbed.start() -> `mops-helm study run` -> wait_until(Moment) -> a fault (acts.py)

Where `outside` is set, scheduler and workers are processes beside the run, as in a cluster. The run may have
a wrong clock, as the driver of a cluster may. Every process carries a mark, so that none that is left behind
goes unseen. Does not know faults, nor what must hold after them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
import psutil

from helpers import wait_for
from modelops_dask.store.files import Store
from study_helpers import KNOBS, environ

N_SETS, REPLICATES = 30, 2
REST_SECONDS = 0.03
RUN_SECONDS = 600  # a run that takes longer hangs, on a busy machine too
DISK = "size=24m"
PHASES = ("started", "workers", "environment", "canary", "running", "compacting")
# How a task ends that misbehaves in that way; a parameter of the model in tests/bundles/knobs.
TROUBLES = {
    "": "ok",
    "kills": "poisoned",
    "hangs": "poisoned",
    "hungry": "poisoned",
    "raises": "failed",
    "forks": "ok",
    "babbles": "poisoned",
    "forges": "poisoned",
}
TROUBLED = {"forks": [3, 11, 19, 27], "babbles": [11, 19]}  # x that misbehave, else 11
TIMEOUT_SECONDS = {"hangs": 2}  # else long, for this machine may be busy
OWN, OTHER = "study.yaml", "other.yaml"  # the study, and another request of the same store

# The command, where the machine's name and clock may be others.
PROGRAM = """
import socket, time
now, name = time.time, socket.gethostname()
socket.gethostname = lambda: name + {host!r}
if {clock_seconds!r}:
    time.time = lambda: now() + {clock_seconds!r}
from mops_helm.main import main
main()
"""


@dataclass(frozen=True)
class Conditions:
    """What holds for all runs of a study. `trouble` is a key of TROUBLES; `disk`: the store's own, small;
    `server`: the object store that has the store, of store_servers.SERVERS, or "" for a folder.
    """

    executor: str
    workers: int = 2
    trouble: str = ""
    outside: bool = False
    clock_seconds: float = 0.0
    disk: bool = False
    server: str = ""

    def troubled(self, x: int) -> bool:
        return bool(self.trouble) and x in TROUBLED.get(self.trouble, [11])


@dataclass(frozen=True)
class Moment:
    """So long after so many parts, counted from when a phase was reached."""

    phase: str
    parts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Run:
    """One start of the command."""

    process: subprocess.Popen
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def reached(self, phase: str) -> bool:
        text = self.log.read_text()
        return phase == "started" or any(f'"phase": "{p}"' in text for p in PHASES[PHASES.index(phase) :])


class Disturbed:
    """A study in a folder of its own, whose store is at `url`. The `with` ends every process that belongs to
    it.
    """

    def __init__(self, folder: Path, conditions: Conditions, url: str = "") -> None:
        self.folder, self.conditions = folder, conditions
        self.url = url or str(folder / "out" / "knobs")
        self.files = Store(self.url)
        self.bundle = folder / "bundle"
        self.extended = False
        self.begun_again = 0  # which of `runs` began the study once more in an empty store; 0: none
        self.torn: set[str] = set()  # parts and other files in parts/ that a fault spoilt or added
        self.runs: list[Run] = []
        self.beside: list[Run] = []  # of further drivers
        self._scheduler: subprocess.Popen | None = None
        self._workers: subprocess.Popen | None = None

    def __enter__(self) -> "Disturbed":
        if self.conditions.disk:
            (self.folder / "out").mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(self.folder / "out")]
            subprocess.run(mount, check=True, capture_output=True)
        shutil.copytree(KNOBS, self.bundle, ignore=shutil.ignore_patterns("__pycache__"))
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.alive():
            with suppress(psutil.Error):
                process.kill()
        for process in (self._scheduler, self._workers, *(run.process for run in self.all_runs)):
            if process:
                process.wait(RUN_SECONDS)
        if self.conditions.disk:
            subprocess.run(["umount", "-l", str(self.folder / "out")], check=True)

    def request(self, spec: str = OWN) -> tuple[range, int]:
        """The x and the number of replicates that a study file asks for."""
        if spec == OTHER:
            return range(N_SETS // 6, N_SETS * 7 // 6), REPLICATES + 1
        return range(N_SETS), REPLICATES + self.extended

    def params(self, x: int) -> dict[str, object]:
        """The parameters of a set."""
        trouble = self.conditions.trouble
        fixed = {trouble: TROUBLED.get(trouble, [11])} if trouble else {}
        return {"rests": REST_SECONDS, **fixed, "x": x}

    def write(self, spec: str = OWN) -> None:
        """A study file."""
        sets, replicates = self.request(spec)
        fixed = self.params(0)
        del fixed["x"]
        study = {
            "name": "knobs",
            "entrypoint": "knobs.wire/any",
            "bundle": str(self.bundle),
            "replicates": replicates,
            "fixed": fixed,
            "grid": {"x": list(sets)},
        }
        (self.folder / spec).write_text(json.dumps(study))

    # The run, and what is beside it

    @property
    def run(self) -> Run:
        """The last one that was started to go on with the study."""
        return self.runs[-1]

    @property
    def all_runs(self) -> list[Run]:
        return [*self.runs, *self.beside]

    @property
    def complete(self) -> bool:
        """Whether a run has ended with every task."""
        return any(run.process.poll() in (0, 3) for run in self.runs[self.begun_again :])

    def start(self, *args: str, spec: str = OWN) -> Run:
        """Go on with the study."""
        self.runs.append(self.launch("", *args, spec=spec))
        return self.run

    def launch(self, host: str, *args: str, spec: str = OWN) -> Run:
        """The command on this machine, or on one whose name ends with `host`."""
        program = PROGRAM.format(host=host, clock_seconds=self.conditions.clock_seconds)
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}"
        command = [sys.executable, "-c", program, "study", "run", spec, "--progress", "json"]
        return Run(self._process([*command, "--store", self.url, *self._where(), *args], log), log)

    def _where(self) -> list[str]:
        kind, seconds = self.conditions.executor, TIMEOUT_SECONDS.get(self.conditions.trouble, 30)
        if self.conditions.outside:
            return ["-d", self._cluster(kind, seconds)]
        values = f"workers.replicas=1,workers.processes={self.conditions.workers},executor.environment=image"
        return ["--set", f"{values},executor.type={kind},executor.taskTimeoutSeconds={seconds}"]

    def _cluster(self, kind: str, seconds: int) -> str:
        """The address of a scheduler with workers, which are started unless they are there."""
        file = self.folder / "scheduler.json"
        here = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        if self._scheduler is None or self._scheduler.poll() is not None:
            file.unlink(missing_ok=True)
            self._scheduler = self._dask("scheduler", *here, "--port", "0")
            wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler", RUN_SECONDS)
            if self._workers:  # they know the old one's address only
                with suppress(ProcessLookupError):
                    os.killpg(self._workers.pid, signal.SIGKILL)
                self._workers.wait(RUN_SECONDS)
        if self._workers is None or self._workers.poll() is not None:
            shape = ["--nworkers", str(self.conditions.workers), "--nthreads", "1", "--memory-limit", "1GiB"]
            self._workers = self._dask(
                *("worker", *here, *shape, "--preload", "modelops_dask.worker"),
                MODELOPS_EXECUTOR_TYPE=kind,
                MODELOPS_EXECUTOR_ENVIRONMENT="image",
                MODELOPS_RPC_TIMEOUT_SECONDS=str(seconds),
            )
        return json.loads(file.read_text())["address"]

    def _dask(self, *words: str, **env: str) -> subprocess.Popen:
        return self._process([sys.executable, "-m", "dask", *words], self.folder / f"dask-{words[0]}", **env)

    def _process(self, command: list[str], log: Path, **env: str) -> subprocess.Popen:
        # Without compiled code, compiling pandas in each process is half of what a run takes.
        ours = {**environ(self.folder), "PYTHONPYCACHEPREFIX": str(self.folder.parent / "pycache")}
        ours.pop("PYTHONDONTWRITEBYTECODE", None)
        with log.open("ab") as out:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**ours, "FAULTS_STUDY": str(self.folder), **env},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    # What is now

    def wait_until(self, moment: Moment) -> bool:
        """Whether the moment came before the run ended."""
        self._wait(self.run, lambda: self.run.reached(moment.phase))
        there = self.count_parts()
        self._wait(self.run, lambda: self.count_parts() >= there + moment.parts)
        due = time.monotonic() + moment.seconds
        self._wait(self.run, lambda: time.monotonic() >= due)
        return not self.run.ended

    def wait_for_end(self, run: Run) -> int:
        """The exit status of a run, once it has ended."""
        self._wait(run, lambda: False)
        return run.process.returncode

    def _wait(self, run: Run, condition: Callable[[], bool]) -> None:
        """Until the condition holds or the run has ended. Workers outside that end begin anew, as pods do."""

        def over() -> bool:
            if self._workers and self._workers.poll() is not None and self._scheduler.poll() is None:
                self._where()
            return run.ended or condition()

        wait_for(over, f"progress of {run.log}", RUN_SECONDS)

    def part_names(self) -> list[str]:
        return [name for name in self.files.list("parts") if name.endswith(".parquet")]

    def count_parts(self) -> int:
        if self.conditions.server:
            time.sleep(0.1)  # one request at a time is enough to ask of the server
        return len(self.part_names())

    def remove_store(self) -> None:
        """Remove every file of the store; what still runs may write others."""
        filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        with suppress(FileNotFoundError):
            if self.conditions.server:
                filesystem.rm(root, recursive=True)
        shutil.rmtree(root, ignore_errors=True)

    def processes(self, is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Processes of the study whose command line is wanted, oldest first."""
        found = []
        for process in self.alive():
            with suppress(psutil.Error):
                if is_wanted(process.cmdline()):
                    found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def alive(self) -> list[psutil.Process]:
        """Every process of the study, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get("FAULTS_STUDY") == str(self.folder):
                    found.append(process)
        return found

    def strays(self) -> list[psutil.Process]:
        """What is alive of runs that have ended, all but scheduler and workers that are outside of them."""
        ours = {p.pid for p in (self._scheduler, self._workers) if p and p.poll() is None}
        for pid in tuple(ours):
            with suppress(psutil.Error):
                ours.update(child.pid for child in psutil.Process(pid).children(recursive=True))
        return [process for process in self.alive() if process.pid not in ours]

    @property
    def scheduler(self) -> subprocess.Popen | None:
        return self._scheduler

    def stopped_for(self, processes: list[psutil.Process], seconds: float) -> bool:
        """Stop processes for a while; whether there were any."""
        for number, pause in ((signal.SIGSTOP, seconds), (signal.SIGCONT, 0)):
            for process in processes:
                with suppress(psutil.Error):
                    process.send_signal(number)
            time.sleep(pause)
        return bool(processes)


def can_mount() -> bool:
    """Whether a study may have a small disk of its own here."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0
