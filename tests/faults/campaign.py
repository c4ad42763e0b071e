"""Seeded faults against whole runs of a study, and what must hold afterwards.

seed -> executor, faults and moments -> `mops-helm study run`, disturbed -> run again until nothing is left
     -> `study verify` is clean, and the content equals that of a run that nobody disturbed

    python tests/faults/campaign.py --runs 200 [--seed 7]      a run alone: --runs 1 --seed SEED

Each run is a process of its own on a store of its own. Ends only processes that it started.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from study_helpers import COMMAND, KNOBS, environ

N_SETS, REPLICATES = 24, 3
WORK_SECONDS = 0.03
RUN_SECONDS = 180  # a run that takes longer hangs
EXECUTORS = ("direct", "isolated_warm", "isolated_fork")
KILLS, HANGS = [11], [17]  # x whose tasks kill their process, run too long
RESULTS = Path("out", "knobs", "results")


class Disturbed:
    """A study's folder, the run that goes on in it, and what may be done to both."""

    def __init__(self, folder: Path, executor: str, rng: random.Random) -> None:
        self.folder, self.executor, self.rng = folder, executor, rng
        self.parts = folder / "out" / "knobs" / "parts"
        self.process: subprocess.Popen | None = None
        self.extended = False

    def write(self) -> None:
        """The study's file. Under `direct` nothing bounds a task's time, and a death is a worker's."""
        replicates = REPLICATES + self.extended
        hangs = [] if self.executor == "direct" else HANGS
        fixed = {"seconds": WORK_SECONDS, "kills": KILLS, "hangs": hangs}
        study = {
            "name": "knobs",
            "entrypoint": "knobs.wire/any",
            "bundle": str(KNOBS),
            "replicates": replicates,
        }
        path = self.folder / "study.yaml"
        path.write_text(json.dumps({**study, "fixed": fixed, "grid": {"x": list(range(N_SETS))}}))

    def start(self, *args: str) -> subprocess.Popen:
        values = (
            f"workers.replicas=1,workers.processes=2,executor.environment=image,executor.type={self.executor}"
        )
        values += ",executor.taskTimeoutSeconds=1"
        command = [*COMMAND, "study", "run", "study.yaml", "--set", values, *args]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environ(self.folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def below(self, is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Processes of the run whose command line is wanted."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if is_wanted(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found

    # Faults: each is done at a random moment while the run goes on

    def kill_worker(self) -> None:
        self._signal_one(lambda words: any("spawn_main" in word for word in words), signal.SIGKILL)

    def kill_runner(self) -> None:
        names = ("runner.py", "zygote.py")
        self._signal_one(lambda words: any(word.endswith(names) for word in words), signal.SIGKILL)

    def kill_run(self) -> None:
        self.process.kill()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ask_ten_times(self) -> None:
        for _ in range(10):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.02)

    def pause_worker(self) -> None:
        """A partition: a worker that nobody hears for a while."""
        stopped = self._signal_one(lambda words: any("spawn_main" in word for word in words), signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.5, 3))
        for process in stopped:
            process.send_signal(signal.SIGCONT)

    def tear_a_part(self) -> None:
        """A torn checkpoint: the first half of a part, as a power cut may leave it."""
        if found := sorted(self.parts.glob("*.parquet")):
            path = self.rng.choice(found)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def add_foreign_files(self) -> None:
        self.parts.mkdir(parents=True, exist_ok=True)
        (self.parts / "notes.txt").write_text("somebody's notes")
        (self.parts / "other.parquet").write_bytes(b"no Parquet")

    def extend(self) -> None:
        """The study gains replicates; what runs goes on with what it was asked for."""
        self.extended = True
        self.write()

    def run_beside(self) -> None:
        """A second run of the same study at the same time."""
        first = self.process
        self.start()
        self.process.wait(RUN_SECONDS)
        self.process = first

    def _signal_one(self, is_wanted: Callable[[list[str]], bool], number: int) -> list[psutil.Process]:
        found = self.below(is_wanted)
        chosen = [self.rng.choice(found)] if found else []
        for process in chosen:
            try:
                process.send_signal(number)
            except psutil.Error:
                return []
        return chosen


FAULTS = (
    Disturbed.kill_worker,
    Disturbed.kill_runner,
    Disturbed.kill_run,
    Disturbed.interrupt,
    Disturbed.ask_ten_times,
    Disturbed.pause_worker,
    Disturbed.tear_a_part,
    Disturbed.add_foreign_files,
    Disturbed.extend,
    Disturbed.run_beside,
)


