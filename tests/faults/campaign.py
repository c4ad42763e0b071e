"""Seeded faults against whole runs of a study, and what must hold afterwards.

seed -> Case: conditions, faults and their moments -> `mops-helm study run`, disturbed, until the last fault
     -> the same command once more, undisturbed -> every task has its own result, `study verify` names the
        strange files and nothing else (checks.py); no run ended by an error of its own, no process is left

    python tests/faults/campaign.py --runs 200 [--seed 7]      a case alone: --runs 1 --seed SEED

Each case has a store and processes of its own, and ends no others. Moments are random but not exact: a seed
brings back the faults and where they strike, not every interleaving.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

import store_servers
from faults.acts import AT_REST, ON_RUNS, ON_STORES, Fault, fill_disk, kill_runner, kill_scheduler
from faults.checks import Wrong, check_content, check_reasons, check_runs, check_store, content, expected
from faults.disturbed import (
    OTHER,
    OWN,
    PHASES,
    RUN_SECONDS,
    TROUBLES,
    Conditions,
    Disturbed,
    Moment,
    can_mount,
)
from helpers import wait_for

EXECUTORS = ("direct", "isolated_warm", "isolated_fork")
BOUNDED = ("", "kills", "raises")  # troubles that `direct` survives: nothing bounds its tasks
SERVERS = ("", "", "", "moto", "moto", "versitygw")  # "": a folder
DAY_SECONDS = 86_400


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
        chosen = rng.choices(faults, k=rng.choice([1, 2, 2, 3, 4]))
        conditions = Conditions(
            executor,
            workers=rng.choice([1, 2]),
            trouble=rng.choice(["", *troubles]),
            outside=kill_scheduler in chosen or rng.random() < 0.15,
            clock_seconds=rng.choice([0, 0, 0, rng.uniform(-30, 30) * DAY_SECONDS]),
            disk=fill_disk in chosen and can_mount(),
            server="" if fill_disk in chosen else _server(rng),
        )
        return cls(seed, conditions, tuple((fault, _moment(rng)) for fault in chosen))


def _server(rng: random.Random) -> str:
    """moto's is there wherever the tests run."""
    server = rng.choice(SERVERS)
    return "moto" if server == "versitygw" and not store_servers.find_program(server) else server


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
        found += [holds.server or "a folder"]
        found += ["scheduler outside"] * holds.outside + ["wrong clock"] * bool(holds.clock_seconds)
        return found + ["retried"] * self.retried

    def __str__(self) -> str:
        said = f"seed {self.case.seed:<6} {self.seconds:5.1f} s  ends {self.ends}  {', '.join(self.facts)}"
        if late := len(self.case.faults) - len(self.done):
            said += f" ({late} came too late)"
        return f"{said}\n{self.wrong}" if self.wrong else said


@dataclass
class Campaign:
    """Cases in folders below `keep`, run one after another; the folder of one that ended well is removed. The
    `with` ends the object stores.
    """

    keep: Path
    counts: Counter[str] = field(default_factory=Counter)
    _addresses: dict[str, str] = field(default_factory=dict)
    _servers: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Campaign":
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    @contextmanager
    def _store(self, server: str) -> Iterator[str]:
        """The URL of an empty store behind a server, which variables of this process lead to; "" for none."""
        if not server:
            yield ""
            return
        if server not in self._addresses:
            folder = self.keep / f"server-{server}"
            folder.mkdir()
            self._addresses[server] = self._servers.enter_context(store_servers.SERVERS[server](folder))
        with (
            pytest.MonkeyPatch.context() as patch,
            store_servers.reached(self._addresses[server], patch) as url,
        ):
            yield url

    def tell(self, case: Case) -> Told:
        """Run a case."""
        begun = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=f"seed-{case.seed}-", dir=self.keep))
        done: list[str] = []
        retried, wrong = False, ""
        with (
            self._store(case.conditions.server) as url,
            Disturbed(folder, case.conditions, url) as study,
        ):
            try:
                for number, (fault, moment) in enumerate(case.faults):
                    if _strike(study, fault, moment, random.Random(f"{case.seed}:{number}")):
                        done.append(fault.__name__)
                _settle(study)
                retried = _go_on_and_check(study)
            except Exception as error:  # a store that cannot be read, for instance; others go on
                wrong = f"{type(error).__name__}: {error}\nkept in {folder}"
            else:
                study.remove_store()
        ends = tuple(run.process.poll() for run in study.all_runs)
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
                return fault in AT_REST and fault(study, rng)
            study.start()
        if study.wait_until(moment):
            return fault(study, rng)
    return False


def _settle(study: Disturbed) -> None:
    """Wait for the end of what is disturbed, and of what it left: nothing else may write afterwards."""
    for run in study.all_runs:
        study.wait_for_end(run)
    wait_for(lambda: not study.strays(), f"end of what {study.folder} left behind", RUN_SECONDS)


def _go_on_and_check(study: Disturbed) -> bool:
    """Run the study, and what else was asked of its store, without faults; whether tasks that faults had
    taken for poisoned needed a retry. Raises Wrong unless all is as if nothing had been done.
    """
    retried = False
    for spec in (OWN, OTHER):
        if (study.folder / spec).exists():
            retried |= _go_on(study, spec)
            check_content(study, spec)
            check_reasons(study)
    check_runs(study)
    check_store(study)
    wait_for(lambda: not study.strays(), "end of all processes", RUN_SECONDS)
    return retried


def _go_on(study: Disturbed, spec: str) -> bool:
    """Run a study file without faults; whether a retry was needed. Tasks that fail or kill are part of it."""
    wanted = [task.status for task in expected(study, spec)]
    status = 0 if set(wanted) == {"ok"} else 3
    run = study.start(spec=spec)
    retry = study.wait_for_end(run) == 3 and any(
        task.status != "ok" and own == "ok" for task, own in zip(content(study), wanted, strict=True)
    )
    if retry:
        run = study.start("--retry", "failed,poisoned", spec=spec)
    if (ending := study.wait_for_end(run)) != status:
        raise Wrong(f"ended with {ending}, not {status}\n{run.log.read_text()[-3000:]}")
    return retry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of the first case; +1 for each next"
    )
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the processes of a study
    wrong = []
    with Campaign(Path(tempfile.mkdtemp(prefix="faults-"))) as campaign:
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
