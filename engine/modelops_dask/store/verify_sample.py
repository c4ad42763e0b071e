"""The part of verify.py that runs tasks again, and compares their outputs with the stored ones.

    ok rows -> a sample -> each task alone in a new process -> equal to the row? alone again?
                        -> all of them, shuffled, in one process -> equal to alone?
    checks/*.json       -> differences that a run found itself, of rows that still count

Three causes are distinguished. SEED: two runs alone differ. ORDER: a task alone always returns the same, and
other tasks that ran before it in its process change that. Not comparable: packages, native threads or the
kind of processor differ from those of the row, or its limit on time or memory is lower; that is never
reported as an error.

No tasks run here: the caller passes a Rerunner.
"""

import json
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from modelops_dask.store.verify_parts import StoredAttempts, outputs_digest
from modelops_dask.store.verify_tasks import Report, StoreReader, Tasks, show_names

TIMEOUT, OUT_OF_MEMORY = "TaskTimeout", "TaskOOM"  # reasons of rows
REUSING = ("isolated_warm", "direct")  # executors whose processes run many tasks
Task = tuple[int, int]  # set, replicate


@dataclass(frozen=True)
class Sampled:
    """An ok task to run again, with the conditions in its row."""

    set: int
    replicate: int
    params: dict[str, object]
    seed: int
    executor: str
    threads: int
    environment: str
    reseeded: bool = False  # whether the model's own generators were seeded before it
    runner_task: int = 0  # its number in its process's life, from 1; 0: not known
    seconds: float = 0.0  # duration
    limit_bytes: int = 0  # its memory limit; 0: no limit, or not known

    @property
    def name(self) -> str:
        return f"{self.set}/{self.replicate}"


class Rerun(NamedTuple):
    """How a task ended when it ran again. `problem` is "" if it ended ok, `reason` is as in a row, `hint` is
    the likely cause of a problem. limit_bytes is its memory limit, 0 for no limit.
    """

    outputs: Mapping[str, bytes]
    environment: str = ""
    threads: int = 0
    problem: str = ""
    reason: str = ""
    limit_bytes: int = 0
    hint: str = ""


class Rerunner(Protocol):
    """Runs tasks again. `processor` is the kind of its processor."""

    processor: str

    def alone(self, task: Sampled) -> Rerun:
        """Run a task in a new process that runs no other."""
        ...

    def together(self, tasks: Sequence[Sampled]) -> list[Rerun]:
        """Run tasks one after another in one process."""
        ...


def check_sample(
    reader: StoreReader,
    tasks: Tasks,
    ledger: StoredAttempts,
    report: Report,
    *,
    n_tasks: int,
    rerunner: Rerunner,
) -> None:
    """Run some ok tasks again and compare bytes. The same store gives the same sample."""
    sample = _Sample(
        reader=reader,
        tasks=tasks,
        ledger=ledger,
        report=report,
        rerunner=rerunner,
        processors=_read_processors(reader),
    )
    chosen = choose(reader, tasks, ledger, report.bundle, n_tasks)
    report.rerun = len(chosen)
    stable = [sampled for sampled in map(sample.read, chosen) if sample.check_alone(sampled)]
    sample.check_together(stable)


def choose(
    reader: StoreReader, tasks: Tasks, ledger: StoredAttempts, bundle: str, n_tasks: int
) -> list[Task]:
    """Choose ok tasks: up to half of them the last of processes that ran several, the others at random.

    State left in a process by an earlier task is most likely to affect the last one.
    """
    ok_tasks = [task for task in tasks.all() if ledger.place[task][0] >= 0]
    late = [task for task in _last_tasks(reader, ledger) if task in set(ok_tasks)][: (n_tasks + 1) // 2]
    others = [task for task in ok_tasks if task not in set(late)]
    n_others = min(n_tasks - len(late), len(others))
    return sorted([*late, *random.Random(bundle).sample(others, n_others)])


def _last_tasks(reader: StoreReader, ledger: StoredAttempts) -> list[Task]:
    """The last task of each process that ran several, by rows that count; that of the longest life first."""
    last: dict[str, tuple[int, Task]] = {}
    columns = ["set", "replicate", "runner", "runner_task"]
    for file_number, name in enumerate(ledger.files):
        file = reader.parquet(f"parts/{name}")
        if not set(columns) <= set(file.schema_arrow.names):
            continue
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=columns, use_threads=False).to_pylist()
            for row_number, row in enumerate(rows):
                number, replicate, runner, runner_task = (row[column] for column in columns)
                if not runner or (runner_task or 0) < 2 or not _is_inside(ledger, number, replicate):
                    continue
                place = tuple(ledger.place[number, replicate].tolist())
                if place == (file_number, group, row_number) and runner_task > last.get(runner, (0,))[0]:
                    last[runner] = runner_task, (number, replicate)
    return [task for _, task in sorted(last.values(), key=lambda item: (-item[0], item[1]))]