@dataclass(frozen=True)
class Told:
    """What a run of the campaign came to; `wrong` is empty when all held."""

    seed: int
    executor: str
    faults: tuple[str, ...]
    seconds: float
    wrong: str = ""

    def __str__(self) -> str:
        said = f"seed {self.seed:<6} {self.executor:<14} {self.seconds:5.1f} s  {', '.join(self.faults)}"
        return f"{said}\n{self.wrong}" if self.wrong else said


def content(folder: Path) -> list[pa.Table]:
    """What the study returned, and how its tasks ended."""
    status = pq.read_table(folder / RESULTS / "replicates.parquet")
    columns = ["set", "replicate", "seed", "param_id", "status"]
    return [pq.read_table(folder / RESULTS / "raw" / "y.parquet"), status.select(columns)]


def undisturbed(folder: Path, executor: str, extended: bool) -> list[pa.Table]:
    """The content of a run to which nothing is done."""
    quiet = Disturbed(folder, executor, random.Random())
    quiet.extended = extended
    quiet.write()
    assert quiet.start().wait(RUN_SECONDS) == 3, (folder / "log").read_text()
    return content(folder)


def one(seed: int, keep: Path, expected: Callable[[str, bool], list[pa.Table]]) -> Told:
    """A run of the campaign. `expected` gives the content of an undisturbed run."""
    rng = random.Random(seed)
    executor = rng.choice(EXECUTORS)
    faults = rng.choices(FAULTS, k=rng.choice([1, 1, 2, 3]))
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"seed-{seed}-", dir=keep))
    study = Disturbed(folder, executor, rng)
    study.write()
    wrong = ""
    try:
        for fault in faults:
            process = study.start()
            wait = _until_parts(study, rng.randrange(0, 12))
            wait()
            if process.poll() is None or fault in (Disturbed.tear_a_part, Disturbed.add_foreign_files):
                fault(study)
            process.wait(RUN_SECONDS)
        study.start("--retry", "failed,poisoned").wait(RUN_SECONDS)
        wrong = _check(study, expected(executor, study.extended))
    except (AssertionError, subprocess.TimeoutExpired) as error:
        wrong = f"{type(error).__name__}: {error}"
    finally:
        if study.process.poll() is None:
            os.killpg(study.process.pid, signal.SIGKILL)
    told = Told(seed, executor, tuple(f.__name__ for f in faults), time.monotonic() - begun, wrong)
    if not wrong:
        shutil.rmtree(folder)
    return told


def _until_parts(study: Disturbed, count: int) -> Callable[[], None]:
    """Wait until so many more parts are there, or the run has ended."""
    there = len(list(study.parts.glob("*.parquet")))

    def wait() -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while study.process.poll() is None and len(list(study.parts.glob("*.parquet"))) < there + count:
            assert time.monotonic() < deadline, "the run makes no progress"
            time.sleep(0.01)

    return wait


def _check(study: Disturbed, expected: list[pa.Table]) -> str:
    """What does not hold after the last run."""
    log = (study.folder / "log").read_text()
    if study.process.returncode != 3:  # failed and poisoned tasks are part of the study
        return f"the last run ended with {study.process.returncode}\n{log[-3000:]}"
    if any(not found.equals(wanted) for found, wanted in zip(content(study.folder), expected, strict=True)):
        return f"the content differs from an undisturbed run's, in {study.folder}"
    for name in ("notes.txt", "other.parquet"):
        (study.parts / name).unlink(missing_ok=True)
    command = [*COMMAND, "study", "verify", "out/knobs"]
    verified = subprocess.run(
        command, cwd=study.folder, env=environ(study.folder), text=True, capture_output=True, check=False
    )
    torn = Disturbed.tear_a_part.__name__
    if verified.returncode not in (0, 3) or (verified.returncode == 3 and "torn" not in verified.stdout):
        return f"verify ended with {verified.returncode} ({torn})\n{verified.stdout}{verified.stderr}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of the first run; +1 for each next"
    )
    asked = parser.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="faults-"))
    known: dict[tuple[str, bool], list[pa.Table]] = {}

    def expected(executor: str, extended: bool) -> list[pa.Table]:
        if (executor, extended) not in known:
            folder = Path(tempfile.mkdtemp(dir=keep))
            known[executor, extended] = undisturbed(folder, executor, extended)
            shutil.rmtree(folder)
        return known[executor, extended]

    wrong = 0
    for seed in range(asked.seed, asked.seed + asked.runs):
        told = one(seed, keep, expected)
        print(told, flush=True)
        wrong += bool(told.wrong)
    print(f"{asked.runs} runs from seed {asked.seed}: {wrong} wrong{f', kept in {keep}' if wrong else ''}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
