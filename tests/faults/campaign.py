"""Seeded faults against whole runs of a study, and what must hold afterwards.

seed -> Case: conditions, faults and their moments -> `mops-helm study run`, disturbed, until the last fault
     -> the same command once more, undisturbed -> `study verify` is clean, and the content equals that of a
        study that nobody disturbed; no run ended by an error of its own, no process is left

    python tests/faults/campaign.py --runs 200 [--seed 7]      a case alone: --runs 1 --seed SEED

Each case has a store and processes of its own, and ends no others. Moments are random but not exact: a seed
brings back the faults and where they strike, not every interleaving.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq

from faults.acts import ON_RUNS, ON_STORES, Fault, fill_disk, kill_runner, kill_scheduler
from faults.disturbed import PHASES, RUN_SECONDS, TROUBLES, Conditions, Disturbed, Moment, Run, can_mount
from helpers import wait_for
from modelops_dask.store.verify import verify

EXECUTORS = ("direct", "isolated_warm", "isolated_fork")
BOUNDED = ("", "kills", "raises")  # troubles that `direct` survives: nothing bounds its tasks
DAY_SECONDS = 86_400
Content = dict[str, pa.Table]


@dataclass(frozen=True)
class Case:
    """What a seed stands for."""

    seed: int
    conditions: Conditions
    faults: tuple[tuple[Fault, Moment], ...]

    @classmethod
    def of(cls, seed: int) -> "Case":
        rng = random.Random(seed)
        executor = rng.choice(EXECUTORS)
        troubles = [name for name in TROUBLES if executor != "direct" or name in BOUNDED]
        faults = [fault for fault in ON_RUNS + ON_STORES if executor != "direct" or fault is not kill_runner]
        chosen = rng.choices(faults, k=rng.choice([1, 2, 2, 3]))
        conditions = Conditions(
            executor,
            workers=rng.choice([1, 2]),
            trouble=rng.choice(["", *troubles]),
            outside=kill_scheduler in chosen or rng.random() < 0.15,
            clock_seconds=rng.choice([0, 0, 0, rng.uniform(-30, 30) * DAY_SECONDS]),
            disk=fill_disk in chosen and can_mount(),
        )
        return cls(seed, conditions, tuple((fault, _moment(rng)) for fault in chosen))


def _moment(rng: random.Random) -> Moment:
    """Mostly while tasks run."""
    if rng.random() < 0.6:
        return Moment("canary", parts=rng.randrange(9), seconds=rng.uniform(0, 0.2))
    phase = rng.choice(PHASES)
    return Moment(phase, seconds=rng.uniform(0, 2 if phase == "started" else 0.3))


@dataclass(frozen=True)
class Told:
    """What a case came to; `wrong` is empty when all held, `done` are the faults that met their moment."""

    case: Case
    seconds: float
    done: tuple[str, ...]
    ends: tuple[int, ...]  # how each run ended
    retried: bool  # faults alone had a task poisoned, so `--retry` was needed
    wrong: str = ""

    @property
    def facts(self) -> list[str]:
        """What occurred, for counting."""
        holds = self.case.conditions
        found = [holds.executor, f"workers: {holds.workers}", *self.done]
        found += [f"a task {holds.trouble}"] * bool(holds.trouble)
        found += ["scheduler outside"] * holds.outside + ["wrong clock"] * bool(holds.clock_seconds)
        return found + ["retried"] * self.retried

    def __str__(self) -> str:
        said = f"seed {self.case.seed:<6} {self.seconds:5.1f} s  ends {self.ends}  {', '.join(self.facts)}"
        if late := len(self.case.faults) - len(self.done):
            said += f" ({late} came too late)"
        return f"{said}\n{self.wrong}" if self.wrong else said


class Wrong(Exception):
    """What does not hold."""


@dataclass
class Campaign:
    """Cases in folders below `keep`, run one after another; the folder of one that ended well is removed."""

    keep: Path
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.undisturbed = cache(self._undisturbed)

    def _undisturbed(self, trouble: str, extended: bool) -> Content:
        """The content of a study to which nothing is done. Executors do not change it."""
        folder = Path(tempfile.mkdtemp(prefix="quiet-", dir=self.keep))
        with Disturbed(folder, Conditions("isolated_warm", trouble=trouble)) as study:
            study.extended = extended
            study.write()
            _finish(study, study.start())
            found = content(study)
        shutil.rmtree(folder)
        return found

    def tell(self, case: Case) -> Told:
        """Run a case."""
        begun = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=f"seed-{case.seed}-", dir=self.keep))
        done: list[str] = []
        retried, wrong = False, ""
        with Disturbed(folder, case.conditions) as study:
            try:
                for number, (fault, moment) in enumerate(case.faults):
                    if _strike(study, fault, moment, random.Random(f"{case.seed}:{number}")):
                        done.append(fault.__name__)
                _settle(study)
                expected = self.undisturbed(case.conditions.trouble, study.extended)
                retried = _go_on(study, expected)
                _check(study, expected)
            except (AssertionError, subprocess.TimeoutExpired, Wrong) as error:
                wrong = f"{type(error).__name__}: {error}\nkept in {folder}"
        ends = tuple(run.process.poll() for run in study.runs)
        told = Told(case, time.monotonic() - begun, tuple(done), ends, retried, wrong)
        self.counts.update(told.facts)
        if not wrong:
            shutil.rmtree(folder)
        return told


def _strike(study: Disturbed, fault: Fault, moment: Moment, rng: random.Random) -> bool:
    """Do a fault at its moment. False when there is nothing to do it to, or the study is complete before."""
    for _ in range(2):
        if not study.runs or study.run.ended:
            if study.complete:
                return fault in ON_STORES and fault(study, rng)
            study.start()
        if study.wait_until(moment):
            return fault(study, rng)
    return False


def _settle(study: Disturbed) -> None:
    """Wait for the end of what is disturbed, and of what it left: nothing else may write afterwards."""
    study.wait_for_end(study.run)
    wait_for(lambda: not study.strays(), f"end of what {study.folder} left behind", RUN_SECONDS)


def _finish(study: Disturbed, run: Run) -> None:
    """Let a run come to its end, which must be a good one. Tasks that fail or kill are part of the study."""
    wanted = 3 if study.conditions.trouble else 0
    if (found := study.wait_for_end(run)) != wanted:
        raise Wrong(f"ended with {found}, not {wanted}\n{run.log.read_text()[-3000:]}")


def _go_on(study: Disturbed, expected: Content) -> bool:
    """Run the study without faults. Whether tasks that faults had taken for poisoned needed a retry."""
    last = study.start()
    retry = study.wait_for_end(last) == 3 and any(
        mine != "ok" and wanted == "ok"
        for mine, wanted in zip(statuses(content(study)), statuses(expected), strict=True)
    )
    _finish(study, study.start("--retry", "failed,poisoned") if retry else last)
    return retry


def content(study: Disturbed) -> Content:
    """What the study returned, and how its tasks ended."""
    results = study.store / "results"
    columns = ["set", "replicate", "seed", "param_id", "status"]
    return {
        "y": pq.read_table(results / "raw" / "y.parquet"),
        "replicates": pq.read_table(results / "replicates.parquet", columns=columns),
    }


def statuses(found: Content) -> list[str]:
    return found["replicates"]["status"].to_pylist()


def _check(study: Disturbed, expected: Content) -> None:
    """Raise Wrong unless all is as if nothing had been done."""
    for name, table in content(study).items():
        if not table.equals(expected[name]):
            raise Wrong(f"{name} differs from that of an undisturbed study")
    for run in study.folder.glob("log-*"):
        if "Traceback" in (text := run.read_text()):
            raise Wrong(f"{run.name} has a traceback\n{text[-3000:]}")
    for run in study.runs:
        if run.process.returncode == 1:
            raise Wrong(f"{run.log.name}: an unexpected error\n{run.log.read_text()[-3000:]}")
    _check_store(study)
    wait_for(lambda: not study.strays(), "end of all processes", RUN_SECONDS)


def _check_store(study: Disturbed) -> None:
    """`study verify` names the files that were spoilt, and nothing else; without them all is well."""
    found = {
        (finding.code, finding.where.removeprefix("parts/")) for finding in verify(str(study.store)).findings
    }
    named = {where for code, where in found if code in ("TORN", "FOREIGN")}
    if named != study.torn or len(found) != len(named):
        raise Wrong(f"verify finds {sorted(found)}; spoilt were {sorted(study.torn)}")
    for name in study.torn:
        (study.parts / name).unlink()
    if study.torn and (rest := verify(str(study.store)).findings):
        raise Wrong(f"verify finds {rest} when the spoilt files are moved away")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of the first case; +1 for each next"
    )
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the processes of a study
    campaign = Campaign(Path(tempfile.mkdtemp(prefix="faults-")))
    wrong = []
    for seed in range(asked.seed, asked.seed + asked.runs):
        told = campaign.tell(Case.of(seed))
        print(told, flush=True)
        wrong += [seed] * bool(told.wrong)
    for what, number in campaign.counts.most_common():
        print(f"{number:5}  {what}")
    print(f"{asked.runs} cases from seed {asked.seed}: {len(wrong)} wrong {wrong or ''}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