def _is_inside(ledger: StoredAttempts, number: int, replicate: int) -> bool:
    n_sets, n_replicates = ledger.attempts.shape
    return bool(number < n_sets and replicate < n_replicates)


@dataclass
class _Sample:
    reader: StoreReader
    tasks: Tasks
    ledger: StoredAttempts
    report: Report
    rerunner: Rerunner
    processors: Collection[str]  # kinds on which the study ran, as far as they are recorded

    def read(self, task: Task) -> "_Stored":
        row = _read_row(self.reader, self.ledger, task)
        number, replicate = task
        sampled = Sampled(
            set=number,
            replicate=replicate,
            params=json.loads(self.tasks.params[number]),
            seed=row["seed"],
            executor=row.get("executor") or "",
            threads=row.get("threads") or 0,
            environment=row.get("environment") or "",
            reseeded=row.get("reseeded") is True,
            runner_task=row.get("runner_task") or 0,
            seconds=row.get("seconds") or 0.0,
            limit_bytes=row.get("limit_bytes") or 0,
        )
        return _Stored(sampled, dict(row["outputs"]), dict(row.get("left_out") or []))

    def check_alone(self, stored: "_Stored") -> bool:
        """Compare a row with its task run alone, and report; return whether it returns the same each time
        alone.
        """
        sampled = stored.sampled
        stored.alone = self.rerunner.alone(sampled)
        different = self.differing_from_stored(stored)
        if not different and not stored.alone.problem:
            return True
        if why := self.find_difference_of_conditions(stored):
            self.report.not_comparable.append((sampled.name, why))
            return not stored.alone.problem and not self.differing(self.rerunner.alone(sampled), stored.alone)
        if stored.alone.problem:
            self.report.add("RERUN", sampled.name, f"was ok but now ends differently: {stored.alone.problem}")
            return False
        names = show_names(different)
        second = self.rerunner.alone(sampled)
        if second.problem or self.differing(second, stored.alone):
            self.report.add(
                "SEED",
                sampled.name,
                f"is not a function of its seed: run alone twice, it returns different bytes as {names}. "
                "If they "
                f"may vary, list them in the study file: volatile: {json.dumps(different)}",
            )
            return False
        if sampled.runner_task > 1:
            self.report_order(
                stored,
                different,
                f"was changed by tasks before it: run alone, it always returns the same {names}, but the "
                f"stored result, from task {sampled.runner_task:,} of its process, differs",
            )
        else:
            self.report.add(
                "RERUN",
                sampled.name,
                f"returns different bytes as {names} when it is run again: see Verifying in docs/checks.md",
            )
        return True

    def check_together(self, stable: Sequence["_Stored"]) -> None:
        """Check tasks that always return the same alone, in one process, shuffled; report differences."""
        if len(stable) < 2:
            return
        shuffled = list(stable)
        random.Random(self.report.bundle).shuffle(shuffled)
        results = self.rerunner.together([stored.sampled for stored in shuffled])
        isolated: list[str] = []
        for stored, result in zip(shuffled, results, strict=True):
            different = self.differing(result, stored.alone)
            if stored.is_reported or not (different or result.problem):
                continue
            if _find_lower_limit(stored.sampled, result):
                continue
            what = f"returns different bytes as {show_names(different)}" if different else result.problem
            if stored.sampled.executor in REUSING:
                self.report_order(
                    stored,
                    different,
                    "depends on tasks before it: run alone, it returns the stored result, but in one "
                    "process, after "
                    f"other tasks of the sample, it {what}",
                )
            else:
                isolated.append(stored.sampled.name)
        if isolated:
            self.report.notes.append(
                f"{len(isolated):,} of {len(stable):,} tasks depend on tasks before them when they run in "
                f"one process, such as {isolated[0]}. In this study each ran in a separate process, so "
                "their stored "
                "results are correct; keep that isolation."
            )

    def report_order(self, stored: "_Stored", different: Sequence[str], message: str) -> None:
        """Report a task that others change, and find out whether isolation would make replicates equal."""
        if not self.report.changed:
            self.report.equal_alone = self.has_equal_replicate(stored, different)
        self.report.changed[stored.sampled.executor] += 1
        stored.is_reported = True
        self.report.add("ORDER", stored.sampled.name, message)

    def has_equal_replicate(self, stored: "_Stored", names: Sequence[str]) -> bool:
        """Whether another replicate of the set, run alone, returns the same."""
        sampled = stored.sampled
        for step in range(1, self.tasks.replicates):
            replicate = (sampled.replicate + step) % self.tasks.replicates
            if self.tasks.exists(sampled.set, replicate):
                seed = self.tasks.seed(sampled.set, replicate)
                other = self.rerunner.alone(replace(sampled, replicate=replicate, seed=seed))
                return bool(names) and not set(names) & set(self.differing(other, stored.alone))
        return False

    def differing_from_stored(self, stored: "_Stored") -> list[str]:
        """Names of outputs that differ from those of the row, or from the digests of those it left out."""
        alone = stored.alone.outputs
        names = set(self.differing(stored.alone, Rerun(stored.outputs))) - stored.left_out.keys()
        for name in stored.left_out.keys() - self.tasks.volatile:
            if name not in alone or outputs_digest({name: alone[name]}) != stored.left_out[name]:
                names.add(name)
        return sorted(names)

    def differing(self, first: Rerun, second: Rerun) -> list[str]:
        """Names of outputs that differ, without volatile ones."""
        names = (first.outputs.keys() | second.outputs.keys()) - self.tasks.volatile
        return sorted(name for name in names if first.outputs.get(name) != second.outputs.get(name))

    def find_difference_of_conditions(self, stored: "_Stored") -> str:
        """Find a reason other than the model for a row and its task run alone to differ; "" if none is
        known.
        """
        sampled, alone, here = stored.sampled, stored.alone, self.rerunner.processor
        if alone.environment and alone.environment != sampled.environment:
            before, hint = sampled.environment[:12] or "unknown", f". {alone.hint}" if alone.hint else ""
            return f"environment {alone.environment[:12]} instead of {before}{hint}"
        if alone.threads != sampled.threads and alone.environment:
            threads = [str(number or "any number of") for number in (alone.threads, sampled.threads)]
            return f"{threads[0]} native threads instead of {threads[1]}"
        if lower_limit := _find_lower_limit(sampled, alone):
            return lower_limit
        if self.processors and set(self.processors) != {here}:
            return f"processor {here}, and the study ran on {', '.join(sorted(self.processors))}"
        return ""


@dataclass
class _Stored:
    """A sampled task, its stored outputs, and how it ended alone."""

    sampled: Sampled
    outputs: Mapping[str, bytes]
    left_out: Mapping[str, bytes]  # digests of its other outputs, by name
    alone: Rerun = field(default_factory=lambda: Rerun({}))
    is_reported: bool = False


def _find_lower_limit(sampled: Sampled, rerun: Rerun) -> str:
    """Why a task that ended at a limit cannot be compared with its row; "" if it can."""
    if rerun.reason == TIMEOUT:
        return (
            f"it did not end within its time limit here, and took {sampled.seconds:,.3g} s when it was stored"
        )
    if rerun.reason == OUT_OF_MEMORY and not 0 < sampled.limit_bytes <= rerun.limit_bytes:
        before = f"{sampled.limit_bytes >> 20:,} MiB" if sampled.limit_bytes else "any amount"
        return f"it may hold {rerun.limit_bytes >> 20:,} MiB here, and might hold {before} when it was stored"
    return ""


def _read_row(reader: StoreReader, ledger: StoredAttempts, task: Task) -> dict[str, Any]:
    """The row of a task that counts, all columns."""
    file, group, row_number = ledger.place[task].tolist()
    table = reader.parquet(f"parts/{ledger.files[file]}").read_row_group(group, use_threads=False)
    row: dict[str, Any] = table.slice(row_number, 1).to_pylist()[0]
    return row


def check_self_checks(reader: StoreReader, tasks: Tasks, ledger: StoredAttempts, report: Report) -> None:
    """Report the differences in checks/ whose row still counts: it has that digest and generation."""
    for comparison in _read_comparisons(reader):
        task = comparison["set"], comparison["replicate"]
        if comparison["outcome"] != "different" or not _is_inside(ledger, *task):
            continue
        if not tasks.is_requested(*task) or ledger.place[task][0] < 0:
            continue
        row = _read_row(reader, ledger, task)
        if (row["digest"].hex(), row.get("generation") or 0) == (
            comparison["digest"],
            comparison.get("generation", 0),
        ):
            what = show_names(comparison["outputs"]) or comparison["reason"]
            message = f"differed in the run's self-check ({what}): see mops-helm study status"
            report.add("CHECK", f"{task[0]}/{task[1]}", message)


def _read_checks(reader: StoreReader) -> list[dict[str, Any]]:
    """The files of checks/ that are JSON objects."""
    checks = []
    for name in reader.names("checks"):
        with suppress(ValueError, FileNotFoundError):
            checks.append(json.loads(reader.read(f"checks/{name}")))
    return [check for check in checks if isinstance(check, dict)]


def _read_comparisons(reader: StoreReader) -> list[dict[str, Any]]:
    lists = [check.get("comparisons") for check in _read_checks(reader)]
    return [
        comparison for comparisons in lists if isinstance(comparisons, list) for comparison in comparisons
    ]


def _read_processors(reader: StoreReader) -> set[str]:
    lists = [check.get("processors") for check in _read_checks(reader)]
    return {processor for processors in lists if isinstance(processors, list) for processor in processors}
